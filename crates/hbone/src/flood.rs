//! What a peer may waste. HTTP/2 offers many ways to make the other side work for nothing; they all draw on one budget.

use std::time::Instant;

use crate::frame::Violation;
use crate::limits::{FLOOD_BUDGET, FLOOD_EARNED, FLOOD_PERIOD};

/// Wasteful acts that are left.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            left: FLOOD_BUDGET,
            since: Instant::now(),
        }
    }

    /// The peer did something that costs us work and brings nobody forward.
    pub(crate) fn spend(&mut self, what: &'static str) -> Result<(), Violation> {
        if self.left == 0 && self.since.elapsed() >= FLOOD_PERIOD {
            *self = Self::new();
        }
        self.left = self.left.checked_sub(1).ok_or(Violation::flood(what))?;
        Ok(())
    }

    /// A connection was answered with 200: useful work.
    pub(crate) fn earn(&mut self) {
        self.left = (self.left + FLOOD_EARNED).min(FLOOD_BUDGET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_and_is_earned_back() {
        let mut budget = Budget::new();
        for _ in 0..FLOOD_BUDGET {
            budget.spend("x").unwrap();
        }
        assert!(budget.spend("x").is_err());
        budget.earn();
        for _ in 0..FLOOD_EARNED {
            budget.spend("x").unwrap();
        }
        assert!(budget.spend("x").is_err());
        budget.since -= FLOOD_PERIOD;
        budget.spend("x").unwrap();
    }
}
