//! Every bound of this crate, by name. Those that Envoy has by default are marked so.

use std::time::Duration;

/// Request line and headers together, in bytes (as Envoy).
pub const MAX_HEAD: usize = 60 << 10;
/// Headers of a message (as Envoy).
pub const MAX_HEADERS: usize = 100;
/// The request's target, in bytes.
pub const MAX_TARGET: usize = 32 << 10;
/// Trailers of a request, in bytes.
pub(crate) const MAX_TRAILERS: usize = 8 << 10;
/// One chunk's extensions, in bytes; they are never used.
pub(crate) const MAX_CHUNK_EXTENSION: usize = 256;
/// From the first byte of a request to the end of its head.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// A connection without a request (as Envoy).
pub const IDLE: Duration = Duration::from_secs(3600);
/// A request's body that does not go on, and a client that does not take what it asked for.
pub const STALL: Duration = Duration::from_secs(300);
/// Concurrent streams of an HTTP/2 connection that we serve.
pub const SERVER_STREAMS: u32 = 256;
/// Receive window of an HTTP/2 stream.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// Receive window of an HTTP/2 connection: what one connection may make us hold.
pub const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes that an HTTP/2 stream may have waiting to be sent.
pub(crate) const STREAM_UNSENT: usize = 64 << 10;
/// Read and write buffer of an HTTP/1 connection. Above the largest head, or it would not fit.
pub(crate) const HTTP1_BUFFER: usize = 64 << 10;
/// What is read at once while a head or chunks are looked at.
pub(crate) const LOOK: usize = 16 << 10;
/// Bytes a client may send ahead of the answer to its request to upgrade.
pub(crate) const EARLY_BYTES: usize = 16 << 10;
/// Goodbye to a client that still sends: how long and how much is read, so that our last words are not lost to a reset.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// See [`LINGER`].
pub(crate) const LINGER_BYTES: usize = 1 << 20;
/// What a client still sends with a request that was answered without it: so much is read, for as long as [`LINGER`].
pub(crate) const LEFTOVER_BYTES: usize = 64 << 10;
/// How long an answer that did not want the rest of its request waits for the client to have sent it.
pub(crate) const HELD_ANSWER: Duration = Duration::from_millis(50);
/// Wasteful HTTP/2 frames (PING, SETTINGS, RST_STREAM, PRIORITY, empty DATA) that a client may send at once ...
pub(crate) const FLOOD_BUDGET: u32 = 1000;
/// ... how many it gets back per answered request ...
pub(crate) const FLOOD_EARNED: u32 = 4;
/// ... and after what time all of them, once they are gone.
pub(crate) const FLOOD_PERIOD: Duration = Duration::from_secs(10);
/// CONTINUATION frames of one header block.
pub(crate) const MAX_CONTINUATIONS: u32 = 32;
/// Bytes in a local channel body before its sender waits.
pub const CHANNEL_BYTES: usize = 64 << 10;
/// Bytes of a request body that are kept for another attempt (Envoy's buffer limit).
pub const REPLAY_BYTES: usize = 64 << 10;
/// Bytes by which a mirror may lag behind.
pub const MIRROR_BYTES: usize = 64 << 10;
/// Answer to `connect` when a destination says nothing else (as Istio).
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Streams on one upstream HTTP/2 connection before another one is made.
pub const UPSTREAM_STREAMS: usize = 100;
/// Unused upstream connections are closed after this time (as Envoy).
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(3600);
/// Idle HTTP/1 connections that are kept per key.
pub const IDLE_PER_KEY: usize = 256;
/// Idle connections that are kept per pool.
pub const IDLE_PER_POOL: usize = 8192;
/// Pooled connections that may turn out dead before a request gets one of its own.
pub(crate) const STALE_TRIES: usize = 3;
/// How often idle connections are looked after.
pub(crate) const TEND_EVERY: Duration = Duration::from_secs(1);
/// Requests that are reset by us and remembered, per upstream connection.
pub(crate) const RESET_STREAMS: usize = 128;
/// Bytes that are moved at once between the two ends of an upgraded connection.
pub(crate) const SPLICE_BYTES: usize = 16 << 10;
/// Text of a gRPC message in a trailer, in bytes.
pub(crate) const GRPC_MESSAGE: usize = 1024;
