//! Accepting, and ending to accept without losing who waits.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tulle_linux::socket;

use super::{Active, Worker};
use crate::inbound;
use crate::limits::{ACCEPT_PAUSE, BACKLOG};

/// What arrives on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arriving {
    /// Tunnels.
    Hbone,
    /// Connections to a gateway.
    Listener,
}

/// The accept loop of one port on one worker.
pub(super) struct Loop {
    pub(super) arriving: Arriving,
    end: Rc<Notify>,
}

impl Loop {
    /// Starts it.
    pub(super) fn start(worker: &Rc<Worker>, port: u16, arriving: Arriving) -> io::Result<Self> {
        let listener = listen(port)?;
        let end = Rc::new(Notify::new());
        let (worker, told) = (worker.clone(), end.clone());
        tokio::task::spawn_local(async move {
            let _accepting = Active::count(&worker.accepting, &worker.quiet);
            accept(&worker, &listener, arriving, &told).await;
            if let Err(error) = empty(&worker, listener, arriving) {
                tracing::debug!(%error, port, "closing a listener");
            }
        });
        Ok(Self { arriving, end })
    }

    /// Ends accepting.
    pub(super) fn end(&self) {
        self.end.notify_one();
    }
}

/// Every worker has a socket of its own; the kernel spreads connections over them.
fn listen(port: u16) -> io::Result<TcpListener> {
    let one = |address: SocketAddr| {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    one(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
        .or_else(|_| one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)))
}

async fn accept(worker: &Rc<Worker>, listener: &TcpListener, arriving: Arriving, end: &Notify) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.notified() => return,
        };
        match accepted {
            Ok((stream, peer)) => serve(worker, stream, peer, arriving),
            // Of the one connection, not of the listener.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves everybody who waits in the queue, then stops listening. What arrives in between is moved by the kernel to another
/// listener of the port, if there is one (`net.ipv4.tcp_migrate_req`).
fn empty(worker: &Rc<Worker>, listener: TcpListener, arriving: Arriving) -> io::Result<()> {
    let listener = listener.into_std()?;
    while let Ok((stream, peer)) = listener.accept() {
        stream.set_nonblocking(true)?;
        serve(worker, TcpStream::from_std(stream)?, peer, arriving);
    }
    Ok(())
}

fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, arriving: Arriving) {
    if worker.full() || worker.tunnels.full() {
        tracing::warn!(%peer, "refused: this worker has all the connections that it takes");
        // A socket that is gone already needs no RST.
        let _ = socket::reset_on_close(&stream);
        return;
    }
    // Small messages both ways; a socket that refuses an option still works.
    let _ = stream.set_nodelay(true);
    let _ = socket::set_keepalive(&stream);
    let active = worker.active();
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        match arriving {
            Arriving::Hbone => inbound::serve(worker, stream, peer).await,
            Arriving::Listener => crate::listener::serve(worker, stream, peer).await,
        }
        drop(active);
    });
}
