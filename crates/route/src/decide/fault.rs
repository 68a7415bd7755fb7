//! Trouble on purpose.

use std::time::Duration;

use crate::resource::{Abort, Fault};

/// What is done to one request: first the delay, then the abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultDecision {
    /// Wait so long.
    pub delay: Option<Duration>,
    /// Then answer this instead of going on.
    pub abort: Option<Abort>,
}

impl Fault {
    /// Delay and abort are drawn independently.
    pub fn decide(&self, delay_dice: u64, abort_dice: u64) -> FaultDecision {
        FaultDecision {
            delay: self
                .delay
                .filter(|delay| delay.fraction.hits(delay_dice))
                .map(|delay| delay.fixed),
            abort: self.abort.filter(|abort| abort.fraction.hits(abort_dice)),
        }
    }
}
