//! Clients: a node proxy's side of HBONE with requests in it, and plain ones for gateways.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;
use tulle_hbone::{Connect, client as tunnel};
use tulle_http::BoxIo;
use tulle_http::body::Body;
use tulle_http::upstream::{Options, Outgoing, Pool, Protocol};
use tulle_linux::NetNs;
use tulle_model::Identity;

use crate::control::epoch;
use crate::mesh::{Mesh, PATIENCE, Pod};

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Name of the application that answered.
    pub(crate) fn from(&self) -> &str {
        self.body.split(' ').next().unwrap_or_default()
    }

    /// What the application saw of a header.
    pub(crate) fn saw(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.body.lines().find_map(|l| l.strip_prefix(&start))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub(crate) fn get(target: &str) -> http::request::Builder {
    Request::builder().uri(target).header("host", "reviews")
}

/// A CONNECT that was refused.
pub(crate) type Refused = String;

pub(crate) fn block_on<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let whole = async { tokio::time::timeout(PATIENCE, what).await };
    let local = LocalSet::new();
    runtime
        .block_on(local.run_until(whole))
        .expect("no answer in time")
}

fn dial(netns: &NetNs, to: SocketAddr) -> tokio::net::TcpStream {
    let tcp = netns
        .enter(|| TcpStream::connect_timeout(&to, PATIENCE))
        .unwrap()
        .unwrap();
    tcp.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(tcp).unwrap()
}

pub(crate) async fn open(
    mesh: &Mesh,
    pod: &Pod,
    authority: &str,
) -> Result<(tunnel::Tunnel, tulle_hbone::Stream), Refused> {
    let own: Identity = pod.identity();
    let expected: Arc<[Identity]> = [mesh.waypoint.identity()].into();
    let tcp = dial(&pod.netns, SocketAddr::new(mesh.waypoint.ip, 15008));
    let settings = tulle_hbone::Settings::default();
    let tunnel = tunnel::connect(tcp, &epoch(&own).client, expected, &settings)
        .await
        .map_err(|e| e.to_string())?;
    let request = Connect {
        authority: authority.to_owned(),
        baggage: None,
        forwarded: None,
        traceparent: None,
    };
    let opened = tunnel.open(&request).await.map_err(|e| e.to_string())?;
    Ok((tunnel, opened.stream))
}

async fn exchange(
    pool: &Pool<u8>,
    io: BoxIo,
    protocol: Protocol,
    request: Request<String>,
) -> Answer {
    let options = Options {
        protocol,
        ..Options::default()
    };
    let (head, body) = request.into_parts();
    let body = if body.is_empty() {
        Body::empty()
    } else {
        Body::full(body)
    };
    let outgoing = Outgoing::new(head, body);
    let connect = async || Ok::<_, String>(io);
    let answer = pool.send(&0, &options, connect, outgoing).await;
    let (head, body) = answer.expect("no answer").response.into_parts();
    let (body, _) = body.collect(1 << 22).await.expect("the body breaks off");
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// One request through the waypoint, in a tunnel of its own.
pub(crate) fn ask(
    mesh: &Mesh,
    pod: &Pod,
    authority: &str,
    request: Request<String>,
) -> Result<Answer, Refused> {
    ask_in(mesh, pod, authority, Protocol::Http1, request)
}

pub(crate) fn ask_in(
    mesh: &Mesh,
    pod: &Pod,
    authority: &str,
    protocol: Protocol,
    request: Request<String>,
) -> Result<Answer, Refused> {
    block_on(async {
        let (_tunnel, stream) = open(mesh, pod, authority).await?;
        let io: BoxIo = Box::new(stream.into_local());
        Ok(exchange(&Pool::new(), io, protocol, request).await)
    })
}

/// Bytes through the waypoint: what comes back until it is as long as `expected`.
pub(crate) fn talk(
    mesh: &Mesh,
    pod: &Pod,
    authority: &str,
    say: &[u8],
    expected: usize,
) -> Result<Vec<u8>, Refused> {
    block_on(async {
        let (_tunnel, stream) = open(mesh, pod, authority).await?;
        let mut io = stream.into_local();
        io.write_all(say).await.map_err(|e| e.to_string())?;
        let mut back = vec![0; expected];
        io.read_exact(&mut back).await.map_err(|e| e.to_string())?;
        Ok(back)
    })
}

/// One request to a port of a gateway, with TLS to the name given or in clear.
pub(crate) fn ask_gateway(
    pod: &Pod,
    to: SocketAddr,
    tls: Option<(&tulle_identity::backend::ClientTls, &str)>,
    request: Request<String>,
) -> Result<Answer, String> {
    block_on(async {
        let tcp = dial(&pod.netns, to);
        let io: BoxIo = match tls {
            None => Box::new(tcp),
            Some((tls, name)) => {
                let shaken = tls.connect(name, tcp).await;
                Box::new(shaken.map_err(|e| e.to_string())?.0)
            }
        };
        Ok(exchange(&Pool::new(), io, Protocol::Http1, request).await)
    })
}

/// Many requests one after the other on one connection; how often each application answered.
pub(crate) fn count(
    mesh: &Mesh,
    pod: &Pod,
    authority: &str,
    times: usize,
) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    block_on(async {
        let (_tunnel, stream) = open(mesh, pod, authority).await.unwrap();
        let pool = Pool::new();
        let mut io: Option<BoxIo> = Some(Box::new(stream.into_local()));
        for _ in 0..times {
            // Only the first one connects.
            let io = io
                .take()
                .unwrap_or_else(|| Box::new(tokio::io::duplex(1).0));
            let request = get("/").body(String::new()).unwrap();
            let answer = exchange(&pool, io, Protocol::Http1, request).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            *counts.entry(answer.from().to_owned()).or_default() += 1;
        }
    });
    counts
}

/// How long something takes.
pub(crate) fn took<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    let outcome = what();
    (outcome, began.elapsed())
}

/// Requests one after the other on one connection, with a pause before each.
pub(crate) fn ask_all(
    mesh: &Mesh,
    pod: &Pod,
    authority: &str,
    requests: Vec<(Duration, Request<String>)>,
) -> Vec<Answer> {
    block_on(async {
        let (_tunnel, stream) = open(mesh, pod, authority).await.unwrap();
        let pool = Pool::new();
        let mut io: Option<BoxIo> = Some(Box::new(stream.into_local()));
        let mut answers = Vec::new();
        for (pause, request) in requests {
            tokio::time::sleep(pause).await;
            let io = io
                .take()
                .unwrap_or_else(|| Box::new(tokio::io::duplex(1).0));
            answers.push(exchange(&pool, io, Protocol::Http1, request).await);
        }
        answers
    })
}
