//! Shares of requests.

use crate::balance::Dice;
use crate::resource::{Backend, Fraction, Mirror};

/// Which backend gets this request, by weight; `None` when all weights are 0 or there is no backend: answer with 500.
/// `dice` may be any number.
pub fn split(backends: &[Backend], dice: u64) -> Option<usize> {
    let total: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let mut left = dice.checked_rem(total)?;
    backends.iter().position(|backend| {
        let weight = u64::from(backend.weight);
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    })
}

/// Where copies of this request go; each mirror is drawn on its own.
pub fn mirrors(mirrors: &[Mirror], dice: u64) -> impl Iterator<Item = &Mirror> {
    let mut dice = Dice::new(dice);
    mirrors
        .iter()
        .filter(move |mirror| mirror.fraction.hits(dice.roll()))
}

impl Fraction {
    /// Every request.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// Whether a request with these dice belongs to the share.
    pub fn hits(self, dice: u64) -> bool {
        dice.checked_rem(u64::from(self.denominator))
            .is_some_and(|rest| rest < u64::from(self.numerator))
    }
}
