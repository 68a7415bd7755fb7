//! A proxy made of this crate, clients and upstreams around it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Request as HttpRequest, Response as HttpResponse};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tulle_http::body::{Counter, End};
use tulle_http::forward::{self, Source};
use tulle_http::server::{self, Settings};
use tulle_http::upstream::{Options, Outgoing, Pool, Protocol};
use tulle_http::{BoxIo, Flag, Request, Response, grpc, upgrade};

/// Runs a test on a worker, under a deadline.
pub(crate) fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    }));
}

/// What the proxy did, for tests to look at.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Method, host, target of requests that came to the handler.
    pub(crate) requests: Rc<RefCell<Vec<String>>>,
    pub(crate) refused: Rc<RefCell<Vec<&'static str>>>,
    pub(crate) flags: Rc<RefCell<Vec<Flag>>>,
    pub(crate) connects: Rc<Cell<usize>>,
    /// Handlers under way.
    pub(crate) active: Rc<Cell<usize>>,
    pub(crate) served: Rc<Cell<usize>>,
    pub(crate) request_bytes: Rc<RefCell<Vec<Rc<Counter>>>>,
}

struct Active(Rc<Cell<usize>>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

pub(crate) struct Proxy {
    pub(crate) at: SocketAddr,
    pub(crate) seen: Seen,
    pub(crate) pool: Rc<Pool<SocketAddr>>,
    pub(crate) stop: tokio::sync::watch::Sender<bool>,
}

/// A proxy to `upstream`.
pub(crate) async fn proxy(upstream: SocketAddr, protocol: Protocol, settings: Settings) -> Proxy {
    proxy_with(
        upstream,
        Options {
            protocol,
            ..Options::default()
        },
        settings,
    )
    .await
}

pub(crate) async fn proxy_with(
    upstream: SocketAddr,
    options: Options,
    mut settings: Settings,
) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (seen, pool) = (Seen::default(), Rc::new(Pool::new()));
    let refused = Rc::clone(&seen.refused);
    settings.refused = Some(Rc::new(move |refusal| {
        refused.borrow_mut().push(refusal.why)
    }));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let proxy = Proxy {
        at,
        seen: seen.clone(),
        pool: Rc::clone(&pool),
        stop,
    };
    tokio::task::spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let (seen, pool, options, settings) = (
                seen.clone(),
                Rc::clone(&pool),
                options.clone(),
                settings.clone(),
            );
            let mut stopped = stopped.clone();
            tokio::task::spawn_local(async move {
                let served = Rc::clone(&seen.served);
                let handler = async move |request: Request| {
                    pass(&seen, &pool, upstream, &options, request).await
                };
                let stop = async move {
                    let _ = stopped.wait_for(|stop| *stop).await;
                };
                let _ = server::serve(tcp, &settings, stop, handler).await;
                served.set(served.get() + 1);
            });
        }
    });
    proxy
}

async fn pass(
    seen: &Seen,
    pool: &Pool<SocketAddr>,
    upstream: SocketAddr,
    options: &Options,
    request: Request,
) -> Response {
    seen.active.set(seen.active.get() + 1);
    let _active = Active(Rc::clone(&seen.active));
    let Request {
        mut head,
        body,
        upgrade,
    } = request;
    let host = head
        .headers
        .get("host")
        .map_or("-", |host| host.to_str().unwrap());
    seen.requests
        .borrow_mut()
        .push(format!("{} {host} {}", head.method, head.uri));
    forward::request(&mut head.headers, &Scheme::HTTP, Source::Mesh);
    let is_grpc = grpc::is_grpc(&head.headers);
    let counter = Rc::new(Counter::default());
    seen.request_bytes.borrow_mut().push(Rc::clone(&counter));
    let outgoing = Outgoing {
        upgrade: upgrade.as_ref().map(|upgrade| upgrade.protocol().into()),
        ..Outgoing::new(head, body.counted(&counter))
    };
    let connects = Rc::clone(&seen.connects);
    let connect = async || {
        connects.set(connects.get() + 1);
        let tcp = TcpStream::connect(upstream).await?;
        tcp.set_nodelay(true)?;
        Ok::<BoxIo, io::Error>(Box::new(tcp))
    };
    let began = std::time::Instant::now();
    match pool.send(&upstream, options, connect, outgoing).await {
        Ok(answer) => {
            if let (Some(client), Some(server)) = (upgrade, answer.upgrade) {
                tokio::task::spawn_local(async move {
                    let (client, server) = (
                        client.stream().await.unwrap(),
                        server.stream().await.unwrap(),
                    );
                    let _ =
                        upgrade::splice(client, server, &Rc::default(), &Rc::default(), None).await;
                });
            }
            let (mut head, body) = answer.response.into_parts();
            forward::response(&mut head, began.elapsed());
            HttpResponse::from_parts(head, body)
        }
        Err(failure) => {
            seen.flags.borrow_mut().push(failure.flag());
            grpc::local_answer(is_grpc, failure.status(), failure.text())
        }
    }
}

