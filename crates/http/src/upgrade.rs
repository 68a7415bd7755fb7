//! Connections that become something else: `Upgrade` in HTTP/1.1, extended CONNECT in HTTP/2 (RFC 8441), and how WebSocket
//! handshakes are said in both. Inside, an upgrade is always said as HTTP/1.1 says it: a GET and a 101.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use ::http::{HeaderMap, Method, Response, StatusCode, request, response};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;

use crate::body::{Body, Counter};
use crate::io::BoxIo;
use crate::limits;

mod base64;
#[cfg(test)]
mod tests;

/// What a client asks to speak instead of HTTP. Answered with 101, it can be had with [`Upgrade::stream`].
pub struct Upgrade {
    protocol: Box<str>,
    how: How,
}

enum How {
    Http1(oneshot::Receiver<BoxIo>),
    Http2(hyper::upgrade::OnUpgrade),
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Upgrade").field(&self.protocol).finish()
    }
}

/// An upgrade that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended before it was upgraded")]
pub struct NotUpgraded;

impl Upgrade {
    pub(crate) fn http1(protocol: &str) -> (Self, oneshot::Sender<BoxIo>) {
        let (sender, receiver) = oneshot::channel();
        let upgrade = Self {
            protocol: protocol.into(),
            how: How::Http1(receiver),
        };
        (upgrade, sender)
    }

    pub(crate) fn http2(protocol: &str, on: hyper::upgrade::OnUpgrade) -> Self {
        Self {
            protocol: protocol.into(),
            how: How::Http2(on),
        }
    }

    /// For example `websocket`, in lower case.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The bytes, once the 101 is on its way.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn stream(self) -> Result<Upgraded, NotUpgraded> {
        match self.how {
            How::Http1(receiver) => receiver.await.map(Upgraded).map_err(|_| NotUpgraded),
            How::Http2(on) => {
                let upgraded = on.await.map_err(|_| NotUpgraded)?;
                Ok(Upgraded(Box::new(TokioIo::new(upgraded))))
            }
        }
    }
}

/// The bytes of an upgraded connection.
pub struct Upgraded(pub(crate) BoxIo);

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Joins two upgraded connections until both directions have ended, or one fails, or nothing moves for `idle`.
/// `up` counts what comes from `client`, `down` what goes to it.
///
/// # Errors
/// When one side fails.
pub async fn splice(
    client: Upgraded,
    upstream: Upgraded,
    up: &Rc<Counter>,
    down: &Rc<Counter>,
    idle: Option<Duration>,
) -> io::Result<()> {
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let moved = std::cell::Cell::new(tokio::time::Instant::now());
    let both = async {
        tokio::try_join!(
            carry(client_read, upstream_write, up, &moved),
            carry(upstream_read, client_write, down, &moved)
        )
        .map(|_| ())
    };
    let Some(idle) = idle else { return both.await };
    let too_long = async {
        loop {
            let due = moved.get() + idle;
            if due <= tokio::time::Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    };
    tokio::select! {
        ended = both => ended,
        () = too_long => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    counter: &Counter,
    moved: &std::cell::Cell<tokio::time::Instant>,
) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut buffer = vec![0; limits::SPLICE_BYTES];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        moved.set(tokio::time::Instant::now());
        counter.add(n as u64);
        to.write_all(&buffer[..n]).await?;
        to.flush().await?;
    }
}

/// What a request asks to become, if it does in earnest: `Upgrade` counts only with `Connection: upgrade`, and HTTP/2 in clear is
/// begun without asking.
pub(crate) fn asked(headers: &HeaderMap) -> Option<String> {
    let connection = headers.get_all(CONNECTION).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|&byte| byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    let mut values = headers.get_all(UPGRADE).iter();
    let (Some(value), None, true) = (values.next(), values.next(), connection) else {
        return None;
    };
    let protocol = value.to_str().ok()?.trim().to_ascii_lowercase();
    let one_token = !protocol.is_empty() && !protocol.contains([',', ' ']);
    (one_token && protocol != "h2c").then_some(protocol)
}

/// An extended CONNECT becomes the GET that it stands for.
pub(crate) fn request_from_http2(head: &mut request::Parts) {
    head.method = Method::GET;
    head.headers.remove(CONTENT_LENGTH);
    head.headers
        .entry(SEC_WEBSOCKET_VERSION)
        .or_insert(HeaderValue::from_static("13"));
}

/// A GET becomes an extended CONNECT; its key goes, as nobody would answer it.
pub(crate) fn request_to_http2(head: &mut request::Parts, protocol: &str) -> Option<()> {
    head.method = Method::CONNECT;
    head.headers.remove(SEC_WEBSOCKET_KEY);
    let protocol = match protocol {
        "websocket" => hyper::ext::Protocol::from_static("websocket"),
        _ => return None,
    };
    head.extensions.insert(protocol);
    Some(())
}

/// What a GET to an HTTP/1.1 server needs.
pub(crate) fn request_to_http1(headers: &mut HeaderMap, protocol: &str) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        headers.insert(UPGRADE, protocol);
    }
    if protocol == "websocket" && !headers.contains_key(SEC_WEBSOCKET_KEY) {
        let key = base64::encode(&rand::random::<[u8; 16]>());
        if let Ok(key) = HeaderValue::from_str(&key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
    }
}

/// The answer of an HTTP/2 server, as HTTP/1.1 says it. `key` is the client's.
pub(crate) fn response_from_http2(
    head: &mut response::Parts,
    protocol: &str,
    key: Option<&HeaderValue>,
) {
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.headers.remove(CONTENT_LENGTH);
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        head.headers.insert(UPGRADE, protocol);
    }
    if let Some(key) = key
        && let Ok(accept) = HeaderValue::from_str(&accept(key.as_bytes()))
    {
        head.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// A 101 as HTTP/2 says it.
pub(crate) fn response_to_http2(response: &mut Response<Body>) {
    *response.status_mut() = StatusCode::OK;
    for name in [SEC_WEBSOCKET_ACCEPT, CONNECTION, UPGRADE, CONTENT_LENGTH] {
        response.headers_mut().remove::<HeaderName>(name);
    }
    *response.body_mut() = Body::empty();
}

/// The answer to a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
fn accept(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::encode(&hash.finalize())
}
