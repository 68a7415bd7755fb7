//! The bounds of this crate.

use std::time::Duration;

/// Lines that wait for the log writer. What comes on top is dropped and counted.
pub const LOG_QUEUE: usize = 8192;
/// How long the log writer gathers lines before it writes them, so that a busy worker does not wake it for each.
pub const LOG_GATHER: Duration = Duration::from_millis(5);
/// How long [`crate::flush_logs`] waits for a stuck standard output.
pub const LOG_FLUSH: Duration = Duration::from_millis(500);
/// Connection series of one shard; more share one series whose labels are all `unknown`.
pub const SERIES_PER_SHARD: usize = 10_000;
/// A connection series without connections is forgotten after this time.
pub const SERIES_IDLE: Duration = Duration::from_secs(30 * 60);
/// How often a shard looks for idle series.
pub const SERIES_SWEEP: Duration = Duration::from_secs(60);
/// Label lookups that a shard remembers between two sweeps.
pub const REMEMBERED_LOOKUPS: usize = 4096;
/// Series of one family in the registry; more share one series labelled `overflow`.
pub const SERIES_PER_FAMILY: usize = 2000;
/// Operators in one access-log format of a user.
pub const LOG_FORMAT_PIECES: usize = 256;
