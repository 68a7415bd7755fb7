//! Bounds of the command line.

use std::time::Duration;

/// Largest answer that is read from an admin page, in bytes: a dump of 100,000 pods has about 150 MB.
pub(crate) const MAX_ADMIN_ANSWER: u64 = 512 * 1024 * 1024;
/// How long an admin page may take.
pub(crate) const ADMIN_DEADLINE: Duration = Duration::from_secs(30);
/// Node proxies that are asked at the same time.
pub(crate) const PARALLEL_PROXIES: usize = 8;
/// Between two pictures of a progress line on a terminal.
pub(crate) const LINE_LENGTH: usize = 160;
