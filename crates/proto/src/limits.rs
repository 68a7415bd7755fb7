//! Bounds of this crate.

/// Nesting that the scan for unknown fields follows; the messages that it knows nest less deeply.
pub(crate) const SCAN_DEPTH: usize = 16;
/// How much of a bad value an error repeats, in characters.
pub(crate) const SHOWN: usize = 128;
/// Bytes of one JSON resource. The API server's own bound for an object is 1.5 MiB.
pub(crate) const MAX_JSON: usize = 8 * 1024 * 1024;
