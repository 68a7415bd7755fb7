//! The bounds of this crate.

use std::time::Duration;

/// Seconds that an in-mesh answer may be kept (Istio's value).
pub const TTL: u32 = 30;
/// Addresses in one answer; a headless service with more endpoints shows a random part of them.
pub const ANSWERS: usize = 1000;
/// Suffixes of one name that are looked for as wildcards, the longest first.
pub const WILDCARDS: usize = 16;
/// A query or an answer over UDP.
pub const UDP_MESSAGE: usize = 4096;
/// What a client takes over UDP if it says nothing (RFC 1035).
pub const UDP_PLAIN: usize = 512;
/// A message over TCP (its length has two bytes).
pub const TCP_MESSAGE: usize = 65_535;
/// Queries of one pod that are being answered; more are refused.
pub const QUERIES_AT_ONCE: usize = 512;
/// TCP connections of one pod; more are closed.
pub const TCP_CONNECTIONS: usize = 64;
/// How long a server that was asked to end waits for the answers that are still to come.
pub const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Pause after a socket failed for want of memory or descriptors.
pub const SOCKET_PAUSE: Duration = Duration::from_millis(20);
/// How long a TCP connection may be without a query.
pub const TCP_IDLE: Duration = Duration::from_secs(10);
/// How long the rest of a message may take once its first byte is there, and how long a client may take to read an answer.
pub const TCP_MESSAGE_DEADLINE: Duration = Duration::from_secs(5);
/// Resolvers of a `resolv.conf` that are used (as the C library does).
pub const RESOLVERS: usize = 3;
/// How long a resolver may take.
pub const RESOLVER_DEADLINE: Duration = Duration::from_secs(2);
/// How often all resolvers are asked before a query fails.
pub const ROUNDS: usize = 2;
/// Datagrams that are not the answer and are passed over, per question.
pub const STRAY_DATAGRAMS: usize = 16;
/// Names that a worker has looked up and remembers.
pub const REMEMBERED_NAMES: usize = 4096;
/// Addresses that are remembered of one name.
pub const ADDRESSES_PER_NAME: usize = 64;
/// Lookups of a worker under way; more fail at once.
pub const LOOKUPS_AT_ONCE: usize = 256;
/// An address is used for at least this long, whatever its record says: connections come by the thousand.
pub const REMEMBERED_LEAST: Duration = Duration::from_secs(1);
/// And for at most this long.
pub const REMEMBERED_MOST: Duration = Duration::from_secs(300);
/// How long it is remembered that a name could not be looked up.
pub const FAILURE_REMEMBERED: Duration = Duration::from_secs(2);
/// How long addresses that are out of date are still used while the resolvers do not answer.
pub const STALE: Duration = Duration::from_secs(600);
