//! Connections to endpoints: TCP, or a stream in a tunnel under our own identity; PROXY protocol and TLS inside, if asked for.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tulle_hbone::{Connect, client};
use tulle_http::upstream::Protocol;
use tulle_linux::socket;
use tulle_model::{Identity, Workload};

use crate::destination::{Destination, Hop};
use crate::failure::Failure;
use crate::io::Io;
use crate::limits::{DIAL_DEADLINE, HEAD_START, NAME_ADDRESSES};
use crate::upstream::Ends;
use crate::worker::{TunnelKey, Worker};

/// A connection, and what is known of it.
pub(crate) struct Dialled {
    pub(crate) io: Io,
}

/// What a connection is to be, beside its destination.
#[derive(Clone, Copy)]
pub(crate) struct For<'a> {
    /// On whose behalf, for PROXY protocol.
    pub(crate) client: Option<Ends>,
    /// The request's host: SNI where the user names none.
    pub(crate) host: Option<&'a str>,
    /// What is offered in TLS; `None` is nothing.
    pub(crate) alpn: Option<Protocol>,
}

/// Connects to one endpoint of a destination.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    destination: &Destination,
    hop: &Hop,
    what: For<'_>,
) -> Result<Dialled, Failure> {
    let deadline = destination
        .policy
        .tcp
        .and_then(|tcp| tcp.connect_timeout)
        .unwrap_or(DIAL_DEADLINE);
    let mut io = open(worker, hop, deadline).await?;
    if let (Some(version), Some((source, local))) = (destination.policy.proxy_protocol, what.client)
    {
        let header = proxy_header(version, source, local);
        let failed = |error| Failure::Dial {
            to: hop.address().unwrap_or(local),
            error: Arc::new(error),
        };
        io.write_all(&header).await.map_err(failed)?;
    }
    let Some(tls) = &destination.tls else {
        return Ok(Dialled { io });
    };
    let tls = tls.as_ref().map_err(|why| Failure::Tls(why.clone()))?;
    let address = hop.address().map(|a| a.ip().to_string());
    let name = tls.name.as_deref().or(what.host).or(address.as_deref());
    let name = name.unwrap_or(destination.service.hostname.as_ref());
    let config = match what.alpn {
        None => &tls.bytes,
        Some(Protocol::Http1) => &tls.http1,
        Some(Protocol::Http2) => &tls.http2,
    };
    let (stream, _) = config
        .connect(name, io)
        .await
        .map_err(|error| Failure::Tls(error.to_string().into()))?;
    Ok(Dialled { io: stream.into() })
}

/// TCP, or a stream in a tunnel.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    hop: &Hop,
    deadline: Duration,
) -> Result<Io, Failure> {
    match hop {
        Hop::Plain(to) => tcp(*to, deadline).await,
        Hop::Name(name, port) => {
            let all = resolve(name, *port).await?;
            race(name, &all, deadline).await
        }
        Hop::Tunnel {
            to,
            authority,
            expected,
        } => {
            let own = worker.shared.state.load().own.workload.clone();
            let request = Connect {
                authority: authority.to_string(),
                baggage: own.as_deref().and_then(baggage),
                forwarded: None,
                traceparent: None,
            };
            let key = TunnelKey {
                to: *to,
                expected: expected.clone(),
            };
            let make = async || {
                let (worker, to, expected) = (worker.clone(), *to, expected.clone());
                apart(async move { tunnel(&worker, to, &expected, deadline).await }).await
            };
            let opened = worker.pool.open(key, make, &request).await?;
            Ok(opened.stream.into_local().into())
        }
    }
}

/// Connects on a task of its own: a handshake's stack is not to stand on top of a request's, and a connection that others wait
/// for too goes on being made when the request that began it is given up.
pub(crate) async fn apart<T: 'static>(
    connecting: impl Future<Output = Result<T, Failure>> + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_local(connecting).await {
        Ok(outcome) => outcome,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The worker is ending, and we with it.
            Err(_) => std::future::pending().await,
        },
    }
}

async fn tcp(to: SocketAddr, deadline: Duration) -> Result<Io, Failure> {
    dial(to, deadline).await.map(Io::from)
}