/// An upstream that answers what it got, as text: method, target, some headers, body, trailers.
pub(crate) async fn mirror(http2: bool) -> SocketAddr {
    upstream(http2, async |request: HttpRequest<Incoming>| {
        let (head, body) = request.into_parts();
        let collected = body.collect().await;
        let (body, trailers) = match collected {
            Ok(collected) => {
                let trailers = collected.trailers().cloned();
                (collected.to_bytes(), trailers)
            }
            Err(_) => {
                return HttpResponse::builder()
                    .status(400)
                    .body(Full::default().boxed())
                    .unwrap();
            }
        };
        let mut text = format!(
            "{} {}\n",
            head.method,
            head.uri.path_and_query().map_or("", |path| path.as_str())
        );
        let mut headers: Vec<_> = head
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        if let Some(authority) = head.uri.authority() {
            headers.push(format!(":authority: {authority}"));
        }
        headers.sort();
        text += &headers.join("\n");
        text += &format!("\n\n{}", String::from_utf8_lossy(&body));
        for (name, value) in trailers.iter().flatten_headers() {
            text += &format!("\n{name}: {value}");
        }
        HttpResponse::builder()
            .header("server", "mirror")
            .header("x-body-length", body.len())
            .body(Full::new(Bytes::from(text)).boxed())
            .unwrap()
    })
    .await
}

trait FlattenHeaders {
    fn flatten_headers(self) -> Vec<(String, String)>;
}

impl<'a, I: Iterator<Item = &'a HeaderMap>> FlattenHeaders for I {
    fn flatten_headers(self) -> Vec<(String, String)> {
        self.flat_map(|headers| {
            headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
    }
}

pub(crate) type TestBody = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// An upstream of the HTTP library's own.
pub(crate) async fn upstream<B>(
    http2: bool,
    answer: impl AsyncFn(HttpRequest<Incoming>) -> HttpResponse<B> + 'static,
) -> SocketAddr
where
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let answer = Rc::new(answer);
    tokio::task::spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let answer = Rc::clone(&answer);
            let service = hyper::service::service_fn(move |request| {
                let answer = Rc::clone(&answer);
                async move { Ok::<_, std::convert::Infallible>(answer(request).await) }
            });
            tokio::task::spawn_local(async move {
                if http2 {
                    let mut builder = hyper::server::conn::http2::Builder::new(Local);
                    builder.enable_connect_protocol();
                    let _ = builder.serve_connection(TokioIo::new(tcp), service).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tcp), service)
                        .await;
                }
            });
        }
    });
    at
}

/// An upstream that says what it is told to, byte for byte; each connection gets the next script. What it got goes to the list.
pub(crate) async fn scripted(
    scripts: Vec<&'static [u8]>,
) -> (SocketAddr, Rc<RefCell<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let got: Rc<RefCell<Vec<String>>> = Rc::default();
    let list = Rc::clone(&got);
    tokio::task::spawn_local(async move {
        for script in scripts {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let list = Rc::clone(&list);
            tokio::task::spawn_local(async move {
                let mut head = vec![0; 65536];
                let n = tcp.read(&mut head).await.unwrap_or(0);
                list.borrow_mut()
                    .push(String::from_utf8_lossy(&head[..n]).into_owned());
                let _ = tcp.write_all(script).await;
            });
        }
        std::future::pending::<()>().await;
    });
    (at, got)
}

/// Sends bytes, and reads until the proxy closes or nothing more comes.
pub(crate) async fn raw(at: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    for piece in pieces {
        // The proxy may have closed already.
        let _ = tcp.write_all(piece).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(Ok(n @ 1..)) =
        tokio::time::timeout(Duration::from_millis(300), tcp.read(&mut buffer)).await
    {
        all.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The statuses in what a client got, and whether the connection was to close.
pub(crate) fn statuses(answer: &str) -> Vec<u16> {
    let mut found = Vec::new();
    for (at, _) in answer.match_indices("HTTP/1.") {
        if let Some(status) = answer[at..]
            .get(9..12)
            .and_then(|status| status.parse().ok())
        {
            found.push(status);
        }
    }
    found
}

pub(crate) type Client = hyper::client::conn::http2::SendRequest<TestBody>;

/// A client that speaks HTTP/2.
pub(crate) async fn client_http2<B>(at: SocketAddr) -> hyper::client::conn::http2::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (sender, driver) = hyper::client::conn::http2::Builder::new(Local)
        .handshake(TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::task::spawn_local(async move {
        let _ = driver.await;
    });
    sender
}

/// A client that speaks HTTP/1.1.
pub(crate) async fn client_http1<B>(at: SocketAddr) -> hyper::client::conn::http1::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::task::spawn_local(async move {
        let _ = driver.await;
    });
    sender
}

pub(crate) fn ended(counter: &Counter) -> bool {
    counter.ended() != End::Not
}

pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to that");
}
