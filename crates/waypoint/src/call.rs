//! Calls of our own: to authorization services and collectors.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, header};
use tulle_http::body::Body;
use tulle_http::grpc;
use tulle_http::upstream::Protocol;
use tulle_policy::settings::Upstream;
use tulle_route::balance::Draw;

use crate::destination::{DestinationKey, Hop};
use crate::exchange::{Exchange, status_of};
use crate::limits::CHECK_ANSWER;
use crate::state::Snapshot;
use crate::upstream::{self, Sending};
use crate::worker::Worker;

/// One request to a provider, answered within its own time.
pub(crate) async fn provider(
    exchange: &Exchange,
    upstream: &Upstream,
    request: Request<Body>,
    http2: bool,
) -> Result<Response<Body>, String> {
    send(
        &exchange.worker,
        &exchange.snapshot,
        upstream,
        request,
        http2,
    )
    .await
}

/// The same, for a worker's own purposes.
pub(crate) async fn send(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    upstream: &Upstream,
    request: Request<Body>,
    http2: bool,
) -> Result<Response<Body>, String> {
    let (worker, snapshot, upstream) = (worker.clone(), snapshot.clone(), upstream.clone());
    let time = upstream.timeout;
    let sending = async move {
        match &upstream.service {
            Some(service) => {
                let key = DestinationKey {
                    service: service.clone(),
                    port: upstream.port,
                    subset: None,
                };
                let destination = worker
                    .destination(&snapshot, &key)
                    .map_err(|error| error.to_string())?;
                let draw = Draw {
                    now: worker.shared.destinations.now(),
                    dice: rand::random(),
                    hash: None,
                    tried: &[],
                };
                let (at, _active) = worker
                    .choose(&destination, &draw)
                    .ok_or("it has no endpoint")?;
                let endpoint = destination.endpoints.get(at).ok_or("it has no endpoint")?;
                let sending = Sending {
                    destination: Some(&destination),
                    endpoint,
                    request: said_as(request, http2),
                    assumed: match http2 {
                        true => Protocol::Http2,
                        false => Protocol::Http1,
                    },
                    upgrade: None,
                    deadline: None,
                    client: None,
                };
                upstream::send(&worker, sending)
                    .await
                    .map(|answered| answered.response)
                    .map_err(|unsent| unsent.why.to_string())
            }
            None => {
                let hop = Hop::Name(upstream.host.clone(), upstream.port);
                upstream::send_to(&worker, &hop, said_as(request, http2), None)
                    .await
                    .map_err(|unsent| unsent.why.to_string())
            }
        }
    };
    // On a task of its own: a call's stack is not to stand on top of a request's.
    match tokio::task::spawn_local(within(time, sending)).await {
        Ok(outcome) => outcome,
        Err(ended) => Err(ended.to_string()),
    }
}

/// The version of a request says which one is spoken.
fn said_as(mut request: Request<Body>, http2: bool) -> Request<Body> {
    if http2 {
        *request.version_mut() = http::Version::HTTP_2;
    }
    request
}

pub(crate) async fn within<T>(
    time: Duration,
    what: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout(time, what).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {time:?}")),
    }
}

/// One unary gRPC call: the answer's message.
pub(crate) async fn grpc(
    exchange: &Exchange,
    upstream: &Upstream,
    method: &str,
    message: &[u8],
) -> Result<Bytes, String> {
    let (worker, snapshot) = (&exchange.worker, &exchange.snapshot);
    unary(worker, snapshot, upstream, method, message, &[]).await
}

/// The same, for a worker's own purposes.
pub(crate) async fn unary(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    upstream: &Upstream,
    method: &str,
    message: &[u8],
    metadata: &[(Arc<str>, Arc<str>)],
) -> Result<Bytes, String> {
    /// A flag and a length come before each message.
    const PREFIX: usize = 5;
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).map_err(|_| "the message is too long")?);
    framed.put_slice(message);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(method)
        .header(header::HOST, &*upstream.host)
        .header(header::TE, HeaderValue::from_static("trailers"))
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        )
        .header(grpc::TIMEOUT, grpc::timeout_value(upstream.timeout));
    for (name, value) in metadata {
        request = request.header(&**name, &**value);
    }
    let request = request
        .body(Body::full(framed.freeze()))
        .map_err(|error| error.to_string())?;
    let response = send(worker, snapshot, upstream, request, true).await?;
    let (head, body) = response.into_parts();
    let collecting = async {
        body.collect(CHECK_ANSWER)
            .await
            .map_err(|error| error.to_string())
    };
    let (bytes, trailers) = within(upstream.timeout, collecting).await?;
    let status = trailers.as_ref().and_then(status_of);
    let status = status.or_else(|| status_of(&head.headers));
    match status {
        Some(0) => {}
        Some(code) => return Err(format!("gRPC status {code}")),
        None => return Err(format!("no gRPC status; HTTP status {}", head.status)),
    }
    if bytes.len() < PREFIX || bytes[0] != 0 {
        return Err("the answer is no gRPC message".to_owned());
    }
    Ok(bytes.slice(PREFIX..))
}
