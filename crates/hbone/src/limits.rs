//! Every bound of this crate, by name. Values that the wire shares with Istio's ztunnel are marked so.

use std::time::Duration;

use tulle_identity::channel::{MAX_PLAINTEXT, OVERHEAD};

/// Receive window of a stream. Smaller than ztunnel's 4 MiB: a stream whose application does not read may hold this
/// much of our memory, and connection credit is returned at receipt, so it is the only bound. With less, one fast flow
/// would stop for each confirmation (at half a window), which costs as much CPU as it costs time.
pub(crate) const STREAM_WINDOW: u32 = 2 << 20;
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
/// Tunnels in a pool from which on those without streams are let go.
pub(crate) const POOL_TUNNELS: usize = 2048;
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
/// Settings in one SETTINGS frame.
pub(crate) const MAX_SETTINGS: usize = 64;
/// Bytes of a GOAWAY frame; its debug data is ignored.
pub(crate) const MAX_GOAWAY: usize = 16 << 10;
/// What a HEADERS frame may have beside its block: padding and priority.
pub(crate) const HEADERS_EXTRA: usize = 1 + 255 + 5;
/// CONTINUATION frames of one header block.
pub(crate) const MAX_CONTINUATIONS: usize = 32;
/// What a worker reads from a tunnel's socket at once, and moves at once in a plain relay: all that a peer of our kind writes
/// at once. A rest of a few bytes would need a system call of its own, and so would the record that it completes.
pub(crate) const SCRATCH: usize = (BULK_RECORDS + 1) * (MAX_PLAINTEXT + OVERHEAD);
/// Write buffers that a worker keeps.
pub(crate) const SPARE_BUFFERS: usize = 4;
/// Larger write buffers are not kept.
pub(crate) const LARGEST_SPARE: usize = 768 << 10;
/// TLS records (of 16 KiB) that are filled from an application's socket by one read. Half a MiB at once takes a tenth less CPU
/// time per byte than a quarter, and that a tenth less than an eighth (`make bench`).
pub(crate) const BULK_RECORDS: usize = 32;
/// Sealed bytes that wait for the tunnel's socket from which on applications are no longer read.
pub(crate) const UNSENT_HIGH: usize = 64 << 10;
/// Sealed bytes that wait for the tunnel's socket, control frames included, beyond which the peer is flooding us.
pub(crate) const UNSENT_MAX: usize = 2 << 20;
/// Bytes of our CONNECT request's header block: it fits one frame, which fits one record.
pub(crate) const MAX_REQUEST: usize = 15 << 10;
/// Window before SETTINGS say otherwise (RFC 9113 §6.9.2).
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;
/// From this stream id on, a tunnel is replaced by a new one.
pub(crate) const LAST_STREAM: u32 = 0x7fff_0000;
/// Wasteful acts (empty frames, resets before the answer, pings, settings, malformed requests) that a peer may do at once ...
pub(crate) const FLOOD_BUDGET: u32 = 1000;
/// ... and how many it gets back per answered connection.
pub(crate) const FLOOD_EARNED: u32 = 2;
/// ... or, all of them, once they are gone and this time has passed.
pub(crate) const FLOOD_PERIOD: Duration = Duration::from_secs(10);
/// Reads from a tunnel's socket before other tasks of the worker get their turn.
pub(crate) const READS_PER_TURN: usize = 2;
/// Reads from an application's socket before other tasks of the worker get their turn.
pub(crate) const APP_READS_PER_TURN: usize = 4;
/// Slices of received DATA that are written to an application by one system call.
pub(crate) const SLICES_PER_WRITE: usize = 32;
/// Goodbye to a peer that broke the protocol: how long its bytes are still read, so that our GOAWAY is not lost to a reset.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// Bytes that the owner of a stream on another worker may have written and the tunnel's worker has not fetched yet. As much
/// again may have been fetched and wait for the peer's window.
pub(crate) const REMOTE_UNSENT: usize = 64 << 10;
/// Larger buffers between two workers are not kept for the next burst.
pub(crate) const LARGEST_HANDOVER: usize = 64 << 10;
/// How long a peer has to end its half of a stream whose owner ended the other half and left.
pub(crate) const HALF_CLOSED: Duration = Duration::from_secs(1);
