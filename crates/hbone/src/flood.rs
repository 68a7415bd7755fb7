//! What a peer may waste. HTTP/2 offers many ways to make the other side work for nothing; they all draw on one budget.

use crate::frame::Violation;
use crate::limits::{FLOOD_BUDGET, FLOOD_EARNED};

/// Wasteful acts that are left.
#[derive(Debug)]
pub(crate) struct Budget(u32);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(FLOOD_BUDGET)
    }

    /// The peer did something that costs us work and brings nobody forward.
    pub(crate) fn spend(&mut self, what: &'static str) -> Result<(), Violation> {
        self.0 = self.0.checked_sub(1).ok_or(Violation::flood(what))?;
        Ok(())
    }

    /// A connection was answered with 200: useful work.
    pub(crate) fn earn(&mut self) {
        self.0 = (self.0 + FLOOD_EARNED).min(FLOOD_BUDGET);
    }

    /// Time has passed (one ping interval).
    pub(crate) fn refill(&mut self) {
        self.0 = FLOOD_BUDGET;
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
        budget.spend("x").unwrap();
        budget.spend("x").unwrap();
        assert!(budget.spend("x").is_err());
    }
}
