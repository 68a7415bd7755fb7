//! Every bound of this crate, each named once.

use std::time::Duration;

/// First pause before a client connects again.
pub const RECONNECT_MIN: Duration = Duration::from_millis(10);
/// Longest pause before a client connects again.
pub const RECONNECT_MAX: Duration = Duration::from_secs(15);
/// A stream that lived this long was good: the next pause is short again.
pub const STABLE_AFTER: Duration = Duration::from_secs(5);
/// How long name resolution and a TCP connection may take, per address.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 8;
/// How long a server may take to accept a stream.
pub const STREAM_DEADLINE: Duration = Duration::from_secs(10);
/// HTTP/2 PING interval of clients and servers.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a PING may stay unanswered.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of a tool that asks who is connected, acknowledgements included.
pub const SYNCZ_REQUESTS: u32 = 32;
/// The largest discovery answer that a client reads. Upstream's control plane sends everything in one.
pub const MAX_ANSWER: usize = 200 * 1024 * 1024;
/// Requests that wait to be sent on a client's stream.
pub const REQUEST_QUEUE: usize = 16;
/// Rejections that a client lists in one error detail.
pub const MAX_REPORTED: usize = 16;
/// How long one certificate call may take: less than the store's own deadline, so that a dead connection is noticed and left.
pub const CALL_DEADLINE: Duration = Duration::from_secs(8);
/// The largest certificate answer that a client reads.
pub const MAX_CERTIFICATE_ANSWER: usize = 1024 * 1024;
/// A token or root file, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// The largest discovery request that the server reads, unless told otherwise. A reconnecting client lists all it has:
/// 100,000 resources take about 10 MiB.
pub const MAX_REQUEST: usize = 32 * 1024 * 1024;
/// The largest certificate request that the server reads.
pub const MAX_CERTIFICATE_REQUEST: usize = 64 * 1024;
/// Bytes of resources in one answer to a client that understands split answers (ours); the last resource may exceed it.
/// Both sides keep a buffer of about this size.
pub const SPLIT_ANSWER_BYTES: usize = 256 * 1024;
/// The same for other clients, which take the first answer for the whole: the largest that upstream's proxy reads is 200 MiB.
pub const WHOLE_ANSWER_BYTES: usize = 128 * 1024 * 1024;
/// Removed names in one answer.
pub const ANSWER_REMOVALS: usize = 20_000;
/// Answers of one type that may be unacknowledged before the server waits.
pub const MAX_UNACKNOWLEDGED: usize = 8;
/// Types that one stream may subscribe to.
pub const MAX_TYPES: usize = 16;
/// Names that one stream may subscribe to one by one.
pub const MAX_NAMES: usize = 50_000;
/// Removals that the server remembers per type. A stream that is further behind is closed, and comes back with its versions.
pub const MAX_REMOVALS: usize = 100_000;
/// How long a stream lives before the client must authenticate again; up to a tenth less, at random.
pub const STREAM_AGE: Duration = Duration::from_secs(30 * 60);
/// Connections that one server holds.
pub const MAX_CONNECTIONS: usize = 20_000;
/// TLS handshakes under way at once.
pub const MAX_HANDSHAKES: usize = 256;
/// Streams on one connection.
pub const MAX_STREAMS: u32 = 64;
/// Header list of a request.
pub const MAX_HEADERS: u32 = 32 * 1024;
/// A bearer token, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// How long a caller's authentication may take.
pub const AUTHENTICATE_DEADLINE: Duration = Duration::from_secs(10);
/// How long signing may take.
pub const SIGN_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after accept(2) failed, usually for lack of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
