//! More numbers from one.

/// A stream of numbers that are as random as the one that it was made of (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From any number.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of `0..end`; 0 when there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of a product: without the bias and the cost of a remainder.
        let product = u128::from(self.roll()) * u128::from(end);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// Between 0 and 1.
    pub fn share(&mut self) -> f64 {
        // 53 bits fit.
        let bits = (self.roll() >> 11) as f64;
        bits / (1u64 << 53) as f64
    }
}

/// Spreads every bit over all of them.
pub(super) fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}
