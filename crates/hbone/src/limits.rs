//! Every bound of this crate, by name. Values that the wire shares with Istio's ztunnel are marked so.

use std::time::Duration;

/// Receive window of a stream. Smaller than ztunnel's 4 MiB: a stream whose application does not read may hold this
/// much of our memory, and connection credit is returned at receipt, so it is the only bound. 1 MiB fills 8 Gb/s at 1 ms.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
/// Receive window of a tunnel (as ztunnel).
pub(crate) const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest frame we accept (as ztunnel).
pub(crate) const MAX_FRAME: u32 = 1 << 20;
/// Decoded header list a client accepts (as ztunnel).
pub(crate) const CLIENT_HEADER_LIST: u32 = 16 << 10;
/// Decoded header list a server accepts (as ztunnel).
pub(crate) const SERVER_HEADER_LIST: u32 = 64 << 10;
/// Concurrent streams a server allows (as ztunnel).
pub(crate) const SERVER_MAX_STREAMS: u32 = 200;
/// Streams the pool puts on one tunnel (as ztunnel).
pub(crate) const POOL_MAX_STREAMS: u32 = 100;
/// Life of an unused tunnel in the pool (as ztunnel).
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(300);
/// Silence before a PING (as ztunnel).
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Wait for the answer to a PING (as ztunnel).
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// TLS handshake, both roles.
pub(crate) const TLS_DEADLINE: Duration = Duration::from_secs(5);
/// The peer's first SETTINGS.
pub(crate) const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
/// Answer to CONNECT: more than the 10 s that a server allows its application.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
