//! Bounds of this crate.

/// Nesting that the scan for unknown fields follows; the messages that it knows nest less deeply.
pub(crate) const SCAN_DEPTH: usize = 16;
/// How much of a bad value an error repeats, in characters.
pub(crate) const SHOWN: usize = 128;
