//! Listening, HTTP/1.1 and HTTP/2, TLS where it is asked for, and an orderly end.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tulle_identity::gateway::ServerTls;

use crate::app::{App, Arrival, Request, reply};
use crate::echo::Dropped;
use crate::grpc::{self, Body};
use crate::limits::{
    ACCEPT_PAUSE, DRAIN_DEADLINE, HEAD_DEADLINE, MAX_BODY, MAX_CONNECTIONS, PREFACE_PAUSE,
};
use crate::websocket;

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
    tls: Option<ServerTls>,
}

impl Server {
    /// Serves `app` on `listener`.
    pub fn new(app: App, listener: TcpListener) -> Self {
        Server {
            app,
            listener,
            tls: None,
        }
    }

    /// The same in TLS.
    pub fn secured(app: App, listener: TcpListener, tls: ServerTls) -> Self {
        Server {
            app,
            listener,
            tls: Some(tls),
        }
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
            let tls = self.tls.clone();
            tokio::spawn(async move {
                serve_connection(app, stream, peer, tls, stopped).await;
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
    tls: Option<ServerTls>,
    stopped: watch::Receiver<bool>,
) {
    // Without it, small answers wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let http2 = speaks_http2(&stream).await;
        let from = Arrival { peer, tls: None };
        return serve(app, stream, from, http2, stopped).await;
    };
    match tls.accept(stream).await {
        Ok((stream, shown)) => {
            let http2 = shown.alpn.as_deref() == Some(b"h2");
            let tls = Some(shown);
            serve(app, stream, Arrival { peer, tls }, http2, stopped).await;
        }
        Err(error) => eprintln!("sample: TLS with {peer}: {error}"),
    }
}

/// HTTP/2 begins with `PRI`; the bytes stay where they are.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut first = [0; 3];
    let look = async {
        loop {
            match stream.peek(&mut first).await {
                Ok(read) if read == first.len() => return first == *b"PRI",
                Ok(read) if read > 0 && b"PRI".starts_with(&first[..read]) => {
                    tokio::time::sleep(PREFACE_PAUSE).await;
                }
                // What is neither is for HTTP/1 to refuse.
                _ => return false,
            }
        }
    };
    tokio::time::timeout(HEAD_DEADLINE, look).await == Ok(true)
}

async fn serve<I>(app: App, io: I, from: Arrival, http2: bool, mut stopped: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let from = Arc::new(from);
    let service = service_fn(move |request| {
        let (app, from) = (app.clone(), from.clone());
        async move {
            let response = answer(&app, request, from).await;
            match response.extensions().get::<Dropped>() {
                Some(dropped) => Err(*dropped),
                None => Ok(response),
            }
        }
    });
    let io = TokioIo::new(io);
    // A client that went away or spoke rubbish: hyper has answered it where it could.
    if http2 {
        let builder = http2::Builder::new(TokioExecutor::new());
        let connection = std::pin::pin!(builder.serve_connection(io, service));
        let _ = until_stopped(connection, |c| c.graceful_shutdown(), &mut stopped).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE);
        let connection = builder.serve_connection(io, service).with_upgrades();
        let connection = std::pin::pin!(connection);
        let _ = until_stopped(connection, |c| c.graceful_shutdown(), &mut stopped).await;
    }
}

async fn until_stopped<C: Future>(
    mut connection: Pin<&mut C>,
    shut_down: impl FnOnce(Pin<&mut C>),
    stopped: &mut watch::Receiver<bool>,
) -> C::Output {
    tokio::select! {
        ended = &mut connection => return ended,
        _ = stopped.wait_for(|stopped| *stopped) => shut_down(connection.as_mut()),
    }
    connection.await
}

async fn answer(
    app: &App,
    mut request: hyper::Request<Incoming>,
    from: Arc<Arrival>,
) -> http::Response<Body> {
    if app.echo().is_some()
        && let Some(switched) = websocket::accept(&mut request)
    {
        return switched;
    }
    let (mut head, body) = request.into_parts();
    // HTTP/2 says it elsewhere.
    if let Some(authority) = head.uri.authority()
        && !head.headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(header::HOST, host);
    }
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let text =
                format!("cannot read the request's body (at most {MAX_BODY} bytes): {error}\n");
            let kind = "text/plain; charset=utf-8";
            let refused = reply(StatusCode::PAYLOAD_TOO_LARGE, kind, text);
            return refused.map(BodyExt::boxed_unsync);
        }
    };
    let grpc = grpc::is_grpc(&head.headers);
    let reply = app
        .answer(Request {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body,
            version: head.version,
            from,
        })
        .await;
    if grpc {
        return grpc::reply(reply).await;
    }
    reply.map(BodyExt::boxed_unsync)
}
