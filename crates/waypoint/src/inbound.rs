//! Tunnels that clients open to this waypoint, and the connections inside of them.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tulle_hbone::{Remote, server};
use tulle_identity::gateway::ClientCertificate;
use tulle_linux::socket;
use tulle_model::Identity;

use crate::authority::{Refusal, Target, judge};
use crate::board::Seat;
use crate::connection;
use crate::replicas;
use crate::worker::Worker;

/// One connection of a tunnel, on its way to the worker that serves it.
pub(crate) struct Arrival {
    pub(crate) stream: Remote,
    pub(crate) seat: Seat,
    pub(crate) began: Instant,
    pub(crate) client: Client,
}

/// Who is at the other end of a connection, and how it came here.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Where it comes from.
    pub(crate) source: SocketAddr,
    /// What it addressed.
    pub(crate) local: SocketAddr,
    /// Who its certificate says it is.
    pub(crate) peer: Option<Identity>,
    /// The certificate that it showed to a gateway.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// The server name that it asked for in TLS.
    pub(crate) server_name: Option<Arc<str>>,
    /// The Gateway (`namespace/name`) that it came to.
    pub(crate) gateway: Arc<str>,
    /// How.
    pub(crate) via: Via,
}

/// How a connection came here.
#[derive(Clone, Debug)]
pub(crate) enum Via {
    /// In a tunnel, addressed to something behind this waypoint.
    Waypoint(Target),
    /// To a port of a gateway.
    Listener {
        /// Where the proxy listens.
        port: u16,
        /// TLS ended here.
        tls: bool,
    },
}

impl Client {
    /// The port that was addressed.
    pub(crate) fn port(&self) -> u16 {
        self.local.port()
    }
}

/// One tunnel, from accept to end.
pub(crate) async fn serve(worker: Rc<Worker>, tcp: TcpStream, source: SocketAddr) {
    let shared = &worker.shared;
    let source = socket::unmap(source);
    let epoch = match shared.certificates.get(&shared.options.identity).await {
        Ok(epoch) => epoch,
        Err(error) => {
            tracing::warn!(%source, %error, "a tunnel is refused");
            return drop(socket::reset_on_close(&tcp));
        }
    };
    let mut tunnel = match server::accept(tcp, &epoch.server, &shared.options.hbone).await {
        Ok(tunnel) => tunnel,
        Err(error) => {
            tracing::warn!(%source, %error, "a tunnel did not come about");
            return;
        }
    };
    let _listed = worker.tunnels.list(tunnel.handle());
    let peer = tunnel.peer().clone();
    while let Some(request) = tunnel.next().await {
        take(&worker, source, &peer, request);
    }
}

/// Judges one CONNECT, and hands its connection to a worker.
fn take(worker: &Rc<Worker>, source: SocketAddr, peer: &Identity, request: server::Request) {
    if request.authority == replicas::AUTHORITY {
        return replicas::receive(worker, source, peer, request);
    }
    let began = Instant::now();
    let shared = &worker.shared;
    let snapshot = shared.state.load();
    let judged = judge(
        &snapshot,
        &shared.network,
        &shared.options.identity.namespace,
        &request.authority,
        |port| shared.options.is_own_port(port),
    );
    let target = match judged {
        Ok(target) => target,
        Err(refusal) => return refuse(source, peer, request, &refusal),
    };
    let Some((gateway, ..)) = snapshot.waypoint() else {
        return refuse(source, peer, request, &Refusal::NoWaypoint);
    };
    if worker.full() {
        tracing::warn!(%source, %peer, "refused: this proxy has all the connections that it takes");
        return request.refuse(503);
    }
    let (to, seat) = shared.board.seat(worker.index);
    let arrival = Arrival {
        client: Client {
            source,
            local: target.address,
            peer: Some(peer.clone()),
            certificate: None,
            server_name: None,
            gateway: gateway.clone(),
            via: Via::Waypoint(target),
        },
        stream: request.accept(None).into_remote(),
        seat,
        began,
    };
    if to == worker.index {
        return connection::start(worker, arrival);
    }
    if let Err(mut back) = shared.board.send(to, arrival) {
        // That worker cannot take it now: then it stays here.
        back.seat = shared.board.sit(worker.index);
        connection::start(worker, *back);
    }
}

fn refuse(source: SocketAddr, peer: &Identity, request: server::Request, refusal: &Refusal) {
    tracing::warn!(%source, %peer, error = %refusal, "a connection is refused");
    request.refuse(refusal.status());
}
