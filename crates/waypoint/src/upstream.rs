//! Requests to endpoints: one pool of connections per worker, over TCP, tunnels and TLS alike.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Version};
use tokio::time::Instant;
use tulle_http::body::Body;
use tulle_http::upstream::{Cause, Failure as NoAnswer, Options, Outgoing, Protocol, Retry};
use tulle_http::{BoxIo, Flag as Word, Upgrade, forward};
use tulle_identity::backend::{self, ClientTls};
use tulle_route::decide::Failure as Reason;
use tulle_route::resource::{BackendProtocol, UpgradeHttp2};
use tulle_telemetry::Flag;

use crate::destination::{Destination, Endpoint, Hop};
use crate::dial::{self, For};
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::inbound::Via;
use crate::limits::{DIAL_DEADLINE, PROXIED_IDLE};
use crate::worker::Worker;

/// What makes a connection unfit for other requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamKey {
    hop: Hop,
    protocol: Protocol,
    /// Name in TLS.
    tls: Option<Arc<str>>,
    /// Of the destination, where its policy is part of the connection.
    serial: u64,
    /// Of whom PROXY protocol speaks.
    client: Option<Ends>,
}

impl UpstreamKey {
    /// Made for this state of a destination ([`Destination::connections`]).
    pub(crate) fn is_of(&self, connections: u64) -> bool {
        self.serial == connections
    }
}

/// The two ends of a client's connection: its own address, and what it addressed.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// One request to one endpoint.
pub(crate) struct Sending<'a> {
    /// `None`: a workload that was addressed itself.
    pub(crate) destination: Option<&'a Arc<Destination>>,
    pub(crate) endpoint: &'a Endpoint,
    /// Its version is the client's.
    pub(crate) request: Request<Body>,
    /// What is spoken to a port that nobody says anything of.
    pub(crate) assumed: Protocol,
    /// What the client wants to speak instead.
    pub(crate) upgrade: Option<Box<str>>,
    /// By when the head of the answer must be there.
    pub(crate) deadline: Option<Instant>,
    /// On whose behalf, for PROXY protocol.
    pub(crate) client: Option<Ends>,
}