async fn dial(to: SocketAddr, after: Duration) -> Result<TcpStream, Failure> {
    let failed = |error| Failure::Dial {
        to,
        error: Arc::new(error),
    };
    let late = |_| Failure::DialTimeout { to, after };
    let stream = timeout(after, TcpStream::connect(to))
        .await
        .map_err(late)?
        .map_err(failed)?;
    // Small messages both ways; a socket that refuses an option still works.
    let _ = stream.set_nodelay(true);
    let _ = socket::set_keepalive(&stream);
    Ok(stream)
}

/// To whichever of several addresses answers first; each has a head start before the next one is tried, too (RFC 8305).
async fn race(name: &Arc<str>, all: &[SocketAddr], deadline: Duration) -> Result<Io, Failure> {
    let mut rest = all.iter().copied();
    let mut dials = JoinSet::new();
    let mut last = Failure::Resolve(name.clone());
    let mut next = rest.next();
    loop {
        if let Some(to) = next.take() {
            dials.spawn_local(dial(to, deadline));
        }
        tokio::select! {
            Some(ended) = dials.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream.into()),
                Ok(Err(failure)) => {
                    last = failure;
                    next = rest.next();
                }
                Err(_) => next = rest.next(),
            },
            () = tokio::time::sleep(HEAD_START), if rest.len() > 0 => next = rest.next(),
            else => return Err(last),
        }
        if next.is_none() && dials.is_empty() {
            return Err(last);
        }
    }
}

/// All addresses of a name, in an order that begins anywhere.
async fn resolve(name: &Arc<str>, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let failed = || Failure::Resolve(name.clone());
    let found = timeout(DIAL_DEADLINE, lookup_host((&**name, port)))
        .await
        .map_err(|_| failed())?
        .map_err(|_| failed())?;
    let mut all: Vec<SocketAddr> = found.take(NAME_ADDRESSES).collect();
    if all.is_empty() {
        return Err(failed());
    }
    let first = usize::try_from(rand::random::<u32>()).unwrap_or(0) % all.len();
    all.rotate_left(first);
    Ok(all)
}

/// A tunnel under our own identity to whoever is expected there.
pub(crate) async fn tunnel(
    worker: &Worker,
    to: SocketAddr,
    expected: &Arc<[Identity]>,
    deadline: Duration,
) -> Result<client::Tunnel, Failure> {
    let shared = &worker.shared;
    let own = &shared.options.identity;
    let epoch = shared.certificates.get(own).await;
    let epoch = epoch.map_err(Failure::Certificate)?;
    let tcp = dial(to, deadline).await?;
    client::connect(tcp, &epoch.client, expected.clone(), &shared.options.hbone)
        .await
        .map_err(Failure::Tunnel)
}

/// `baggage` of a workload, in Istio's order; fields without value are left out.
pub(crate) fn baggage(workload: &Workload) -> Option<String> {
    let kind = format!("k8s.{}.name", workload.kind.as_str());
    let fields = [
        ("k8s.cluster.name", &workload.cluster),
        ("k8s.namespace.name", &workload.namespace),
        (kind.as_str(), &workload.workload_name),
        ("service.name", &workload.canonical_name),
        ("service.version", &workload.canonical_revision),
        ("cloud.region", &workload.locality.region),
        ("cloud.availability_zone", &workload.locality.zone),
    ];
    let mut text = String::new();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push('=');
        text.push_str(value);
    }
    (!text.is_empty()).then_some(text)
}

/// The header of PROXY protocol, version 1 or 2 (haproxy's specification).
fn proxy_header(version: u8, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
    let (from_ip, to_ip) = (from.ip().to_canonical(), to.ip().to_canonical());
    if version == 1 {
        let family = match (from_ip, to_ip) {
            (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
            (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
            _ => return b"PROXY UNKNOWN\r\n".to_vec(),
        };
        let (from, to) = (from.port(), to.port());
        return format!("PROXY {family} {from_ip} {to_ip} {from} {to}\r\n").into_bytes();
    }
    let mut header = SIGNATURE.to_vec();
    // Version 2, command PROXY.
    header.push(0x21);
    let mut addresses = Vec::new();
    let family = match (from_ip, to_ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            addresses.extend(from.octets());
            addresses.extend(to.octets());
            0x11
        }
        (from, to) => {
            let wide = |ip: IpAddr| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            addresses.extend(wide(from));
            addresses.extend(wide(to));
            0x21
        }
    };
    addresses.extend(from.port().to_be_bytes());
    addresses.extend(to.port().to_be_bytes());
    header.push(family);
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

#[cfg(test)]
mod tests;
