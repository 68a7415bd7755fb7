//! What a message, a byte and a connection cost the two proxies of a tunnel, beside a plain two-hop relay: all in one process,
//! over loopback, each part on its own thread. CPU is what the kernel counted for the proxies' threads.
//!
//! `measure rr|bulk|connect tunnel|plain SECONDS CONNECTIONS`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a tool for developers"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::cell::Cell;
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::{Mesh, connect_to};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tulle_hbone::{Pool, Settings, client, relay, server};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, how, seconds, connections] = &arguments[..] else {
        panic!("measure rr|bulk|connect tunnel|plain SECONDS CONNECTIONS");
    };
    let seconds = Duration::from_secs_f64(seconds.parse().unwrap());
    let connections: usize = connections.parse().unwrap();
    let mesh: Arc<Mesh> = Arc::new(Mesh::new());
    let tunnelled = how == "tunnel";

    let app = thread("app", move |out| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        out.send(listener.local_addr().unwrap()).unwrap();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(application(tcp));
        }
    });
    let inbound = {
        let (mesh, app) = (Arc::clone(&mesh), app.at);
        thread("inbound", move |out| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            out.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let mesh = Arc::clone(&mesh);
                tokio::task::spawn_local(async move {
                    if tunnelled {
                        inbound(tcp, &mesh).await
                    } else {
                        forward(tcp, app).await
                    }
                });
            }
        })
    };
    let outbound = {
        let (mesh, app, inbound) = (Arc::clone(&mesh), app.at, inbound.at);
        thread("outbound", move |out| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            out.send(listener.local_addr().unwrap()).unwrap();
            let pool = Rc::new(Pool::new(Settings::default()));
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (pool, mesh) = (Rc::clone(&pool), Arc::clone(&mesh));
                tokio::task::spawn_local(async move {
                    if tunnelled {
                        outbound(tcp, &pool, &mesh, inbound, app).await;
                    } else {
                        forward(tcp, inbound).await;
                    }
                });
            }
        })
    };

    let done = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&done);
    let entry = outbound.at;
    let what = what.clone();
    let kind = what.clone();
    let load = std::thread::spawn(move || {
        worker(async move {
            for _ in 0..connections {
                let count = Arc::clone(&count);
                match kind.as_str() {
                    "rr" => tokio::task::spawn_local(request_response(entry, count)),
                    "bulk" => tokio::task::spawn_local(bulk(entry, count)),
                    _ => tokio::task::spawn_local(connect(entry, count)),
                };
            }
            pending::<()>().await;
        });
    });
    std::thread::sleep(Duration::from_millis(500));
    let before = (
        Instant::now(),
        done.load(Ordering::Relaxed),
        outbound.cpu(),
        inbound.cpu(),
    );
    std::thread::sleep(seconds);
    let after = (
        Instant::now(),
        done.load(Ordering::Relaxed),
        outbound.cpu(),
        inbound.cpu(),
    );
    assert!(!load.is_finished());
    let (units, time) = (
        (after.1 - before.1) as f64,
        (after.0 - before.0).as_secs_f64(),
    );
    let cpu = [after.2 - before.2, after.3 - before.3].map(|nanos| nanos as f64 / units);
    let total = cpu[0] + cpu[1];
    match what.as_str() {
        "bulk" => println!(
            "bulk {how}: {:.2} Gb/s, {total:.3} ns/B of proxies' CPU (out {:.3}, in {:.3})",
            units * 8.0 / time / 1e9,
            cpu[0],
            cpu[1]
        ),
        _ => println!(
            "{what} {how}: {:.0}/s, {:.2} us of proxies' CPU each (out {:.2}, in {:.2})",
            units / time,
            total / 1e3,
            cpu[0] / 1e3,
            cpu[1] / 1e3
        ),
    }
}

struct Part {
    at: SocketAddr,
    task: String,
}

impl Part {
    /// Nanoseconds on a CPU.
    fn cpu(&self) -> u64 {
        let text = std::fs::read_to_string(format!("{}/schedstat", self.task)).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }
}

fn worker(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(future));
}

fn thread<F: Future<Output = ()>>(
    name: &str,
    body: impl FnOnce(mpsc::Sender<SocketAddr>) -> F + Send + 'static,
) -> Part {
    let (out, at) = mpsc::channel();
    let (told, task) = mpsc::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let link = std::fs::read_link("/proc/thread-self").unwrap();
            told.send(format!("/proc/{}", link.display())).unwrap();
            worker(body(out));
        })
        .unwrap();
    Part {
        at: at.recv().unwrap(),
        task: task.recv().unwrap(),
    }
}

/// Answers 64-byte messages; swallows everything larger.
async fn application(mut tcp: TcpStream) {
    tcp.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match tcp.read(&mut buffer).await {
            Ok(64) => {
                if tcp.write_all(&buffer[..64]).await.is_err() {
                    return;
                }
            }
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
}

async fn forward(tcp: TcpStream, to: SocketAddr) {
    let onward = TcpStream::connect(to).await.unwrap();
    onward.set_nodelay(true).unwrap();
    relay::plain(tcp, onward, &Rc::default(), pending()).await;
}

async fn inbound(tcp: TcpStream, mesh: &Mesh) {
    let mut connection = server::accept(tcp, &mesh.server.server, &Settings::default())
        .await
        .unwrap();
    while let Some(request) = connection.next().await {
        tokio::task::spawn_local(async move {
            let app = TcpStream::connect(&request.authority).await.unwrap();
            app.set_nodelay(true).unwrap();
            request
                .accept(None)
                .relay(app, &Rc::default(), pending())
                .await;
        });
    }
}

async fn outbound(
    tcp: TcpStream,
    pool: &Pool<SocketAddr>,
    mesh: &Mesh,
    inbound: SocketAddr,
    to: SocketAddr,
) {
    let connect = async || {
        let tcp = TcpStream::connect(inbound).await?;
        tcp.set_nodelay(true)?;
        client::connect(
            tcp,
            &mesh.client.client,
            mesh.expected(),
            &Settings::default(),
        )
        .await
    };
    let opened = pool.open(inbound, connect, &connect_to(to)).await.unwrap();
    opened.stream.relay(tcp, &Rc::default(), pending()).await;
}

async fn request_response(at: SocketAddr, count: Arc<AtomicU64>) {
    let mut tcp = TcpStream::connect(at).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut message = [7; 64];
    loop {
        tcp.write_all(&message).await.unwrap();
        tcp.read_exact(&mut message).await.unwrap();
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn bulk(at: SocketAddr, count: Arc<AtomicU64>) {
    let mut tcp = TcpStream::connect(at).await.unwrap();
    let chunk = vec![1; 256 << 10];
    let sent = Cell::new(0);
    loop {
        let n = tcp.write(&chunk).await.unwrap();
        sent.set(sent.get() + n);
        count.fetch_add(n as u64, Ordering::Relaxed);
    }
}

async fn connect(at: SocketAddr, count: Arc<AtomicU64>) {
    let mut message = [7; 64];
    loop {
        let mut tcp = TcpStream::connect(at).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.write_all(&message).await.unwrap();
        tcp.read_exact(&mut message).await.unwrap();
        count.fetch_add(1, Ordering::Relaxed);
    }
}
