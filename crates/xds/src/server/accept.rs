//! Accepting connections: bounded in number, handshakes side by side so that a slow one holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tulle_identity::grpc::{ServerStream, ServerTls};
use tulle_model::Identity;

use super::Counters;
use crate::limits::{ACCEPT_PAUSE, MAX_CONNECTIONS, MAX_HANDSHAKES};

/// Who is at the other end, as far as the connection tells.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: Option<SocketAddr>,
    pub(super) identity: Option<Identity>,
}

/// One connection.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<ServerStream>),
}

/// The connections of a listener, ready for HTTP/2. Ends when `stopped` says so.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<ServerTls>,
    counters: Arc<Counters>,
    stopped: watch::Receiver<bool>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(accept(listener, tls, counters, stopped, ready));
    ReceiverStream::new(connections)
}

async fn accept(
    listener: TcpListener,
    tls: Option<ServerTls>,
    counters: Arc<Counters>,
    mut stopped: watch::Receiver<bool>,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            let turn = handshakes.clone().acquire_owned().await.ok()?;
            Some((place, turn, listener.accept().await))
        };
        let (place, turn, accepted) = tokio::select! {
            Some(next) = next => next,
            // The sender lives as long as the server.
            _ = stopped.wait_for(|stop| *stop) => return,
            () = ready.closed() => return,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, ready, counters) = (tls.clone(), ready.clone(), counters.clone());
        tokio::spawn(async move {
            if let Some(connection) = secure(tcp, address, tls, place, &counters).await {
                // Gone when the server stops.
                let _ = ready.send(Ok(connection)).await;
            }
            drop(turn);
        });
    }
}

async fn secure(
    tcp: TcpStream,
    address: SocketAddr,
    tls: Option<ServerTls>,
    place: OwnedSemaphorePermit,
    counters: &Counters,
) -> Option<Connection> {
    // Small answers must not wait; a socket that refuses the option still works.
    let _ = tcp.set_nodelay(true);
    let (io, identity) = match tls {
        None => (Io::Plain(tcp), None),
        Some(tls) => match tls.accept(tcp).await {
            Ok((stream, identity)) => (Io::Tls(Box::new(stream)), identity),
            Err(error) => {
                counters.failed_handshake();
                tracing::debug!(from = %address, %error, "connection not secured");
                return None;
            }
        },
    };
    Some(Connection {
        io,
        peer: Peer {
            address: Some(address),
            identity,
        },
        _place: place,
    })
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Io::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
