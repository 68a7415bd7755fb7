//! Applications: behind HBONE as a node proxy would have them, or in clear.

use std::cell::Cell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::LocalSet;
use tulle_http::body::Body;
use tulle_http::server::{Request, Settings, serve};
use tulle_identity::Epoch;
use tulle_linux::NetNs;
use tulle_route::rate::Spent;

/// Runs something for as long as the test program lives.
pub(crate) fn run<F: Future<Output = ()> + 'static>(make: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(LocalSet::new().run_until(async { make().await }));
    });
}

pub(crate) fn listen(netns: &NetNs, port: u16) -> TcpListener {
    let listener = netns
        .enter(|| TcpListener::bind(("0.0.0.0", port)))
        .unwrap()
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// A node proxy with an application behind it, which tells what it sees.
pub(crate) fn in_mesh(netns: &NetNs, name: &str, epoch: Epoch) {
    let listener = listen(netns, 15008);
    let name: Rc<str> = name.into();
    let name = name.to_string();
    run(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let seen = Rc::new(Cell::new(0));
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let settings = tulle_hbone::Settings::default();
            let accepted = tulle_hbone::server::accept(tcp, &epoch.server, &settings).await;
            let Ok(mut tunnel) = accepted else { continue };
            let (name, seen) = (name.clone(), seen.clone());
            tokio::task::spawn_local(async move {
                let peer = tunnel.peer().to_string();
                while let Some(request) = tunnel.next().await {
                    let about = format!("{name} {peer} {}", request.authority);
                    let io = request.accept(None).into_local();
                    let seen = seen.clone();
                    let handler =
                        async move |request: Request| answer(&about, &seen, request).await;
                    tokio::task::spawn_local(async move {
                        let settings = Settings::default();
                        let _ = serve(io, &settings, std::future::pending(), handler).await;
                    });
                }
            });
        }
    });
}

/// An application in clear.
pub(crate) fn outside(netns: &NetNs, port: u16, name: &str) {
    let listener = listen(netns, port);
    let name = name.to_owned();
    run(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let seen = Rc::new(Cell::new(0));
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (about, seen) = (format!("{name} - -"), seen.clone());
            let handler = async move |request: Request| answer(&about, &seen, request).await;
            tokio::task::spawn_local(async move {
                let settings = Settings::default();
                let _ = serve(tcp, &settings, std::future::pending(), handler).await;
            });
        }
    });
}

/// Bytes come back as they are; a greeting comes first.
pub(crate) fn echo(netns: &NetNs, port: u16, greeting: &'static str) {
    let listener = listen(netns, port);
    run(move || async move {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let _ = tcp.write_all(greeting.as_bytes()).await;
                let (mut read, mut write) = tcp.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
}

/// Another replica of the waypoint: takes what it is told, and remembers it.
pub(crate) fn replica(netns: &NetNs, epoch: Epoch) -> Arc<Mutex<Vec<Spent>>> {
    use tokio::io::AsyncReadExt;
    let listener = listen(netns, 15008);
    let told: Arc<Mutex<Vec<Spent>>> = Arc::default();
    let remembered = told.clone();
    run(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let settings = tulle_hbone::Settings::default();
            let accepted = tulle_hbone::server::accept(tcp, &epoch.server, &settings).await;
            let Ok(mut tunnel) = accepted else { continue };
            let told = remembered.clone();
            tokio::task::spawn_local(async move {
                while let Some(request) = tunnel.next().await {
                    assert_eq!(request.authority, "rate-limits.replicas.tulle.internal:1");
                    let mut io = request.accept(None).into_local();
                    while let Ok(length) = io.read_u32().await {
                        let mut body = vec![0; length as usize];
                        io.read_exact(&mut body).await.unwrap();
                        let spent: Vec<Spent> = serde_json::from_slice(&body).unwrap();
                        told.lock().unwrap().extend(spent);
                    }
                }
            });
        }
    });
    told
}

