//! Connections that drain, die, flood or lie idle; requests that may be sent again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tulle_http::server::{self, Settings};
use tulle_http::upstream::{Cause, Options, Outgoing, Pool, Protocol, Retry};
use tulle_http::{Body, BoxIo, Flag};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_draining_server_says_so_and_finishes_what_it_began() {
    on_worker(async {
        let backend = upstream(false, async |_| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Response::new(Full::new(Bytes::from("done")))
        })
        .await;
        let settings = Settings {
            drain_idle: Duration::from_millis(300),
            ..Settings::default()
        };
        let proxy = proxy(backend, Protocol::Http1, settings).await;
        // One in the middle of a request, one idle that is used once more, one idle for good; and one of HTTP/2.
        let mut busy = TcpStream::connect(proxy.at).await.unwrap();
        busy.write_all(GET).await.unwrap();
        let mut used = TcpStream::connect(proxy.at).await.unwrap();
        used.write_all(GET).await.unwrap();
        let mut answer = vec![0; 4096];
        let n = used.read(&mut answer).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer[..n]).contains("connection: close"));
        let mut idle = TcpStream::connect(proxy.at).await.unwrap();
        let mut client = client_http2(proxy.at).await;
        let request = || {
            Request::builder()
                .uri("http://x/")
                .body(Empty::<Bytes>::new())
                .unwrap()
        };
        let first = client.send_request(request()).await.unwrap();
        drop(first);
        let under_way = client.send_request(request());
        assert!(busy.read(&mut answer).await.unwrap() > 0);
        busy.write_all(GET).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let stopped = Instant::now();
        proxy.stop.send(true).unwrap();
        let n = busy.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(
            text.contains("connection: close") && text.ends_with("done"),
            "{text}"
        );
        assert_eq!(busy.read(&mut answer).await.unwrap(), 0);
        used.write_all(GET).await.unwrap();
        let n = used.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(
            text.contains("connection: close") && text.ends_with("done"),
            "{text}"
        );
        assert_eq!(under_way.await.unwrap().status(), 200);
        assert_eq!(idle.read(&mut answer).await.unwrap(), 0);
        assert!(stopped.elapsed() >= Duration::from_millis(300));
        until(|| client.is_closed()).await;
        drop((busy, used, idle));
        until(|| proxy.seen.served.get() == 4).await;
    });
}

/// A connection to the pool's taste, and how many were made.
async fn connect(at: std::net::SocketAddr, made: &Cell<usize>) -> std::io::Result<BoxIo> {
    made.set(made.get() + 1);
    Ok(Box::new(TcpStream::connect(at).await?))
}

fn get() -> Outgoing {
    let request = Request::builder().uri("/").header("host", "x");
    Outgoing::new(request.body(()).unwrap().into_parts().0, Body::empty())
}

