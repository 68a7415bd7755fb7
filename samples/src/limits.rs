//! The bounds of the samples.

use std::time::Duration;

/// Largest request or answer body that is kept in memory, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// How long one service waits for another before it says "unavailable".
pub(crate) const UPSTREAM_DEADLINE: Duration = Duration::from_secs(3);
/// How long a client may take to send its request head.
pub(crate) const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// How long connections may go on after SIGTERM.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Longest delay that `/delay/N` gives, as go-httpbin's default.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10);
/// Most bytes that `/bytes/N` gives.
pub(crate) const MAX_BYTES: usize = 100 * 1024;
/// Connections served at the same time; more wait in the listen queue.
pub(crate) const MAX_CONNECTIONS: usize = 4096;
/// Products whose posted ratings are remembered.
pub(crate) const MAX_RATED_PRODUCTS: usize = 1024;
/// After an accept error such as "too many open files".
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Requests with different keys that the echo counts, for failures on demand.
pub(crate) const MAX_COUNTED: usize = 1024;
/// Largest WebSocket message, in bytes.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;
/// How long a client may take to say which version of HTTP it speaks.
pub(crate) const PREFACE_PAUSE: Duration = Duration::from_millis(2);
