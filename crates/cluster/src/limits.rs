//! Bounds of this crate, each named once.

use std::time::Duration;

/// Objects per page of a list: keeps the memory peak of a first list low.
pub(crate) const LIST_PAGE: u32 = 250;
/// A watch is asked for anew after this many seconds. A connection that died without a word is
/// noticed 5 s after that; resuming costs one request.
pub(crate) const WATCH_SECONDS: u32 = 60;
/// Wait before a failed watch is tried again: first, and at most.
pub(crate) const WATCH_RETRY_FIRST: Duration = Duration::from_millis(50);
/// See [`WATCH_RETRY_FIRST`].
pub(crate) const WATCH_RETRY_LONGEST: Duration = Duration::from_secs(5);
/// How often a kind that is not installed yet is asked for.
pub(crate) const ABSENT_KIND_RETRY: Duration = Duration::from_secs(2);
/// Failures in a row after which a watch starts over from a list (its resource version may be one
/// that the server does not know any more, for example after a restore of etcd).
pub(crate) const WATCH_FAILURES_BEFORE_RELIST: u32 = 5;
/// While a watch keeps failing, one warning is logged per this time.
pub(crate) const WATCH_WARN_EVERY: Duration = Duration::from_secs(30);
/// How long a kind that was just installed may take until its objects can be listed.
pub(crate) const KIND_SETTLES: Duration = Duration::from_millis(250);
/// Connecting to the API server and waiting for its first answer.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// One ordinary request (not a watch).
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two looks of a wait that polls.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(200);
/// Kinds that one [`crate::Objects`] remembers.
pub(crate) const KNOWN_KINDS: usize = 1024;
/// Longest token handed to a review; real ones have about 1 KiB.
pub(crate) const LONGEST_TOKEN: usize = 16 * 1024;
/// A lease not renewed for this long may be taken by somebody else.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews and the others look.
pub(crate) const LEASE_RENEW: Duration = Duration::from_secs(4);
/// How long an orderly end waits for the lease to be given up.
pub(crate) const RESIGN_DEADLINE: Duration = Duration::from_secs(2);
