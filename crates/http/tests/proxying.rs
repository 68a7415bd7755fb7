//! Requests through a proxy, in all four combinations of HTTP/1.1 and HTTP/2.
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
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tulle_http::server::{Settings, Spoken};
use tulle_http::upstream::{Options, Protocol};
use tulle_http::{Flag, body};

const PAIRS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn spoken(http2: bool) -> Protocol {
    if http2 {
        Protocol::Http2
    } else {
        Protocol::Http1
    }
}

/// One request by a client of the HTTP library's own.
async fn ask<B>(http2: bool, at: std::net::SocketAddr, request: Request<B>) -> Response<Incoming>
where
    B: hyper::body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if http2 {
        client_http2(at).await.send_request(request).await.unwrap()
    } else {
        client_http1(at).await.send_request(request).await.unwrap()
    }
}

fn request<B>(http2: bool, path: &str, body: B) -> Request<B> {
    let builder = Request::builder().method("POST");
    if http2 {
        builder.uri(format!("http://a.example:80{path}"))
    } else {
        builder.uri(path).header("host", "a.example:80")
    }
    .body(body)
    .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
    .unwrap()
}

#[test]
fn bodies_and_headers_in_all_combinations() {
    on_worker(async {
        for (near, far) in PAIRS {
            let backend = mirror(far).await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            for size in [0, 1, 1000, 300_000] {
                let mut request = request(near, "/p?q=1", Full::new(Bytes::from(vec![b'x'; size])));
                request
                    .headers_mut()
                    .append("x-a", HeaderValue::from_static("1"));
                request
                    .headers_mut()
                    .append("x-a", HeaderValue::from_static("2"));
                let response = ask(near, proxy.at, request).await;
                assert_eq!(response.status(), 200, "{near} {far}");
                assert_eq!(response.headers()["x-body-length"], size.to_string());
                assert_eq!(response.headers()["server"], "istio-envoy");
                let body = text(response).await;
                assert!(body.starts_with("POST /p?q=1\n"), "{body}");
                let authority = if far {
                    ":authority: a.example:80"
                } else {
                    "host: a.example:80"
                };
                assert!(body.contains(authority), "{body}");
                assert!(body.contains("x-a: 1\nx-a: 2\n"), "{body}");
                let length = format!("content-length: {size}\n");
                assert!(
                    body.contains(&length) || size == 0,
                    "{near} {far} {size}: {:.300}",
                    body
                );
            }
        }
    });
}

#[test]
fn a_get_may_have_a_body() {
    on_worker(async {
        for far in [false, true] {
            let backend = mirror(far).await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            let chunked = b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            let answer = raw(proxy.at, &[chunked]).await;
            assert!(answer.contains("x-body-length: 3"), "{answer}");
        }
    });
}

#[test]
fn connections_are_used_again() {
    on_worker(async {
        for (near, far) in PAIRS {
            let backend = mirror(far).await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            for n in 0..20 {
                let size = n * 1000;
                let request = request(near, "/", Full::new(Bytes::from(vec![b'x'; size])));
                let response = ask(near, proxy.at, request).await;
                assert!(text(response).await.len() >= size);
            }
            assert_eq!(proxy.seen.connects.get(), 1, "{near} {far}");
            assert_eq!(proxy.pool.connections(), 1);
            proxy.pool.retire_where(|_| true);
            assert_eq!(proxy.pool.connections(), 0);
            ask(near, proxy.at, request(near, "/", Full::<Bytes>::default())).await;
            assert_eq!(proxy.seen.connects.get(), 2, "{near} {far}");
        }
    });
}

#[test]
fn many_at_once_share_a_connection_in_http2() {
    on_worker(async {
        let backend = upstream(true, async |_| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Response::new(Full::new(Bytes::from("late")))
        })
        .await;
        let options = Options {
            protocol: Protocol::Http2,
            max_streams: 30,
            ..Options::default()
        };
        let proxy = proxy_with(backend, options, Settings::default()).await;
        let client = client_http2(proxy.at).await;
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let mut client = client.clone();
                tokio::task::spawn_local(async move {
                    let request = request(true, "/", Full::<Bytes>::default());
                    text(client.send_request(request).await.unwrap()).await
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), "late");
        }
        // The first hundred wait for one connection; whoever finds it full makes the next.
        assert_eq!(proxy.seen.connects.get(), 4);
    });
}

