//! What a tunnel promises its peer, and how long it waits for each stage.

use std::time::Duration;

use crate::limits;

/// Windows, limits and deadlines of tunnels; [`Settings::default`] is what Istio's ztunnel uses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes a peer may have under way per stream before we confirm delivery (`HTTP2_STREAM_WINDOW_SIZE`).
    pub stream_window: u32,
    /// Bytes a peer may have under way per tunnel (`HTTP2_CONNECTION_WINDOW_SIZE`).
    pub connection_window: u32,
    /// Largest frame we accept and send (`HTTP2_FRAME_SIZE`).
    pub max_frame: u32,
    /// Decoded size of a header list we accept as a client.
    pub client_header_list: u32,
    /// Decoded size of a header list we accept as a server.
    pub server_header_list: u32,
    /// Streams a peer may have open on a tunnel that we serve.
    pub max_streams: u32,
    /// Streams the pool puts on one tunnel (`POOL_MAX_STREAMS_PER_CONNECTION`).
    pub pool_max_streams: u32,
    /// How long the pool keeps a tunnel without streams (`POOL_UNUSED_RELEASE_TIMEOUT`). After this time of silence, the peer of
    /// a tunnel without streams is asked whether it is still there.
    pub pool_idle: Duration,
    /// Silence on a tunnel with streams after which we send a PING.
    pub ping_interval: Duration,
    /// How long the answer to a PING may take before the tunnel counts as dead.
    pub ping_timeout: Duration,
    /// Deadline of the TLS handshake, both roles.
    pub tls_deadline: Duration,
    /// Deadline of the peer's HTTP/2 preface and SETTINGS, counted from the end of the handshake.
    pub preface_deadline: Duration,
    /// Deadline of the answer to CONNECT. The server side answers once the application is connected (it allows itself 10 s).
    pub answer_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: limits::STREAM_WINDOW,
            connection_window: limits::CONNECTION_WINDOW,
            max_frame: limits::MAX_FRAME,
            client_header_list: limits::CLIENT_HEADER_LIST,
            server_header_list: limits::SERVER_HEADER_LIST,
            max_streams: limits::SERVER_MAX_STREAMS,
            pool_max_streams: limits::POOL_MAX_STREAMS,
            pool_idle: limits::POOL_IDLE,
            ping_interval: limits::PING_INTERVAL,
            ping_timeout: limits::PING_TIMEOUT,
            tls_deadline: limits::TLS_DEADLINE,
            preface_deadline: limits::PREFACE_DEADLINE,
            answer_deadline: limits::ANSWER_DEADLINE,
        }
    }
}
