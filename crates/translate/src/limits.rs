//! Bounds of this crate.

/// How much of a user's value a message repeats, in characters.
pub(crate) const SHOWN: usize = 64;
/// Problems that one condition lists; more are counted.
pub(crate) const PROBLEMS_SHOWN: usize = 5;
