//! Bounds of this crate.

use std::time::Duration;

/// Names of policies in one reason text; more are counted.
pub(crate) const NAMES_IN_REASON: usize = 8;
/// Tokens of one request that are looked at: each costs a verification.
pub(crate) const TOKENS_PER_REQUEST: usize = 8;
/// Decoded payload of a token, in bytes; headers are bounded at about as much.
pub(crate) const LONGEST_PAYLOAD: usize = 64 << 10;
/// How far the clocks of an issuer and of a proxy may differ (Envoy's default).
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// An expression of a Telemetry, in bytes.
pub(crate) const LONGEST_EXPRESSION: usize = 8 << 10;
/// A compiled regular expression of an expression, in bytes.
pub(crate) const PATTERN_SIZE: usize = 1 << 20;
/// Brackets in brackets: parsing is recursive.
pub(crate) const DEEPEST_EXPRESSION: usize = 32;