/// A collector of spans: takes every gRPC message, and remembers it.
pub(crate) fn collector(netns: &NetNs, port: u16) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let listener = listen(netns, port);
    let taken: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let remembered = taken.clone();
    run(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let taken = remembered.clone();
            let handler = async move |request: Request| {
                assert_eq!(
                    request.head.uri.path(),
                    "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                );
                let (body, _) = request.body.collect(1 << 20).await.unwrap();
                taken.lock().unwrap().push(body.to_vec());
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let empty_message = vec![0; 5];
                let mut response =
                    http::Response::new(Body::with_trailers(empty_message, trailers));
                let kind = "application/grpc".parse().unwrap();
                response.headers_mut().insert("content-type", kind);
                response
            };
            tokio::task::spawn_local(async move {
                let settings = Settings::default();
                let _ = serve(tcp, &settings, std::future::pending(), handler).await;
            });
        }
    });
    taken
}

/// First line: name, peer and authority of the tunnel. Then method, target and headers, one a line, then the body.
/// `x-fail: <status>` fails that many times as `x-times` says; `x-slow: <milliseconds>` waits.
async fn answer(about: &str, seen: &Cell<u32>, request: Request) -> http::Response<Body> {
    let header = |name: &str| {
        let value = request.head.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    if let Some(slow) = header("x-slow") {
        tokio::time::sleep(Duration::from_millis(slow.parse().unwrap())).await;
    }
    if let Some(status) = header("x-fail") {
        let times: u32 = header("x-times").map_or(u32::MAX, |t| t.parse().unwrap());
        if seen.get() < times {
            seen.set(seen.get() + 1);
            let mut response = http::Response::new(Body::full("failed on purpose"));
            *response.status_mut() = status.parse().unwrap();
            return response;
        }
        seen.set(0);
    }
    let mut text = format!("{about}\n{} {}\n", request.head.method, request.head.uri);
    for (name, value) in &request.head.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let (body, _) = request.body.collect(1 << 20).await.unwrap();
    text.push_str(&String::from_utf8_lossy(&body));
    http::Response::new(Body::full(text))
}

/// An application in clear that fails whatever it is asked.
pub(crate) fn failing(netns: &NetNs, port: u16) {
    let listener = listen(netns, port);
    run(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let handler = async move |_: Request| {
                let mut response = http::Response::new(Body::full("failing - -\n"));
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                response
            };
            tokio::task::spawn_local(async move {
                let settings = Settings::default();
                let _ = serve(tcp, &settings, std::future::pending(), handler).await;
            });
        }
    });
}

/// An application in clear that says on which connection it was asked, counted from 1; with `proxied`, and what PROXY protocol
/// said at its beginning.
pub(crate) fn counting(netns: &NetNs, port: u16, proxied: bool) {
    let listener = listen(netns, port);
    run(move || async move {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        for number in 1.. {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let mut line = String::new();
                while proxied && !line.ends_with("\r\n") {
                    line.push(char::from(tcp.read_u8().await.unwrap()));
                }
                let about = format!("counting {number} {}", line.trim_end());
                let seen = Rc::new(Cell::new(0));
                let handler = async move |request: Request| answer(&about, &seen, request).await;
                let settings = Settings::default();
                let _ = serve(tcp, &settings, std::future::pending(), handler).await;
            });
        }
    });
}

/// An application behind TLS of its own, which says who the client showed to be.
pub(crate) fn secure(netns: &NetNs, port: u16, tls: tulle_identity::gateway::ServerTls) {
    let listener = listen(netns, port);
    run(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::task::spawn_local(async move {
                let Ok((stream, accepted)) = tls.accept(tcp).await else {
                    return;
                };
                let shown = accepted.certificate.map(|c| c.dns.join(","));
                let about = format!("secure {} -", shown.unwrap_or_else(|| "nobody".to_owned()));
                let seen = Rc::new(Cell::new(0));
                let handler = async move |request: Request| answer(&about, &seen, request).await;
                let settings = Settings::default();
                let _ = serve(stream, &settings, std::future::pending(), handler).await;
            });
        }
    });
}
