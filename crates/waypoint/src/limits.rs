//! The bounds of this crate.

use std::time::Duration;

/// Inner connections of one worker; beyond that new ones are refused.
pub const CONNECTIONS_PER_WORKER: usize = 20_000;
/// Inbound tunnels of one worker; beyond that the newest are refused.
pub const TUNNELS_PER_WORKER: usize = 10_000;
/// Inner connections that wait for a worker to take them.
pub const HANDOVERS: usize = 1024;
/// Another worker is chosen when it has at least this many connections less.
pub const HANDOVER_ADVANTAGE: usize = 2;
/// Pause after accept failed for want of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections that wait to be accepted.
pub const BACKLOG: u32 = 4096;
/// How long a TCP connection may take to come about, when no policy says so (Envoy's value in Istio).
pub const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may be silent before a connection of unknown protocol is taken for one where the server speaks first.
pub const SNIFF_DEADLINE: Duration = Duration::from_millis(300);
/// Bytes that tell the protocol apart; a TLS ClientHello may take them all.
pub const SNIFF_BYTES: usize = 16 * 1024;
/// How long a client's TLS handshake may take.
pub const TLS_DEADLINE: Duration = Duration::from_secs(15);
/// How often the bytes of live TCP connections are added to the metrics.
pub const BYTES_INTERVAL: Duration = Duration::from_secs(5);
/// How long new connections are still taken after the process was asked to end: until everybody knows. kube-proxy may take more
/// than a second; never more than half of the time to drain.
pub const FAREWELL: Duration = Duration::from_secs(3);
/// What is left for connections to close after the drain's deadline.
pub const LAST_TURN: Duration = Duration::from_millis(500);
/// How long a connection that speaks of one client (PROXY protocol) is kept for its next request.
pub const PROXIED_IDLE: Duration = Duration::from_secs(30);
/// Addresses of one name that are tried.
pub const NAME_ADDRESSES: usize = 8;
/// How long one address of a name is tried before another one is, too.
pub const HEAD_START: Duration = Duration::from_millis(250);
/// Endpoints of a TCP connection that are tried before it fails.
pub const ENDPOINT_ATTEMPTS: usize = 3;
/// Text of an authority that a peer sent and that is logged.
pub const PEER_AUTHORITY: usize = 280;
/// Text of a header that a peer sent on CONNECT and that is looked at.
pub const PEER_HEADER: usize = 4096;
/// A message up to this size is sent together with others.
pub const SMALL_MESSAGE: usize = 4096;
/// So many messages are sent together at most: the first of them waits for the last.
pub const MESSAGES_TOGETHER: usize = 16;
/// Buffer of one direction of a TCP connection.
pub const RELAY_BUFFER: usize = 16 * 1024;
/// The default number of workers at most, unless more are asked for.
pub const DEFAULT_WORKERS: usize = 2;
/// Nothing moves on a TCP or upgraded connection for so long (Envoy's value in Istio).
pub const STREAM_IDLE: Duration = Duration::from_secs(3600);
/// Destinations that are kept ready.
pub const DESTINATIONS: usize = 20_000;
/// Balancing states of one worker.
pub const CURSORS: usize = 20_000;
/// Listeners whose TLS is kept ready.
pub const LISTENERS: usize = 1024;
/// Copies of requests of one worker that are under way at once.
pub const MIRRORS_PER_WORKER: usize = 1024;
/// How long a copy of a request may take.
pub const MIRROR_DEADLINE: Duration = Duration::from_secs(15);
/// Key sets of issuers.
pub const KEYRINGS: usize = 1024;
/// After this time, fetched keys are fetched again, if the operator does not say (Istio's value).
pub const KEYS_FRESH: Duration = Duration::from_secs(20 * 60);
/// When known keys could not be fetched again, they are after this time (Istio's value).
pub const KEYS_REPAIR: Duration = Duration::from_secs(60);
/// After this time, keys are fetched again when a token names one that is not among them.
pub const KEYS_NEWER: Duration = Duration::from_secs(10);
/// Addresses of an issuer's host that are looked at.
pub const ISSUER_ADDRESSES: usize = 8;
/// After this time, keys that could not be fetched are asked for again.
pub const KEYS_AGAIN: Duration = Duration::from_secs(2);
/// Spans, and lines of the access log, of one worker that wait for one collector; more are dropped and counted.
pub const SPANS_WAITING: usize = 8192;
/// Spans or lines in one message.
pub const SPANS_AT_ONCE: usize = 512;
/// How long they gather before they are sent.
pub const SPANS_INTERVAL: Duration = Duration::from_secs(1);
/// Body of an authorization service's answer.
pub const CHECK_ANSWER: usize = 64 << 10;
/// How often a replica tells the others what it let through under shared rate limits.
pub const SHARE_INTERVAL: Duration = Duration::from_millis(50);
/// Other replicas that are told.
pub const REPLICAS: usize = 64;
/// Messages that wait for a replica; more are dropped and counted.
pub const REPLICA_QUEUE: usize = 128;
/// Keys in one message to a replica.
pub const REPLICA_REPORTS: usize = 1024;
/// Bytes of one message of a replica.
pub const REPLICA_MESSAGE_BYTES: usize = 256 << 10;
/// Pause after a replica could not be reached; it doubles from one time to the next ...
pub const REPLICA_PAUSE: Duration = Duration::from_millis(250);
/// ... up to this.
pub const REPLICA_PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// How long a replica may take to read a message.
pub const REPLICA_WRITE_DEADLINE: Duration = Duration::from_secs(5);
