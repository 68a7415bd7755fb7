//! Requests to upstreams: connections by key, HTTP/1 ones used one after the other, HTTP/2 ones by many at once.

mod failure;
mod http1;
mod http2;
mod meter;
mod seats;
mod shelf;

use std::fmt;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, HOST, HeaderValue, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING};
use ::http::request::Parts;
use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

pub use failure::{Cause, Failure, Retry};
pub use seats::{Full, Held, Limits};

use crate::body::Body;
use crate::io::BoxIo;
use crate::limits;
use crate::upgrade::{self, Upgrade};
use shelf::Shelf;

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without asking first.
    Http2,
}

/// How connections to one destination are made and kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is spoken.
    pub protocol: Protocol,
    /// How long making a connection may take.
    pub connect_deadline: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// From this age on, a connection gets no new requests.
    pub max_age: Option<Duration>,
    /// After so many requests, a connection gets no new ones.
    pub max_requests: Option<u32>,
    /// Streams on one HTTP/2 connection.
    pub max_streams: usize,
    /// Silence after which an HTTP/2 upstream is asked whether it is still there.
    pub ping: Option<Duration>,
    /// What connections and those who wait for one count against, if anything.
    pub limits: Option<Arc<dyn Limits>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http1,
            connect_deadline: limits::CONNECT_DEADLINE,
            idle: limits::UPSTREAM_IDLE,
            max_age: None,
            max_requests: None,
            max_streams: limits::UPSTREAM_STREAMS,
            ping: None,
            limits: None,
        }
    }
}

/// A request on its way: URI path and query only, authority in `Host`, nothing for one hop in it.
#[derive(Debug)]
pub struct Outgoing {
    /// Everything but the body.
    pub head: Parts,
    /// The body.
    pub body: Body,
    /// What the client wants to speak instead ([`Upgrade::protocol`]).
    pub upgrade: Option<Box<str>>,
    /// `:scheme` in HTTP/2.
    pub scheme: Scheme,
    /// By when the head of the answer must be there.
    pub deadline: Option<Instant>,
}

impl Outgoing {
    /// A plain request without a deadline.
    pub fn new(head: Parts, body: Body) -> Self {
        Self {
            head,
            body,
            upgrade: None,
            scheme: Scheme::HTTP,
            deadline: None,
        }
    }
}

/// What an upstream answered. Nothing was taken off or added.
#[derive(Debug)]
pub struct Answer {
    /// Status, headers, body with trailers.
    pub response: Response<Body>,
    /// With a 101: the bytes.
    pub upgrade: Option<Upgrade>,
    /// The connection had served a request before.
    pub reused: bool,
}

/// The upstream connections of one worker. The key must hold everything that makes a connection unfit for others: endpoint,
/// identity, TLS, protocol.
pub struct Pool<K>(Rc<Shelf<K>>);

impl<K: Hash + Eq + Clone + 'static> Default for Pool<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Pool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone + 'static> Pool<K> {
    /// An empty pool.
    pub fn new() -> Self {
        Self(Rc::new(Shelf::default()))
    }

    /// Sends a request on a connection for `key`, made with `connect` if there is none with room, and waits for the head of the
    /// answer. A pooled connection that turns out to be dead before anything was sent on it is replaced without a word.
    /// Dropping the future gives the request up.
    ///
    /// # Errors
    /// When there is no answer; [`Failure::retry`] says whether the request may be sent again.
    pub async fn send<E: 'static>(
        &self,
        key: &K,
        options: &Options,
        connect: impl AsyncFnOnce() -> Result<BoxIo, E>,
        request: Outgoing,
    ) -> Result<Answer, Failure<E>> {
        let deadline = request.deadline;
        let sending = async {
            match options.protocol {
                Protocol::Http1 => http1::send(&self.0, key, options, connect, request).await,
                Protocol::Http2 => http2::send(&self.0, key, options, connect, request).await,
            }
        };
        let Some(deadline) = deadline else {
            return sending.await;
        };
        tokio::time::timeout_at(deadline, sending)
            .await
            .unwrap_or_else(|_| Err(Failure::of(Cause::Deadline)))
    }

    /// Connections whose key matches get no new requests; unused ones close.
    pub fn retire_where(&self, matches: impl FnMut(&K) -> bool) {
        self.0.retire_where(matches);
    }

    /// Open connections of a key, used or not: for circuit breakers.
    pub fn connections_of(&self, key: &K) -> usize {
        self.0.connections_of(key)
    }

    /// Connections that wait for a request, or can take another one.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
}

/// Makes a connection, in time.
async fn make<E>(
    connect: impl AsyncFnOnce() -> Result<BoxIo, E>,
    options: &Options,
) -> Result<BoxIo, Failure<E>> {
    let after = options.connect_deadline;
    match tokio::time::timeout(after, connect()).await {
        Ok(Ok(io)) => Ok(io),
        Ok(Err(error)) => Err(Failure::of(Cause::Connect(Rc::new(error)))),
        Err(_) => Err(Failure::of(Cause::ConnectDeadline(after))),
    }
}

/// The request as it is written, and the key that its answer to an upgrade is made of.
struct Written {
    request: Request<Body>,
    upgrade: Option<Box<str>>,
    key: Option<HeaderValue>,
}

fn write<E>(outgoing: Outgoing, protocol: Protocol) -> Result<Written, Failure<E>> {
    let Outgoing {
        mut head,
        body,
        upgrade,
        scheme,
        ..
    } = outgoing;
    agree_on_length(&mut head.headers, &body);
    let key = upgrade
        .as_ref()
        .and_then(|_| head.headers.get(SEC_WEBSOCKET_KEY).cloned());
    match protocol {
        Protocol::Http1 => {
            head.version = Version::HTTP_11;
            if body.length().is_none() && !head.headers.contains_key(CONTENT_LENGTH) {
                // Said here: the library would leave off the body of a GET.
                let chunked = HeaderValue::from_static("chunked");
                head.headers.insert(TRANSFER_ENCODING, chunked);
            }
            if let Some(protocol) = &upgrade {
                upgrade::request_to_http1(&mut head.headers, protocol);
            }
        }
        Protocol::Http2 => {
            head.version = Version::HTTP_2;
            head.uri = absolute(&mut head, scheme).ok_or(Failure::of(Cause::Unsupported(
                "a request without Host cannot be sent in HTTP/2",
            )))?;
            if let Some(protocol) = &upgrade {
                upgrade::request_to_http2(&mut head, protocol).ok_or(Failure::of(
                    Cause::Unsupported("only websocket can be asked for in HTTP/2"),
                ))?;
            }
        }
    }
    Ok(Written {
        request: Request::from_parts(head, body),
        upgrade,
        key,
    })
}

/// Nobody downstream may read another length than we write.
fn agree_on_length(headers: &mut HeaderMap, body: &Body) {
    let Some(length) = body.length() else { return };
    if length > 0 || headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

fn absolute(head: &mut Parts, scheme: Scheme) -> Option<Uri> {
    let host = head.headers.remove(HOST)?;
    let mut parts = ::http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    let path = head.uri.path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).ok()
}

/// What an upstream may not answer.
fn judge<E>(response: &Response<Incoming>, upgrade: bool) -> Result<(), Failure<E>> {
    let refuse = |what: &str| Err(Failure::of(Cause::Protocol(what.to_owned())));
    let headers = response.headers();
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return refuse("both Transfer-Encoding and Content-Length are given");
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !upgrade {
        return refuse("it switches protocols without being asked to");
    }
    Ok(())
}