/// What came back.
pub(crate) struct Answered {
    pub(crate) response: Response<Body>,
    /// With a 101: the bytes.
    pub(crate) upgrade: Option<Upgrade>,
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Unsent {
    /// For retries; `None`: another attempt would not help.
    pub(crate) reason: Option<Reason>,
    pub(crate) flag: Flag,
    pub(crate) status: http::StatusCode,
    /// What the client may know.
    pub(crate) text: &'static str,
    /// For logs.
    pub(crate) why: Arc<str>,
}

/// Sends a request, and waits for the head of its answer.
pub(crate) async fn send(worker: &Rc<Worker>, sending: Sending<'_>) -> Result<Answered, Unsent> {
    let Sending {
        destination,
        endpoint,
        request,
        assumed,
        upgrade,
        deadline,
        client,
    } = sending;
    let Some(destination) = destination else {
        let protocol = by_version(request.version());
        return plain(worker, &endpoint.hop, protocol, request, upgrade, deadline).await;
    };
    let mut options = options(destination, request.version(), assumed);
    let client = client.filter(|_| destination.policy.proxy_protocol.is_some());
    if client.is_some() {
        // Nobody else can use it.
        options.idle = options.idle.min(PROXIED_IDLE);
    }
    let host = request.headers().get(http::header::HOST).cloned();
    let name = destination.tls.as_ref().map(|_| {
        let asked = destination.tls.as_ref().and_then(|tls| tls.as_ref().ok());
        asked
            .and_then(|tls| tls.name.clone())
            .or_else(|| host.as_ref().and_then(name_of).map(Arc::from))
            .unwrap_or_else(|| destination.service.hostname.clone())
    });
    let key = UpstreamKey {
        hop: endpoint.hop.clone(),
        protocol: options.protocol,
        serial: if shapes_connections(destination) {
            destination.connections
        } else {
            0
        },
        tls: name,
        client,
    };
    let connect = async || {
        let (worker, destination) = (worker.clone(), destination.clone());
        let (hop, alpn) = (key.hop.clone(), options.protocol);
        let connecting = async move {
            let what = For {
                client,
                host: host.as_ref().and_then(name_of),
                alpn: Some(alpn),
            };
            dial::connect(&worker, &destination, &hop, what).await
        };
        let dialled = dial::apart(connecting).await?;
        Ok(Box::new(dialled.io) as BoxIo)
    };
    let scheme = match key.tls {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    };
    let outgoing = outgoing(request, upgrade, scheme, deadline);
    let answer = worker.upstreams.send(&key, &options, connect, outgoing);
    finish(answer.await)
}

/// Sends a request to any address, with TLS to the name given or in clear.
pub(crate) async fn send_to(
    worker: &Rc<Worker>,
    hop: &Hop,
    request: Request<Body>,
    tls: Option<(&ClientTls, &str)>,
) -> Result<Response<Body>, Unsent> {
    let protocol = by_version(request.version());
    let Some((tls, name)) = tls else {
        let answered = plain(worker, hop, protocol, request, None, None).await?;
        return Ok(answered.response);
    };
    let key = UpstreamKey {
        hop: hop.clone(),
        protocol,
        tls: Some(name.into()),
        serial: 0,
        client: None,
    };
    let options = Options {
        protocol,
        ..Options::default()
    };
    let connect = async || {
        let (worker, hop) = (worker.clone(), hop.clone());
        let (tls, name) = (tls.clone(), name.to_owned());
        let connecting = async move {
            let io = dial::open(&worker, &hop, DIAL_DEADLINE).await?;
            let shaken = tls.connect(&name, io).await;
            shaken.map_err(|error| Failure::Tls(error.to_string().into()))
        };
        let (stream, _) = dial::apart(connecting).await?;
        Ok(Box::new(crate::io::Io::from(stream)) as BoxIo)
    };
    let outgoing = outgoing(request, None, Scheme::HTTPS, None);
    let answer = worker.upstreams.send(&key, &options, connect, outgoing);
    Ok(finish(answer.await)?.response)
}

async fn plain(
    worker: &Rc<Worker>,
    hop: &Hop,
    protocol: Protocol,
    request: Request<Body>,
    upgrade: Option<Box<str>>,
    deadline: Option<Instant>,
) -> Result<Answered, Unsent> {
    let key = UpstreamKey {
        hop: hop.clone(),
        protocol,
        tls: None,
        serial: 0,
        client: None,
    };
    let options = Options {
        protocol,
        ..Options::default()
    };
    let connect = async || {
        let io = dial::open(worker, hop, DIAL_DEADLINE).await?;
        Ok(Box::new(io) as BoxIo)
    };
    let outgoing = outgoing(request, upgrade, Scheme::HTTP, deadline);
    let answer = worker.upstreams.send(&key, &options, connect, outgoing);
    finish(answer.await)
}

fn outgoing(
    request: Request<Body>,
    upgrade: Option<Box<str>>,
    scheme: Scheme,
    deadline: Option<Instant>,
) -> Outgoing {
    let (head, body) = request.into_parts();
    Outgoing {
        head,
        body,
        upgrade,
        scheme,
        deadline,
    }
}

fn finish(
    answer: Result<tulle_http::upstream::Answer, NoAnswer<Failure>>,
) -> Result<Answered, Unsent> {
    match answer {
        Ok(answer) => Ok(Answered {
            response: answer.response,
            upgrade: answer.upgrade,
        }),
        Err(failure) => Err(unsent(&failure)),
    }
}

fn unsent(failure: &NoAnswer<Failure>) -> Unsent {
    let reason = match (&failure.cause, failure.retry) {
        (Cause::Connect(_) | Cause::ConnectDeadline(_), _) => Some(Reason::Connect),
        (Cause::Refused, _) => Some(Reason::Refused),
        (Cause::Deadline, _) => Some(Reason::Timeout),
        (Cause::Body(_) | Cause::Unsupported(_) | Cause::Overflow(_), _) => None,
        (_, Retry::Safe) => Some(Reason::ResetBeforeRequest),
        _ => Some(Reason::Reset),
    };
    let flag = match &failure.cause {
        Cause::Connect(own) => own.flag(),
        _ => flag(failure.flag()),
    };
    Unsent {
        reason,
        flag,
        status: failure.status(),
        text: failure.text(),
        why: failure.to_string().into(),
    }
}

fn flag(word: Word) -> Flag {
    match word {
        Word::UF => Flag::UpstreamConnectFailure,
        Word::UT | Word::DT => Flag::UpstreamTimeout,
        Word::UC => Flag::UpstreamTermination,
        Word::UR => Flag::UpstreamReset,
        Word::UPE => Flag::UpstreamProtocol,
        Word::UO => Flag::UpstreamOverflow,
        Word::DC => Flag::DownstreamTermination,
        Word::DPE => Flag::DownstreamProtocol,
        Word::SI => Flag::IdleTimeout,
        _ => Flag::LocalReset,
    }
}

fn by_version(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

/// Whether what users say of a destination makes its connections unlike others to the same endpoint.
fn shapes_connections(destination: &Destination) -> bool {
    let policy = &destination.policy;
    destination.tls.is_some()
        || policy.proxy_protocol.is_some()
        || policy.breaker.is_some()
        || policy.tcp.is_some()
        || policy.http.is_some()
}

/// What is spoken to a port whose protocol nobody declared. In the mesh, what the client speaks: it was going to that port anyway. Behind
/// a gateway, HTTP/1.1: that a browser speaks HTTP/2 to us says nothing of the backend. gRPC is HTTP/2 everywhere.
pub(crate) fn assumed(exchange: &Exchange) -> Protocol {
    let inside = matches!(exchange.client.via, Via::Waypoint(_));
    assumed_of(exchange.grpc, inside, exchange.seen.version)
}

fn assumed_of(grpc: bool, inside: bool, client: Version) -> Protocol {
    match (grpc, inside) {
        (true, _) => Protocol::Http2,
        (false, true) => by_version(client),
        (false, false) => Protocol::Http1,
    }
}

/// As DestinationRule and port say; where neither says anything, what is assumed.
fn options(destination: &Destination, client: Version, assumed: Protocol) -> Options {
    let http = destination.policy.http.unwrap_or_default();
    let tcp = destination.policy.tcp.unwrap_or_default();
    let protocol = match (destination.protocol(), http.upgrade) {
        _ if http.use_client_protocol => by_version(client),
        (_, Some(UpgradeHttp2::Always)) => Protocol::Http2,
        (Some(BackendProtocol::Http2), _) => Protocol::Http2,
        (Some(BackendProtocol::Http1), _) => Protocol::Http1,
        (Some(BackendProtocol::Tcp) | None, _) => assumed,
    };
    let defaults = Options::default();
    let streams = http.max_concurrent_streams.map(|n| n.max(1) as usize);
    Options {
        protocol,
        connect_deadline: tcp.connect_timeout.unwrap_or(DIAL_DEADLINE),
        idle: http.idle_timeout.unwrap_or(defaults.idle),
        max_age: tcp.max_connection_duration,
        max_requests: http.max_requests_per_connection.filter(|n| *n > 0),
        max_streams: streams.unwrap_or(defaults.max_streams),
        ping: defaults.ping,
        limits: destination.limits.clone(),
    }
}

/// The name in `Host`, without port.
fn name_of(host: &HeaderValue) -> Option<&str> {
    let host = host.to_str().ok()?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    Some(name.trim_start_matches('[').trim_end_matches(']'))
}

/// An endpoint's answer on its way back.
pub(crate) fn received(response: Response<Body>, took: std::time::Duration) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    forward::response(&mut head, took);
    Response::from_parts(head, body)
}

/// TLS to servers outside, against the system's roots: made once.
pub(crate) fn system_tls() -> Result<ClientTls, String> {
    static TLS: OnceLock<Result<ClientTls, String>> = OnceLock::new();
    let made = TLS.get_or_init(|| {
        let settings = backend::Settings {
            roots: None,
            certificate: None,
            expected: backend::Expected::ServerName,
            alpn: &[b"http/1.1"],
        };
        ClientTls::new(&settings).map_err(|error| error.to_string())
    });
    made.clone()
}

#[cfg(test)]
mod tests;