#[test]
fn a_pooled_connection_that_died_is_replaced_without_a_word() {
    on_worker(async {
        // Each connection serves one request, promises to stay, and leaves.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let served = Rc::new(Cell::new(0));
        let count = Rc::clone(&served);
        tokio::task::spawn_local(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut request = [0; 1000];
                assert!(tcp.read(&mut request).await.unwrap() > 0);
                tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await
                    .unwrap();
                count.set(count.get() + 1);
            }
        });
        let (pool, made) = (Pool::new(), Cell::new(0));
        let options = Options::default();
        for n in 1..=5 {
            let answer = pool
                .send(&(), &options, async || connect(at, &made).await, get())
                .await
                .unwrap();
            assert_eq!(
                answer.response.into_body().collect(10).await.unwrap().0,
                "ok"
            );
            assert_eq!((made.get(), served.get()), (n, n));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn what_may_be_sent_again_is_said() {
    on_worker(async {
        let (pool, made) = (Pool::new(), Cell::new(0));
        let options = Options {
            connect_deadline: Duration::from_millis(50),
            ..Options::default()
        };
        let send = async |key: u8, at, request| {
            let sent = pool
                .send(&key, &options, async || connect(at, &made).await, request)
                .await;
            sent.map(|answer| answer.response.status()).unwrap_err()
        };
        // Nobody listens.
        let gone = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let failure = send(1, gone, get()).await;
        assert!(matches!(failure.cause, Cause::Connect(_)), "{failure}");
        assert_eq!(
            (failure.retry, failure.flag(), failure.status().as_u16()),
            (Retry::Safe, Flag::UF, 503)
        );
        // The upstream reads the request and leaves.
        let (leaves, _) = scripted(vec![b""]).await;
        let failure = send(2, leaves, get()).await;
        assert!(matches!(failure.cause, Cause::Closed), "{failure}");
        assert_eq!(
            (failure.retry, failure.flag()),
            (Retry::Idempotent, Flag::UC)
        );
        // It says nonsense.
        let (mumbles, _) = scripted(vec![b"hm\r\n\r\n"]).await;
        let failure = send(3, mumbles, get()).await;
        assert_eq!(
            (failure.flag(), failure.status().as_u16()),
            (Flag::UPE, 502),
            "{failure}"
        );
        // It says nothing.
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut late = get();
        late.deadline = Some(Instant::now() + Duration::from_millis(50));
        let failure = send(4, mute.local_addr().unwrap(), late).await;
        assert_eq!(
            (failure.flag(), failure.status().as_u16(), failure.retry),
            (Flag::UT, 504, Retry::Idempotent)
        );
        // The connection takes too long.
        let never = async || std::future::pending::<Result<BoxIo, std::io::Error>>().await;
        let failure = pool.send(&5, &options, never, get()).await.unwrap_err();
        assert_eq!((failure.flag(), failure.retry), (Flag::UF, Retry::Safe));
        assert!(failure.is_connect_failure());
        // The client's body fails.
        let (mut sender, body) = tulle_http::body::channel();
        sender.send("x").await;
        drop(sender);
        let (patient, _) = scripted(vec![b""; 1]).await;
        let failure = send(6, patient, Outgoing { body, ..get() }).await;
        assert_eq!(
            (failure.flag(), failure.retry),
            (Flag::DC, Retry::Never),
            "{failure}"
        );
    });
}

/// A scripted HTTP/2 upstream: SETTINGS, then whatever the script answers to the first request.
async fn scripted_http2(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                tcp.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                let mut buffer = [0; 4096];
                let mut seen = Vec::new();
                // HEADERS of stream 1.
                while !seen
                    .windows(9)
                    .any(|frame| frame[3] == 1 && frame[5..] == [0, 0, 0, 1])
                {
                    let n = tcp.read(&mut buffer).await.unwrap();
                    seen.extend_from_slice(&buffer[..n]);
                }
                tcp.write_all(answer).await.unwrap();
                while tcp.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    at
}

#[test]
fn what_an_http2_upstream_refuses_unseen_is_safe_to_send_again() {
    on_worker(async {
        let options = Options {
            protocol: Protocol::Http2,
            ..Options::default()
        };
        for (answer, flag, retry) in [
            // RST_STREAM: REFUSED_STREAM, INTERNAL_ERROR.
            (
                &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7][..],
                Flag::UR,
                Retry::Safe,
            ),
            (
                &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2],
                Flag::UR,
                Retry::Idempotent,
            ),
            // GOAWAY: nothing was seen.
            (
                &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                Flag::UR,
                Retry::Safe,
            ),
            // A frame that is none.
            (
                &[0, 0, 1, 6, 0, 0, 0, 0, 0, 0],
                Flag::UPE,
                Retry::Idempotent,
            ),
        ] {
            let at = scripted_http2(answer).await;
            let (pool, made) = (Pool::new(), Cell::new(0));
            let sent = pool
                .send(&(), &options, async || connect(at, &made).await, get())
                .await;
            let failure = sent.map(|answer| answer.response.status()).unwrap_err();
            assert_eq!(
                (failure.flag(), failure.retry),
                (flag, retry),
                "{answer:?}: {failure}"
            );
        }
    });
}

#[test]
fn connections_age_and_have_their_number_of_requests() {
    on_worker(async {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let at = mirror(protocol == Protocol::Http2).await;
            let (pool, made) = (Pool::new(), Cell::new(0));
            let ask = async |options: Options| {
                let options = Options {
                    protocol,
                    ..options
                };
                let answer = pool
                    .send(&(), &options, async || connect(at, &made).await, get())
                    .await
                    .unwrap();
                answer.response.into_body().collect(10_000).await.unwrap();
            };
            for _ in 0..6 {
                ask(Options {
                    max_requests: Some(3),
                    ..Options::default()
                })
                .await;
            }
            assert_eq!(made.replace(0), 2, "{protocol:?}");
            pool.retire_where(|_| true);
            for _ in 0..3 {
                ask(Options {
                    max_age: Some(Duration::from_millis(30)),
                    ..Options::default()
                })
                .await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(made.replace(0), 2, "{protocol:?}");
            pool.retire_where(|_| true);
            ask(Options {
                idle: Duration::from_millis(30),
                ..Options::default()
            })
            .await;
            assert_eq!(pool.connections(), 1);
            tokio::time::sleep(Duration::from_millis(1200)).await;
            assert_eq!(
                pool.connections(),
                0,
                "{protocol:?}: nobody looks after idle connections"
            );
        }
    });
}

