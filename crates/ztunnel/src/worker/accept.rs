//! Accepting, and ending to accept without losing who waits.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::{Active, Worker};
use crate::dial::reset;
use crate::dns::{self, DnsSockets};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_PER_WORKER};
use crate::pod::Pod;
use crate::pods::Sockets;
use crate::signal::Once;
use crate::{inbound, inbound_plain, outbound};

/// What arrives on a listener.
#[derive(Clone, Copy, Debug)]
enum Arriving {
    Outbound,
    Plain,
    Hbone,
}

/// The accept loops of one pod on one worker.
pub(super) struct Loops {
    captured: [Rc<Once<()>>; 2],
    hbone: Rc<Once<()>>,
    /// Empty on all workers of a pod but one.
    dns: Vec<Rc<Once<()>>>,
}

impl Loops {
    /// Starts them.
    pub(super) fn start(
        worker: &Rc<Worker>,
        pod: &Arc<Pod>,
        sockets: Sockets,
        dns: Option<DnsSockets>,
    ) -> io::Result<Self> {
        let dns = dns.map(|sockets| dns::serve(worker, pod, sockets));
        let start = |listener, arriving| start(worker, pod, listener, arriving);
        Ok(Self {
            captured: [
                start(sockets.outbound, Arriving::Outbound)?,
                start(sockets.plain, Arriving::Plain)?,
            ],
            hbone: start(sockets.hbone, Arriving::Hbone)?,
            dns: dns.transpose()?.unwrap_or_default(),
        })
    }

    /// Ends accepting what the redirect captured.
    pub(super) fn close_captured(&self) {
        self.captured.iter().for_each(|end| end.tell(()));
    }

    /// Ends accepting what may still come after the redirect is gone: tunnels of peers that do not know yet, and DNS queries from
    /// ports that conntrack remembers as redirected.
    pub(super) fn close_rest(&self) {
        self.dns
            .iter()
            .chain([&self.hbone])
            .for_each(|end| end.tell(()));
    }
}

fn start(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    listener: std::net::TcpListener,
    arriving: Arriving,
) -> io::Result<Rc<Once<()>>> {
    let listener = TcpListener::from_std(listener)?;
    let end = Rc::new(Once::default());
    let (worker, pod) = (worker.clone(), pod.clone());
    let told = end.clone();
    tokio::task::spawn_local(async move {
        let _accepting = Active::count(&worker.accepting, &worker.quiet);
        accept(&worker, &pod, &listener, arriving, &told).await;
        if let Err(error) = empty(&worker, &pod, listener, arriving) {
            tracing::debug!(%error, ?arriving, pod = %pod.name(), "closing a listener");
        }
    });
    Ok(end)
}

async fn accept(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    listener: &TcpListener,
    arriving: Arriving,
    end: &Once<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.told() => return,
        };
        match accepted {
            Ok((stream, peer)) => serve(worker, pod, stream, peer, arriving),
            // Of the one connection, not of the listener.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, ?arriving, pod = %pod.name(), "cannot accept; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves everybody who waits in the queue, then stops listening. What arrives in between is moved by the kernel to another
/// listener of the port, if there is one (`net.ipv4.tcp_migrate_req`). Shutting down, and not only closing, ends listening
/// although the keeper holds a copy of the socket.
fn empty(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    listener: TcpListener,
    arriving: Arriving,
) -> io::Result<()> {
    let listener = listener.into_std()?;
    while let Ok((stream, peer)) = listener.accept() {
        stream.set_nonblocking(true)?;
        serve(worker, pod, TcpStream::from_std(stream)?, peer, arriving);
    }
    std::net::TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both)
}

fn serve(
    worker: &Rc<Worker>,
    pod: &Arc<Pod>,
    stream: TcpStream,
    peer: SocketAddr,
    arriving: Arriving,
) {
    if worker.active.get() >= CONNECTIONS_PER_WORKER || worker.tunnels.full() {
        tracing::warn!(%peer, pod = %pod.name(), "refused: this worker has all the connections that it takes");
        return reset(stream);
    }
    let active = Active::count(&worker.active, &worker.quiet);
    let (worker, pod) = (worker.clone(), pod.clone());
    tokio::task::spawn_local(async move {
        match arriving {
            Arriving::Outbound => outbound::serve(worker, pod, stream, peer).await,
            Arriving::Plain => inbound_plain::serve(worker, pod, stream, peer).await,
            Arriving::Hbone => inbound::serve(worker, pod, stream, peer).await,
        }
        drop(active);
    });
}
