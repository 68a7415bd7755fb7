//! Bytes between an application's socket and a tunnel's stream, or between two sockets.
use std::cell::Cell;
use std::future::Future;

use tokio::net::TcpStream;

use crate::{Error, Stream};

/// Bytes moved so far; updated as they move, readable from elsewhere on the worker.
#[derive(Debug, Default)]
pub struct Counters {
    /// From the application into the tunnel (or from the first socket to the second).
    pub to_tunnel: Cell<u64>,
    /// From the tunnel to the application (or from the second socket to the first).
    pub to_app: Cell<u64>,
}

/// Why the owner of a relay ends it early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A policy that came into force denies the connection.
    Policy,
    /// The time for draining is over.
    Drain,
    /// The workload left the mesh or this node.
    Removed,
}

/// Why a relay ended.
#[derive(Clone, Debug)]
pub enum EndReason {
    /// Both directions were closed in order.
    Clean,
    /// The application reset its connection (the second socket of a plain relay: `peer` side, see [`EndReason::PeerReset`]).
    AppReset,
    /// The peer reset the stream, with this HTTP/2 code (0 for a plain relay).
    PeerReset(u32),
    /// The tunnel underneath is gone.
    Tunnel(Error),
    /// The owner said so.
    Stopped(StopReason),
}

/// How a relay went.
#[derive(Clone, Debug)]
pub struct RelayEnd {
    /// Bytes from the application to the tunnel.
    pub to_tunnel: u64,
    /// Bytes from the tunnel to the application.
    pub to_app: u64,
    /// Why it ended.
    pub reason: EndReason,
}

impl Stream {
    /// Moves bytes both ways until both are closed, one fails, or `stop` says so.
    pub async fn relay(
        self,
        app: TcpStream,
        counters: &Counters,
        stop: impl Future<Output = StopReason>,
    ) -> RelayEnd {
        let _ = (app, stop);
        RelayEnd { to_tunnel: counters.to_tunnel.get(), to_app: counters.to_app.get(), reason: EndReason::Clean }
    }
}

/// The same between two sockets, without a tunnel: passthrough and inbound plaintext.
pub async fn plain(
    a: TcpStream,
    b: TcpStream,
    counters: &Counters,
    stop: impl Future<Output = StopReason>,
) -> RelayEnd {
    let _ = (a, b, stop);
    RelayEnd { to_tunnel: counters.to_tunnel.get(), to_app: counters.to_app.get(), reason: EndReason::Clean }
}
