//! As in a waypoint: requests in HBONE streams, served by another worker than the tunnel's, sent on in an HBONE stream.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request as HttpRequest, Response as HttpResponse};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use support::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tulle_hbone::{Connect, Remote, Settings as TunnelSettings, client, server as tunnels};
use tulle_http::server::{self, Settings};
use tulle_http::upstream::{Options, Outgoing, Pool, Protocol};
use tulle_http::{BoxIo, Request, Response};
use tulle_identity::{Authority, CertificateRequest, Credentials, Epoch, IssuedPem, TlsSettings};
use tulle_model::Identity;

fn epoch(authority: &Authority, account: &str) -> Arc<Epoch> {
    let identity = Identity::new(authority.trust_domain(), "test", account);
    let request = CertificateRequest::new(&identity).unwrap();
    let chain = authority
        .sign_workload(&request.csr_pem, &identity, None)
        .unwrap();
    let credentials = Credentials::assemble(&identity, request, &IssuedPem { chain }).unwrap();
    Arc::new(Epoch::new(credentials, TlsSettings::default()).unwrap())
}

fn worker(job: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(job));
}

async fn tunnel_to(at: SocketAddr, us: &Epoch, them: &Epoch) -> client::Tunnel {
    let tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let expected = Arc::from([them.identity.clone()]);
    client::connect(tcp, &us.client, expected, &TunnelSettings::default())
        .await
        .unwrap()
}

/// Accepts tunnels and gives their streams away.
async fn accept(listener: TcpListener, us: Arc<Epoch>, to: mpsc::UnboundedSender<Remote>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut tunnel = tunnels::accept(tcp, &us.server, &TunnelSettings::default())
            .await
            .unwrap();
        let to = to.clone();
        tokio::task::spawn_local(async move {
            while let Some(request) = tunnel.next().await {
                if to.send(request.accept(None).into_remote()).is_err() {
                    return;
                }
            }
        });
    }
}

async fn answer(request: Request) -> Response {
    let path = request.head.uri.path().to_owned();
    let (body, _) = request.body.collect(64 << 20).await.unwrap();
    HttpResponse::builder()
        .header("x-path", path)
        .body(tulle_http::Body::full(body))
        .unwrap()
}

#[test]
fn requests_cross_tunnels_and_workers() {
    let authority = Authority::new_self_signed("cluster.local").unwrap();
    let (client, waypoint, service) = (
        epoch(&authority, "client"),
        epoch(&authority, "waypoint"),
        epoch(&authority, "service"),
    );
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (front, back) = (listen(), listen());
    let (front_at, back_at) = (front.local_addr().unwrap(), back.local_addr().unwrap());
    let as_tokio = |listener: std::net::TcpListener| {
        listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(listener).unwrap()
    };
    let (whole, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&whole), Arc::clone(&broken));
    // The service: one worker for everything.
    let of_service = service.clone();
    std::thread::spawn(move || {
        worker(async move {
            let (to, mut streams) = mpsc::unbounded_channel();
            tokio::task::spawn_local(accept(as_tokio(back), of_service, to));
            while let Some(stream) = streams.recv().await {
                let counts = counts.clone();
                tokio::task::spawn_local(async move {
                    let ended =
                        server::serve(stream, &Settings::default(), pending(), answer).await;
                    let count = if ended.is_ok() { counts.0 } else { counts.1 };
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
    });
    // The waypoint: tunnels on one worker, requests on another.
    let (to, mut streams) = mpsc::unbounded_channel();
    let of_waypoint = waypoint.clone();
    std::thread::spawn(move || {
        worker(async move { accept(as_tokio(front), of_waypoint, to).await })
    });
    let (us, them) = (waypoint.clone(), service.clone());
    std::thread::spawn(move || {
        worker(async move {
            let tunnel = tunnel_to(back_at, &us, &them).await;
            let pool = Rc::new(Pool::new());
            let http2 = Rc::new(Cell::new(false));
            while let Some(stream) = streams.recv().await {
                let (tunnel, pool, http2) = (tunnel.clone(), Rc::clone(&pool), Rc::clone(&http2));
                tokio::task::spawn_local(async move {
                    let handler = async move |request: Request| {
                        let connect = async || {
                            let to = Connect {
                                authority: "10.0.0.9:8080".into(),
                                ..Connect::default()
                            };
                            let opened = tunnel.open(&to).await.map_err(io::Error::other)?;
                            Ok::<BoxIo, io::Error>(Box::new(opened.stream.into_local()))
                        };
                        // Both protocols, one after the other.
                        let protocol = if http2.replace(!http2.get()) {
                            Protocol::Http2
                        } else {
                            Protocol::Http1
                        };
                        let options = Options {
                            protocol,
                            idle: Duration::from_millis(100),
                            ..Options::default()
                        };
                        let outgoing = Outgoing::new(request.head, request.body);
                        pool.send(&protocol, &options, connect, outgoing)
                            .await
                            .unwrap()
                            .response
                    };
                    server::serve(stream, &Settings::default(), pending(), handler)
                        .await
                        .unwrap();
                });
            }
        });
    });
    on_worker(async {
        let tunnel = tunnel_to(front_at, &client, &waypoint).await;
        let open = async || {
            let to = Connect {
                authority: "10.0.0.1:80".into(),
                ..Connect::default()
            };
            TokioIo::new(tunnel.open(&to).await.unwrap().stream.into_local())
        };
        let request = |path: &str, size: usize| {
            let body = Full::new(Bytes::from(vec![b'x'; size]));
            HttpRequest::post(format!("http://svc{path}"))
                .header("host", "svc")
                .body(body)
                .unwrap()
        };
        let (mut first, driver) = hyper::client::conn::http1::handshake(open().await)
            .await
            .unwrap();
        tokio::task::spawn_local(driver);
        let (second, driver) = hyper::client::conn::http2::handshake(Local, open().await)
            .await
            .unwrap();
        tokio::task::spawn_local(driver);
        for (n, size) in [0, 10, 100_000, 3_000_000, 1, 2, 3, 4]
            .into_iter()
            .enumerate()
        {
            let path = format!("/{n}");
            let (one, other) = tokio::join!(
                first.send_request(request(&path, size)),
                second.clone().send_request(request(&path, size))
            );
            for response in [one.unwrap(), other.unwrap()] {
                assert_eq!(response.headers()["x-path"], path);
                assert_eq!(
                    response
                        .into_body()
                        .collect()
                        .await
                        .unwrap()
                        .to_bytes()
                        .len(),
                    size
                );
            }
        }
        // The client closes: so does the waypoint, and the stream is over.
        drop((first, second));
        until(|| tunnel.streams() == 0).await;
        // Idle connections to the service are closed in order: none of them looks as if it had failed.
        until(|| whole.load(Ordering::Relaxed) >= 2).await;
        assert_eq!(broken.load(Ordering::Relaxed), 0);
    });
}
