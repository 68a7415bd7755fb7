//! Listening, HTTP/1.1, and an orderly end.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::app::{App, Reply, Request, reply};
use crate::limits::{ACCEPT_PAUSE, DRAIN_DEADLINE, HEAD_DEADLINE, MAX_BODY, MAX_CONNECTIONS};

/// Listens on `port` of both address families, or on IPv4 where there is no IPv6.
pub async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    if let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        return Ok(listener);
    }
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("cannot listen on port {port}; is another program using it?"))
}

/// A sample behind a listener.
pub struct Server {
    app: App,
    listener: TcpListener,
}

impl Server {
    /// Serves `app` on `listener`.
    pub fn new(app: App, listener: TcpListener) -> Self {
        Server { app, listener }
    }

    /// Serves until `stop` ends; then lets requests under way finish for a few seconds.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stopping, stopped) = watch::channel(false);
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            let Some((stream, peer, slot)) = accepted else {
                continue;
            };
            let (app, stopped) = (self.app.clone(), stopped.clone());
            tokio::spawn(async move {
                serve_connection(app, stream, peer, stopped).await;
                drop(slot);
            });
        }
        drop(self.listener);
        stopping.send_replace(true);
        // All slots are back when the last connection has ended.
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let ended = slots.acquire_many(all);
        if tokio::time::timeout(DRAIN_DEADLINE, ended).await.is_err() {
            eprintln!("sample: connections still open after {DRAIN_DEADLINE:?}; ending anyway");
        }
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, Slot)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            eprintln!("sample: cannot accept a connection: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn serve_connection(
    app: App,
    stream: TcpStream,
    peer: SocketAddr,
    mut stopped: watch::Receiver<bool>,
) {
    // Without it, small answers wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(answer(&app, request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A client that went away or spoke rubbish: hyper has answered it where it could.
        _ = &mut connection => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(app: &App, request: hyper::Request<Incoming>, peer: SocketAddr) -> Reply {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let text =
                format!("cannot read the request's body (at most {MAX_BODY} bytes): {error}\n");
            return reply(
                StatusCode::PAYLOAD_TOO_LARGE,
                "text/plain; charset=utf-8",
                text,
            );
        }
    };
    app.answer(Request {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
        peer,
    })
    .await
}