#[test]
fn grpc_streams_both_ways_with_trailers() {
    on_worker(async {
        // Sends back each message as it comes, then trailers.
        let backend = upstream(true, async |request: Request<Incoming>| {
            assert_eq!(request.headers()["te"], "trailers");
            let (mut sender, answer) = body::channel();
            let mut messages = request.into_body();
            tokio::task::spawn_local(async move {
                while let Some(frame) = messages.frame().await {
                    if let Ok(data) = frame.unwrap().into_data() {
                        assert!(sender.send(data).await);
                    }
                }
                let trailers = [
                    ("grpc-status", HeaderValue::from_static("0")),
                    ("x-sum", HeaderValue::from_static("3")),
                ];
                sender.finish_with(HeaderMap::from_iter(
                    trailers.map(|(name, value)| (name.parse().unwrap(), value)),
                ));
            });
            let mut response = Response::new(answer);
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", kind);
            response
        })
        .await;
        let settings = Settings {
            // Silence between messages is no stall.
            stall: Duration::from_millis(20),
            ..Settings::default()
        };
        let proxy = proxy(backend, Protocol::Http2, settings).await;
        let (mut sender, messages) = body::channel();
        let mut request = request(true, "/service/Method", messages);
        request
            .headers_mut()
            .insert("te", HeaderValue::from_static("trailers"));
        let kind = HeaderValue::from_static("application/grpc+proto");
        request.headers_mut().insert("content-type", kind);
        let response = ask(true, proxy.at, request).await;
        let mut answers = response.into_body();
        for n in 0..3 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            assert!(sender.send(format!("message {n}")).await);
            let frame = answers.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), format!("message {n}"));
        }
        sender.finish();
        let trailers = answers
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-sum"]),
            (
                &HeaderValue::from_static("0"),
                &HeaderValue::from_static("3")
            )
        );
    });
}

#[test]
fn grpc_clients_get_grpc_errors() {
    on_worker(async {
        let gone = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let proxy = proxy(gone, Protocol::Http2, Settings::default()).await;
        let mut of_grpc = request(true, "/s/M", Empty::<Bytes>::new());
        let kind = HeaderValue::from_static("application/grpc");
        of_grpc.headers_mut().insert("content-type", kind);
        let response = ask(true, proxy.at, of_grpc).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        let plain = ask(true, proxy.at, request(true, "/", Empty::<Bytes>::new())).await;
        assert_eq!(plain.status(), 503);
        assert!(text(plain).await.starts_with("upstream connect error"));
        assert_eq!(*proxy.seen.flags.borrow(), [Flag::UF, Flag::UF]);
    });
}

#[test]
fn trailers_of_requests_and_answers() {
    on_worker(async {
        for (near, far) in PAIRS {
            let backend = mirror(far).await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            let trailers =
                HeaderMap::from_iter([("x-t".parse().unwrap(), HeaderValue::from_static("v"))]);
            let frames = [Frame::data(Bytes::from("abc")), Frame::trailers(trailers)];
            let body = StreamBody::new(futures(frames));
            let mut request = request(near, "/", body);
            request
                .headers_mut()
                .insert("trailer", HeaderValue::from_static("x-t"));
            let response = ask(near, proxy.at, request).await;
            let body = text(response).await;
            assert!(body.ends_with("\n\nabc\nx-t: v"), "{near} {far}: {body}");
        }
    });
}

/// A stream of frames that are all there.
fn futures(
    frames: [Frame<Bytes>; 2],
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Unpin {
    futures_util::stream::iter(frames.map(Ok))
}

#[test]
fn server_sent_events_are_not_held_back() {
    on_worker(async {
        for (near, far) in PAIRS {
            let (events, answer) = body::channel();
            let answer = Rc::new(Cell::new(Some(answer)));
            let backend = upstream(far, async move |_| {
                let mut response = Response::new(answer.take().unwrap());
                let kind = HeaderValue::from_static("text/event-stream");
                response.headers_mut().insert("content-type", kind);
                response
            })
            .await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            let response = ask(near, proxy.at, request(near, "/", Empty::<Bytes>::new())).await;
            let mut got = response.into_body();
            let mut events = events;
            for n in 0..5 {
                assert!(events.send(format!("data: {n}\n\n")).await);
                let frame = tokio::time::timeout(Duration::from_millis(500), got.frame());
                let frame = frame.await.expect("held back").unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), format!("data: {n}\n\n"));
            }
        }
    });
}

