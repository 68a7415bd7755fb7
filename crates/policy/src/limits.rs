//! Bounds of this crate.

/// Names of policies in one reason text; more are counted.
pub(crate) const NAMES_IN_REASON: usize = 8;
