//! How many requests a trivial proxy passes on per second and core: client threads, one proxy thread, one upstream thread,
//! loopback in between. `proxy [seconds] [connections] [h1|h2] [h1|h2] [bytes]`: near side, far side, size of the answers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement, run by hand"
)]

use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tulle_http::forward::{self, Source};
use tulle_http::server::{self, Settings};
use tulle_http::upstream::{Options, Outgoing, Pool, Protocol};
use tulle_http::{BoxIo, Request, Response};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: u64| {
        arguments
            .get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let http2 = |at: usize| arguments.get(at).is_some_and(|text| text == "h2");
    let (seconds, connections, bytes) = (number(1, 5), number(2, 64), number(5, 64));
    let (near, far) = (http2(3), http2(4));
    let upstream = thread("upstream", move |at| {
        serve_upstream(at, far, bytes as usize)
    });
    let proxy = thread("passing-on", move |at| serve_proxy(at, upstream, far));
    let direct = load(upstream, far, seconds, connections);
    println!("direct  {:>9.0} requests/s", direct.0);
    let before = cpu_of("passing-on");
    let through = load(proxy, near, seconds, connections);
    let cpu = cpu_of("passing-on") - before;
    let requests = through.0 * seconds as f64;
    println!(
        "proxied {:>9.0} requests/s  p50 {:?} p99 {:?}  {:.1} us of the proxy's core per request: {:.0} requests/s per core",
        through.0,
        through.1,
        through.2,
        cpu * 1e6 / requests,
        requests / cpu,
    );
}

/// A thread with a listener, named, so that its processor time can be told.
fn thread<F: Future<Output = ()>>(
    name: &str,
    serve: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(LocalSet::new().run_until(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            serve(listener).await;
        }));
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .unwrap();
    told.recv().unwrap()
}

/// Seconds of processor time of the thread with this name.
fn cpu_of(name: &str) -> f64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (head, rest) = stat.rsplit_once(')').unwrap();
        if head.ends_with(&format!("({name}")) {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let ticks: f64 =
                fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
            return ticks / 100.0;
        }
    }
    0.0
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(async move {
            task.await;
        });
    }
}

async fn serve_upstream(listener: TcpListener, http2: bool, bytes: usize) {
    let answer = Bytes::from(vec![b'x'; bytes]);
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |_| {
            let answer = answer.clone();
            async move { Ok::<_, Infallible>(http::Response::new(Full::new(answer))) }
        });
        spawn_local(async move {
            let io = TokioIo::new(tcp);
            if http2 {
                let _ = hyper::server::conn::http2::Builder::new(Local)
                    .serve_connection(io, service)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            }
        });
    }
}

async fn serve_proxy(listener: TcpListener, upstream: SocketAddr, http2: bool) {
    let pool = Rc::new(Pool::new());
    let protocol = if http2 {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    let (options, settings) = (
        Rc::new(Options {
            protocol,
            ..Options::default()
        }),
        Settings::default(),
    );
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (pool, options, settings) = (Rc::clone(&pool), Rc::clone(&options), settings.clone());
        spawn_local(async move {
            let handler =
                async move |request: Request| pass(&pool, &options, upstream, request).await;
            let _ = server::serve(tcp, &settings, pending(), handler).await;
        });
    }
}

async fn pass(
    pool: &Pool<SocketAddr>,
    options: &Options,
    upstream: SocketAddr,
    request: Request,
) -> Response {
    let Request { mut head, body, .. } = request;
    forward::request(&mut head.headers, &http::uri::Scheme::HTTP, Source::Mesh);
    let began = Instant::now();
    let connect = async || {
        let tcp = TcpStream::connect(upstream).await?;
        tcp.set_nodelay(true)?;
        Ok::<BoxIo, std::io::Error>(Box::new(tcp))
    };
    match pool
        .send(&upstream, options, connect, Outgoing::new(head, body))
        .await
    {
        Ok(answer) => {
            let (mut head, body) = answer.response.into_parts();
            forward::response(&mut head, began.elapsed());
            Response::from_parts(head, body)
        }
        Err(failure) => tulle_http::grpc::local_answer(false, failure.status(), failure.text()),
    }
}

/// Requests per second, and how long half of them and 99 % of them took at most.
fn load(at: SocketAddr, http2: bool, seconds: u64, connections: u64) -> (f64, Duration, Duration) {
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let times = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(LocalSet::new().run_until(async move {
            let until = Instant::now() + Duration::from_secs(seconds);
            let clients: Vec<_> = (0..connections)
                .map(|_| spawn_local(client(at, http2, until, Arc::clone(&counted))))
                .collect();
            let mut times = Vec::new();
            for client in clients {
                times.extend(client.await.unwrap());
            }
            times.sort_unstable();
            times
        }))
    })
    .join()
    .unwrap();
    let of = |share: f64| {
        times
            .get((times.len() as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    let rate = done.load(Ordering::Relaxed) as f64 / seconds as f64;
    (rate, of(0.5), of(0.99))
}

async fn client(
    at: SocketAddr,
    http2: bool,
    until: Instant,
    done: Arc<AtomicU64>,
) -> Vec<Duration> {
    let tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let io = TokioIo::new(tcp);
    let mut times = Vec::new();
    let authority = at.to_string();
    if http2 {
        let (mut sender, driver) = hyper::client::conn::http2::handshake(Local, io)
            .await
            .unwrap();
        spawn_local(driver);
        while Instant::now() < until {
            let began = Instant::now();
            let request = http::Request::get(format!("http://{authority}/some/path"));
            let response = sender
                .send_request(request.body(Empty::<Bytes>::new()).unwrap())
                .await
                .unwrap();
            response.into_body().collect().await.unwrap();
            times.push(began.elapsed());
            done.fetch_add(1, Ordering::Relaxed);
        }
        return times;
    }
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    spawn_local(driver);
    while Instant::now() < until {
        let began = Instant::now();
        let request = http::Request::get("/some/path")
            .header("host", &authority)
            .header("user-agent", "load");
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new()).unwrap())
            .await
            .unwrap();
        response.into_body().collect().await.unwrap();
        times.push(began.elapsed());
        done.fetch_add(1, Ordering::Relaxed);
    }
    times
}