#[test]
fn large_bodies_wait_for_their_reader() {
    on_worker(async {
        for (near, far) in PAIRS {
            // Answers at once with an endless body, and counts how much of it was taken.
            let taken = Rc::new(Cell::new(0u64));
            let counted = Rc::clone(&taken);
            let backend = upstream(far, async move |_| {
                let (mut sender, answer) = body::channel();
                let counted = Rc::clone(&counted);
                tokio::task::spawn_local(async move {
                    while sender.send(vec![7; 16 << 10]).await {
                        counted.set(counted.get() + (16 << 10));
                    }
                });
                Response::new(answer)
            })
            .await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            let response = ask(near, proxy.at, request(near, "/", Empty::<Bytes>::new())).await;
            let mut body = response.into_body();
            let mut last = u64::MAX;
            // The client does not read: it comes to a stop, far below what it would be without flow control.
            while last != taken.get() {
                last = taken.get();
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            // Windows, and the kernel's socket buffers on four sockets.
            assert!(taken.get() < 40 << 20, "{near} {far}: {}", taken.get());
            let (mut read, enough) = (0, taken.get() as usize + (8 << 20));
            while read < enough {
                read += body
                    .frame()
                    .await
                    .unwrap()
                    .unwrap()
                    .into_data()
                    .unwrap()
                    .len();
            }
            // The client goes: so does the upstream's work.
            drop(body);
            let stopped = Rc::clone(&taken);
            let mut before = 0;
            until(|| before == std::mem::replace(&mut before, stopped.get())).await;
        }
    });
}

#[test]
fn uploads_wait_for_the_backend() {
    on_worker(async {
        for (near, far) in PAIRS {
            let backend = upstream(far, async |request: Request<Incoming>| {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let length = request
                    .into_body()
                    .collect()
                    .await
                    .unwrap()
                    .to_bytes()
                    .len();
                Response::new(Full::new(Bytes::from(length.to_string())))
            })
            .await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            let (mut sender, upload) = body::channel();
            let sent = Rc::new(Cell::new(0u64));
            let counted = Rc::clone(&sent);
            tokio::task::spawn_local(async move {
                for _ in 0..2000 {
                    assert!(sender.send(vec![7; 32 << 10]).await);
                    counted.set(counted.get() + (32 << 10));
                }
                sender.finish();
            });
            let at = proxy.at;
            let asking = tokio::task::spawn_local(async move {
                text(ask(near, at, request(near, "/", upload)).await).await
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(sent.get() < 40 << 20, "{near} {far}: {}", sent.get());
            assert_eq!(asking.await.unwrap(), (64_000 << 10).to_string());
        }
    });
}

#[test]
fn clients_that_vanish_take_their_requests_along() {
    on_worker(async {
        for (near, far) in PAIRS {
            let began = Rc::new(Cell::new(0));
            let counted = Rc::clone(&began);
            let backend = upstream(far, async move |_| {
                counted.set(counted.get() + 1);
                std::future::pending::<Response<Full<Bytes>>>().await
            })
            .await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            let at = proxy.at;
            let asking = tokio::task::spawn_local(async move {
                if near {
                    let mut client = client_http2(at).await;
                    let _ = client
                        .send_request(request(true, "/", Empty::<Bytes>::new()))
                        .await;
                } else {
                    let mut tcp = TcpStream::connect(at).await.unwrap();
                    tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                        .await
                        .unwrap();
                    std::future::pending::<()>().await;
                }
            });
            until(|| began.get() == 1).await;
            assert_eq!(proxy.seen.active.get(), 1);
            asking.abort();
            until(|| proxy.seen.active.get() == 0).await;
        }
    });
}

#[test]
fn an_early_answer_ends_the_upload() {
    on_worker(async {
        let backend = upstream(false, async |_| {
            let mut response = Response::new(Full::new(Bytes::from("too large")));
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            response
        })
        .await;
        let proxy = proxy(backend, Protocol::Http1, Settings::default()).await;
        let mut tcp = TcpStream::connect(proxy.at).await.unwrap();
        tcp.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
            .await
            .unwrap();
        let mut answer = vec![0; 4096];
        let n = tcp.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        // The rest of the body is no request.
        let mut more = [0; 64];
        let rest = tokio::time::timeout(Duration::from_secs(3), async {
            let _ = tcp
                .write_all(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
                .await;
            tcp.read(&mut more).await
        });
        assert!(matches!(rest.await, Ok(Ok(0) | Err(_)) | Err(_)));
        assert_eq!(*proxy.seen.requests.borrow(), ["POST x /"]);
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it_when_the_backend_takes_the_body() {
    on_worker(async {
        let backend = mirror(false).await;
        let proxy = proxy(backend, Protocol::Http1, Settings::default()).await;
        let mut tcp = TcpStream::connect(proxy.at).await.unwrap();
        tcp.write_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        )
        .await
        .unwrap();
        let mut first = [0; 25];
        tcp.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
        tcp.write_all(b"abc").await.unwrap();
        let mut answer = vec![0; 4096];
        let n = tcp.read(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(
            answer.contains("x-body-length: 3") && !answer.contains("expect"),
            "{answer}"
        );
    });
}

#[test]
fn websockets_in_all_combinations() {
    on_worker(async {
        for (near, far) in PAIRS {
            let backend = echoing_websocket(far).await;
            let proxy = proxy(backend, spoken(far), Settings::default()).await;
            let builder = Request::builder().header("sec-websocket-version", "13");
            let mut response = if near {
                let mut request = builder
                    .method("CONNECT")
                    .uri("http://x/ws")
                    .body(Empty::<Bytes>::new())
                    .unwrap();
                request
                    .extensions_mut()
                    .insert(hyper::ext::Protocol::from_static("websocket"));
                let mut client = client_http2(proxy.at).await;
                // The proxy's SETTINGS must be there.
                tokio::time::sleep(Duration::from_millis(30)).await;
                let response = client.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200, "{far}");
                response
            } else {
                let request = builder
                    .uri("/ws")
                    .header("host", "x")
                    .header("connection", "Upgrade")
                    .header("upgrade", "websocket")
                    .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                    .body(Empty::<Bytes>::new())
                    .unwrap();
                let (response, _) = upgrading_client(proxy.at, request).await;
                assert_eq!(response.status(), 101, "{far}");
                assert_eq!(response.headers()["upgrade"], "websocket");
                assert_eq!(
                    response.headers()["sec-websocket-accept"],
                    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
                );
                response
            };
            let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
            let mut io = hyper_util::rt::TokioIo::new(upgraded);
            for size in [5usize, 100_000] {
                let message = vec![9; size];
                let (mut read, mut write) = tokio::io::split(&mut io);
                let mut back = vec![0; size];
                let (sent, got) =
                    tokio::join!(write.write_all(&message), read.read_exact(&mut back));
                sent.unwrap();
                got.unwrap();
                assert!(back == message);
            }
            io.shutdown().await.unwrap();
            assert_eq!(io.read(&mut [0; 1]).await.unwrap(), 0, "{near} {far}");
        }
    });
}

async fn upgrading_client(
    at: std::net::SocketAddr,
    request: Request<Empty<Bytes>>,
) -> (Response<Incoming>, ()) {
    let tcp = TcpStream::connect(at).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(tcp);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::task::spawn_local(async move {
        driver.with_upgrades().await.unwrap();
    });
    (sender.send_request(request).await.unwrap(), ())
}

/// Takes upgrades and sends back what comes.
async fn echoing_websocket(http2: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let service =
                hyper::service::service_fn(move |mut request: Request<Incoming>| async move {
                    let mut response = Response::new(Empty::<Bytes>::new());
                    if http2 {
                        let protocol = request.extensions().get::<hyper::ext::Protocol>().unwrap();
                        assert_eq!(
                            (request.method().as_str(), protocol.as_str()),
                            ("CONNECT", "websocket")
                        );
                        assert!(!request.headers().contains_key("sec-websocket-key"));
                    } else {
                        assert_eq!(
                            (request.method().as_str(), &request.headers()["upgrade"]),
                            ("GET", &HeaderValue::from_static("websocket"))
                        );
                        let key = request.headers()["sec-websocket-key"].clone();
                        // Clients of HTTP/2 have none: the proxy made one.
                        assert_eq!(key.len(), 24);
                        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                        let headers = response.headers_mut();
                        headers.insert("connection", HeaderValue::from_static("Upgrade"));
                        headers.insert("upgrade", HeaderValue::from_static("websocket"));
                        headers.insert(
                            "sec-websocket-accept",
                            HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                        );
                    }
                    assert_eq!(
                        (
                            request.uri().path(),
                            &request.headers()["sec-websocket-version"]
                        ),
                        ("/ws", &HeaderValue::from_static("13"))
                    );
                    tokio::task::spawn_local(async move {
                        let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
                        let (mut read, mut write) =
                            tokio::io::split(hyper_util::rt::TokioIo::new(upgraded));
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                        let _ = write.shutdown().await;
                    });
                    Ok::<_, std::convert::Infallible>(response)
                });
            tokio::task::spawn_local(async move {
                let io = hyper_util::rt::TokioIo::new(tcp);
                if http2 {
                    let mut builder = hyper::server::conn::http2::Builder::new(Local);
                    let _ = builder
                        .enable_connect_protocol()
                        .serve_connection(io, service)
                        .await;
                } else {
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(io, service);
                    let _ = connection.with_upgrades().await;
                }
            });
        }
    });
    at
}

#[test]
fn the_version_is_what_the_client_begins_with_unless_it_is_said() {
    on_worker(async {
        let backend = mirror(false).await;
        let only_one = Settings {
            protocol: Spoken::Http1,
            ..Settings::default()
        };
        let proxy = proxy(backend, Protocol::Http1, only_one).await;
        let preface = raw(proxy.at, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]).await;
        assert_eq!(statuses(&preface), [505], "{preface}");
        let response = ask(false, proxy.at, request(false, "/", Empty::<Bytes>::new())).await;
        assert_eq!(response.version(), Version::HTTP_11);
    });
}
