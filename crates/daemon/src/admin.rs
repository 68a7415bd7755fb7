//! Admin, readiness and metrics pages over HTTP/1.1; webhooks over HTTP/1.1 and HTTP/2.

mod pages;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::limits::{
    ACCEPT_PAUSE, ADMIN_BODY, ADMIN_BODY_DEADLINE, ADMIN_CONNECTIONS, ADMIN_HEAD_DEADLINE,
    WEBHOOK_BODY, WEBHOOK_HEADERS, WEBHOOK_IDLE, WEBHOOK_PING, WEBHOOK_STREAMS,
};
pub use pages::{Page, Pages, Visit};

/// Listens on `port` of every address, IPv6 and IPv4; IPv4 alone where the kernel has no IPv6.
pub fn listen_everywhere(port: u16) -> io::Result<TcpListener> {
    listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
        .or_else(|_| listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)))
}

/// Listens on `port` of 127.0.0.1 only: pages that tell or change what no neighbour may know or change.
pub fn listen_locally(port: u16) -> io::Result<TcpListener> {
    listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

/// Listens on `address`, on a tokio runtime. The port may be shared with a process that is about to end.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()?
    } else {
        tokio::net::TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Serves `pages` on `listener` for as long as it is polled.
pub async fn serve(listener: TcpListener, pages: Pages) {
    let pages = Arc::new(pages);
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    loop {
        // Never closed, so never an error.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = pages.clone();
                tokio::spawn(async move {
                    serve_connection(stream, pages).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request| answer(request, pages.clone(), ADMIN_BODY));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

/// Serves `pages` on one connection that was secured before, as HTTP/2 or HTTP/1.1: for webhooks, whose requests hold whole
/// objects. Ends when the caller closes it, or keeps still too long.
pub async fn serve_secured<Io>(io: Io, http2: bool, pages: Pages)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pages = Arc::new(pages);
    let service = service_fn(move |request| answer(request, pages.clone(), WEBHOOK_BODY));
    let io = TokioIo::new(io);
    let served = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(WEBHOOK_PING))
            .max_concurrent_streams(WEBHOOK_STREAMS)
            .max_header_list_size(WEBHOOK_HEADERS)
            .serve_connection(io, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(WEBHOOK_IDLE)
            .serve_connection(io, service)
            .await
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a webhook connection ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    pages: Arc<Pages>,
    most: usize,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let page = match read(request, most).await {
        Ok(visit) => pages.answer(visit).await,
        Err(refusal) => refusal,
    };
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(Full::new(page.body));
    *response.status_mut() = status;
    if let Ok(value) = header::HeaderValue::from_str(&page.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    Ok(response)
}

async fn read(request: Request<Incoming>, most: usize) -> Result<Visit, Page> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(ADMIN_BODY_DEADLINE, Limited::new(body, most).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(Page::text(413, "the request body is too large or broken\n")),
        Err(_) => return Err(Page::text(408, "the request body did not arrive in time\n")),
    };
    let headers = head.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    Ok(Visit {
        method: head.method.as_str().to_owned(),
        path: cleaned(head.uri.path()),
        query: pages::parse_query(head.uri.query().unwrap_or("")),
        headers: headers.collect(),
        body,
    })
}

/// Slashes that stand beside each other count as one: tools of others ask for `//version`, and Go's servers understand that.
fn cleaned(path: &str) -> String {
    let mut cleaned = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        cleaned.push('/');
        cleaned.push_str(part);
    }
    if cleaned.is_empty() || path.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

#[cfg(test)]
mod tests;