#[test]
fn a_failed_connection_fails_for_all_who_waited_for_it() {
    on_worker(async {
        let (pool, made) = (Rc::new(Pool::new()), Rc::new(Cell::new(0)));
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (pool, made) = (Rc::clone(&pool), Rc::clone(&made));
                tokio::task::spawn_local(async move {
                    let options = Options {
                        protocol: Protocol::Http2,
                        ..Options::default()
                    };
                    let connect = async || {
                        made.set(made.get() + 1);
                        tokio::task::yield_now().await;
                        Err::<BoxIo, _>("no route")
                    };
                    pool.send(&(), &options, connect, get())
                        .await
                        .unwrap_err()
                        .to_string()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(
                task.await.unwrap(),
                "no connection to the upstream: no route"
            );
        }
        assert_eq!(made.get(), 1);
    });
}

/// What a client of HTTP/2 that keeps to no rule gets: how long until it is cut off.
async fn flood(at: std::net::SocketAddr, first: &[u8], frame: &[u8]) -> bool {
    let mut tcp = TcpStream::connect(at).await.unwrap();
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    tcp.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    tcp.write_all(first).await.unwrap();
    let many: Vec<u8> = frame
        .iter()
        .copied()
        .cycle()
        .take(frame.len() * 500)
        .collect();
    let (mut read, mut write) = tcp.split();
    let listen = async {
        let mut sink = vec![0; 65536];
        while read.read(&mut sink[..]).await.is_ok_and(|n| n > 0) {}
    };
    let talk = async {
        for _ in 0..10 {
            if write.write_all(&many).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::time::timeout(Duration::from_secs(5), async {
        tokio::select! {
            () = listen => {}
            () = talk => {}
        }
    })
    .await
    .is_ok()
}

#[test]
fn floods_are_cut_off() {
    on_worker(async {
        let backend = mirror(false).await;
        let proxy = proxy(backend, Protocol::Http1, Settings::default()).await;
        // HEADERS of stream 1 without its end: GET http x /.
        let headers: &[u8] = &[0, 0, 6, 1, 0, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'x'];
        let complete: &[u8] = &[0, 0, 6, 1, 4, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'x'];
        for (name, first, frame) in [
            (
                "PING",
                &[][..],
                &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..],
            ),
            ("SETTINGS", &[], &[0, 0, 0, 4, 0, 0, 0, 0, 0]),
            ("PRIORITY", &[], &[0, 0, 5, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1]),
            ("CONTINUATION", headers, &[0, 0, 0, 9, 0, 0, 0, 0, 1]),
            ("empty DATA", complete, &[0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            assert!(flood(proxy.at, first, frame).await, "{name}");
        }
        // Rapid reset: each request is cancelled at once.
        let mut tcp = TcpStream::connect(proxy.at).await.unwrap();
        tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let mut sent = Vec::new();
        for id in (1..20_000u32).step_by(2) {
            let id = id.to_be_bytes();
            sent.extend_from_slice(&[
                0, 0, 6, 1, 5, id[0], id[1], id[2], id[3], 0x82, 0x86, 0x84, 0x41, 1, b'x',
            ]);
            sent.extend_from_slice(&[0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
        }
        let (mut read, mut write) = tcp.split();
        let ended = async {
            let mut sink = vec![0; 65536];
            while read.read(&mut sink[..]).await.is_ok_and(|n| n > 0) {}
        };
        let (_, ended) = tokio::join!(
            write.write_all(&sent),
            tokio::time::timeout(Duration::from_secs(5), ended)
        );
        assert!(ended.is_ok(), "rapid reset");
        assert!(
            proxy.seen.requests.borrow().len() < 1200,
            "{}",
            proxy.seen.requests.borrow().len()
        );
        until(|| proxy.seen.active.get() == 0).await;
        // And others are served as ever.
        assert_eq!(statuses(&raw(proxy.at, &[GET]).await), [200]);
    });
}

#[test]
fn streams_are_limited_and_idle_http2_connections_close() {
    on_worker(async {
        let running = Rc::new(Cell::new((0, 0)));
        let counted = Rc::clone(&running);
        let backend = upstream(true, async move |request: Request<Incoming>| {
            let (now, most) = counted.get();
            counted.set((now + 1, most.max(now + 1)));
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(request);
            let (now, most) = counted.get();
            counted.set((now - 1, most));
            Response::new(Full::new(Bytes::from("ok")))
        })
        .await;
        let settings = Settings {
            max_streams: 5,
            idle: Duration::from_millis(150),
            ..Settings::default()
        };
        let proxy = proxy(backend, Protocol::Http2, settings).await;
        let mut client = client_http2(proxy.at).await;
        let request = || {
            Request::builder()
                .uri("http://x/")
                .body(Empty::<Bytes>::new())
                .unwrap()
        };
        client.send_request(request()).await.unwrap();
        let all: Vec<_> = (0..40)
            .map(|_| tokio::task::spawn_local(client.send_request(request())))
            .collect();
        for one in all {
            let response = one.await.unwrap().unwrap();
            assert_eq!(
                response.into_body().collect().await.unwrap().to_bytes(),
                "ok"
            );
        }
        assert!(running.get().1 <= 5, "{:?}", running.get());
        until(|| client.is_closed()).await;
    });
}

#[test]
fn an_http2_head_that_does_not_end_is_cut_off() {
    on_worker(async {
        let backend = mirror(false).await;
        let settings = Settings {
            head_deadline: Duration::from_millis(100),
            ..Settings::default()
        };
        let proxy = proxy(backend, Protocol::Http1, settings).await;
        let mut tcp = TcpStream::connect(proxy.at).await.unwrap();
        tcp.write_all(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82",
        )
        .await
        .unwrap();
        let began = Instant::now();
        while tcp.read(&mut [0; 100]).await.is_ok_and(|n| n > 0) {}
        assert!(began.elapsed() < Duration::from_secs(2));
        assert_eq!(
            *proxy.seen.refused.borrow(),
            ["the request's head took too long"]
        );
    });
}

/// A client of a server that answers without having read what it is sent.
async fn of_one_who_reads_no_body() -> h2::client::SendRequest<Bytes> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let handler = async |_unread| Response::new(Body::full("no such method"));
        let stop = std::future::pending();
        let _ = server::serve(tcp, &Settings::default(), stop, handler).await;
    });
    let tcp = TcpStream::connect(at).await.unwrap();
    let (client, driver) = h2::client::handshake(tcp).await.unwrap();
    tokio::task::spawn_local(driver);
    client
}

#[test]
fn a_small_request_that_is_answered_before_its_end_is_not_reset() {
    on_worker(async {
        let mut client = of_one_who_reads_no_body().await;
        let mut ask = |size: usize| {
            let request = Request::post("http://x/a.B/C").body(()).unwrap();
            let (answer, mut body) = client.send_request(request, false).unwrap();
            async move {
                let mut answer = answer.await.unwrap().into_body();
                while let Some(data) = answer.data().await {
                    data.unwrap();
                }
                body.send_data(Bytes::from(vec![0; size]), false).unwrap();
                // Read out, it ends; too large, it is reset although nothing is wrong with it.
                let reset = std::future::poll_fn(|cx| body.poll_reset(cx));
                match tokio::time::timeout(Duration::from_millis(200), reset).await {
                    Ok(reset) => Some(reset.unwrap()),
                    Err(_elapsed) => {
                        body.send_data(Bytes::new(), true).unwrap();
                        None
                    }
                }
            }
        };
        assert_eq!(ask(5).await, None);
        assert_eq!(ask(300_000).await, Some(h2::Reason::NO_ERROR));
    });
}

/// curl 7 may wait for ever for the end of an answer that comes while it still sends.
#[test]
fn an_answer_waits_a_moment_for_the_end_of_its_request() {
    on_worker(async {
        let mut client = of_one_who_reads_no_body().await;
        let mut ask = || {
            let request = Request::post("http://x/a.B/C").body(()).unwrap();
            client.send_request(request, false).unwrap()
        };
        let (mut answer, mut body) = ask();
        let early = tokio::time::timeout(Duration::from_millis(5), &mut answer).await;
        assert!(early.is_err(), "answered in the middle of the request");
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        answer.await.unwrap();
        // Who goes on sending gets the answer all the same.
        let (answer, _open) = ask();
        answer.await.unwrap();
    });
}
