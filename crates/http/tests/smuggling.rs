//! Bytes in; what the client got, and what the backend saw.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tulle_http::server::{self, Settings};
use tulle_http::upstream::Protocol;
use tulle_http::{Body, Request, Response};

struct Case {
    name: &'static str,
    sent: &'static [&'static [u8]],
    /// Statuses that the client got, in order.
    got: &'static [u16],
    /// Requests that the handler saw.
    saw: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { name: "a plain request", sent: &[b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[200], saw: &["GET x /a?b"] },
    Case { name: "byte by byte", sent: &[b"G", b"ET / HTTP/1.1\r", b"\nHost:", b" x\r\n\r", b"\n"], got: &[200], saw: &["GET x /"] },
    Case { name: "two in one piece", sent: &[b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[200, 200], saw: &["GET x /1", "GET x /2"] },
    Case {
        name: "a body, then a request",
        sent: &[b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"],
        got: &[200, 200], saw: &["POST x /1", "GET x /2"],
    },
    Case {
        name: "chunks, then a request",
        sent: &[b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"0\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"],
        got: &[200, 200], saw: &["POST x /1", "GET x /2"],
    },
    Case { name: "TE and CL", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /s HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "CL and TE", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n"], got: &[400], saw: &[] },
    Case { name: "two lengths", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"], got: &[400], saw: &[] },
    Case { name: "one length twice", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"], got: &[400], saw: &[] },
    Case { name: "a list of lengths", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc"], got: &[400], saw: &[] },
    Case { name: "a signed length", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc"], got: &[400], saw: &[] },
    Case { name: "chunked twice", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "another coding", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], got: &[501], saw: &[] },
    Case { name: "a disguised coding", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "a space before the colon", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "chunks in HTTP/1.0", sent: &[b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "a folded header", sent: &[b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "LF alone after a header", sent: &[b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "LF alone at the end", sent: &[b"GET / HTTP/1.1\r\nHost: x\r\n\n"], got: &[400], saw: &[] },
    Case { name: "CR alone in a header", sent: &[b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 5\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "NUL in a header", sent: &[b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "two hosts", sent: &[b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "no host", sent: &[b"GET / HTTP/1.1\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "a user in the host", sent: &[b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "absolute form", sent: &[b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[200], saw: &["GET x /a"] },
    Case { name: "absolute form with another host", sent: &[b"GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "a fragment", sent: &[b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "a backslash", sent: &[b"GET /a\\..\\b HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "CONNECT", sent: &[b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"], got: &[405], saw: &[] },
    Case { name: "another version", sent: &[b"GET / HTTP/3.0\r\nHost: x\r\n\r\n"], got: &[505], saw: &[] },
    Case { name: "HTTP/0.9", sent: &[b"GET /\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "TLS", sent: &[b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], got: &[400], saw: &[] },
    Case { name: "an expectation", sent: &[b"POST / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n"], got: &[417], saw: &[] },
    Case { name: "a vital header in Connection", sent: &[b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, Host\r\n\r\n"], got: &[400], saw: &[] },
    Case {
        name: "a good request, then a bad one",
        sent: &[b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost : x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n"],
        got: &[200, 400], saw: &["GET x /1"],
    },
    Case { name: "a chunk size with LF alone", sent: &[b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n"], got: &[400], saw: &["POST x /1"] },
    Case { name: "a chunk that is longer than it says", sent: &[b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"], got: &[400], saw: &["POST x /1"] },
    Case {
        name: "a length in the trailers",
        sent: &[b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n"],
        got: &[400], saw: &["POST x /1"],
    },
    Case {
        name: "bytes after an offer to upgrade that is declined",
        sent: &[b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: nonsense\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"],
        got: &[200, 200], saw: &["GET x /1", "GET x /2"],
    },
    Case {
        name: "an offer to upgrade right behind a request",
        sent: &[b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"],
        got: &[200, 200],
        saw: &["GET x /1", "GET x /2"],
    },
    Case {
        name: "HTTP/2 in clear by upgrade",
        sent: &[b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"],
        got: &[200], saw: &["GET x /1"],
    },
    Case { name: "OPTIONS *", sent: &[b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[200], saw: &["OPTIONS x *"] },
    Case { name: "GET *", sent: &[b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[400], saw: &[] },
    Case { name: "HTTP/1.0", sent: &[b"GET /1 HTTP/1.0\r\n\r\n"], got: &[200], saw: &["GET - /1"] },
    Case { name: "an empty line first", sent: &[b"\r\nGET /1 HTTP/1.1\r\nHost: x\r\n\r\n"], got: &[400], saw: &[] },
];

#[test]
fn every_case() {
    on_worker(async {
        let backend = mirror(false).await;
        for case in CASES {
            let proxy = proxy(backend, Protocol::Http1, Settings::default()).await;
            let answer = raw(proxy.at, case.sent).await;
            assert_eq!(statuses(&answer), case.got, "{}:\n{answer}", case.name);
            assert_eq!(*proxy.seen.requests.borrow(), case.saw, "{}", case.name);
            if case.got.last().is_some_and(|last| *last >= 400) && case.saw.len() < case.got.len() {
                assert!(
                    answer.contains("connection: close"),
                    "{}:\n{answer}",
                    case.name
                );
            }
        }
    });
}

#[test]
fn what_is_for_one_hop_does_not_reach_the_backend() {
    on_worker(async {
        let backend = mirror(false).await;
        let proxy = proxy(backend, Protocol::Http1, Settings::default()).await;
        let request = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=3\r\nTE: gzip\r\nUpgrade: foo\r\nProxy-Connection: x\r\nX-Kept: \xe9\r\n\r\n";
        let answer = raw(proxy.at, &[request]).await;
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let names: Vec<_> = body
            .lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .map(|line| line.split(':').next().unwrap())
            .collect();
        assert_eq!(
            names,
            ["host", "x-forwarded-proto", "x-kept", "x-request-id"],
            "{answer}"
        );
        assert!(
            answer.contains("server: istio-envoy\r\n") && answer.contains("date: "),
            "{answer}"
        );
        assert!(
            answer.contains("x-envoy-upstream-service-time: "),
            "{answer}"
        );
    });
}

#[test]
fn sizes_and_slowness() {
    on_worker(async {
        let backend = mirror(false).await;
        let settings = Settings {
            head_deadline: Duration::from_millis(100),
            idle: Duration::from_millis(150),
            stall: Duration::from_millis(100),
            ..Settings::default()
        };
        let proxy = proxy(backend, Protocol::Http1, settings).await;
        let large = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
            "a".repeat(70_000)
        );
        assert_eq!(statuses(&raw(proxy.at, &[large.as_bytes()]).await), [431]);
        let many = format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
            "a: b\r\n".repeat(150)
        );
        assert_eq!(statuses(&raw(proxy.at, &[many.as_bytes()]).await), [431]);
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(40_000));
        assert_eq!(statuses(&raw(proxy.at, &[long.as_bytes()]).await), [414]);
        let fits = format!(
            "GET /{} HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
            "a".repeat(20_000),
            "b".repeat(30_000)
        );
        assert_eq!(statuses(&raw(proxy.at, &[fits.as_bytes()]).await), [200]);
        // A head that does not go on.
        assert_eq!(
            statuses(&raw(proxy.at, &[b"GET / HTTP/1.1\r\nHos"]).await),
            [408]
        );
        // A body that does not go on.
        let answer = raw(
            proxy.at,
            &[b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"],
        )
        .await;
        assert_eq!(statuses(&answer), [408], "{answer}");
        // Nobody has anything to say: the connection closes without a word.
        let began = std::time::Instant::now();
        assert_eq!(raw(proxy.at, &[]).await, "");
        assert!(
            began.elapsed() < Duration::from_millis(290),
            "{:?}",
            began.elapsed()
        );
        // Nor after an answer.
        let began = std::time::Instant::now();
        assert_eq!(
            statuses(&raw(proxy.at, &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]).await),
            [200]
        );
        assert!(
            began.elapsed() < Duration::from_millis(290),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn what_an_upstream_may_not_say() {
    on_worker(async {
        for (script, status) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..], 502),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 502),
            (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 502),
            (b"nonsense\r\n\r\n", 502),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 502),
            (b"", 503),
            (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204),
        ] {
            let (backend, _) = scripted(vec![script]).await;
            let proxy = proxy(backend, Protocol::Http1, Settings::default()).await;
            let answer = raw(proxy.at, &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]).await;
            assert_eq!(statuses(&answer), [status], "{:?}\n{answer}", String::from_utf8_lossy(script));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// However requests are cut into pieces, each is seen once, whole and in order.
    #[test]
    fn pieces_do_not_matter(
        requests in proptest::collection::vec((0usize..40_000, 0u8..3), 1..6),
        cuts in proptest::collection::vec(1usize..9_000, 1..20),
    ) {
        on_worker(async move {
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            for (n, (size, kind)) in requests.into_iter().enumerate() {
                let body = vec![b'a' + n as u8; if kind == 0 { 0 } else { size }];
                let head = match kind {
                    0 => format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n"),
                    1 => format!("POST /{n} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"),
                    _ => format!("POST /{n} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
                };
                sent.extend_from_slice(head.as_bytes());
                if kind == 2 {
                    for chunk in body.chunks(cuts[0] * 3) {
                        sent.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                        sent.extend_from_slice(chunk);
                        sent.extend_from_slice(b"\r\n");
                    }
                    sent.extend_from_slice(b"0\r\n\r\n");
                } else {
                    sent.extend_from_slice(&body);
                }
                expected.push(format!("</{n} {}>", body.len()));
            }
            let (near, far) = tokio::io::duplex(5_000);
            tokio::task::spawn_local(async move {
                let handler = async |request: Request| {
                    let path = request.head.uri.path().to_owned();
                    let (body, _) = request.body.collect(1 << 20).await.unwrap();
                    let right = b'a' + path.as_bytes()[1] - b'0';
                    assert!(body.iter().all(|byte| *byte == right));
                    Response::new(Body::full(format!("<{path} {}>", body.len())))
                };
                server::serve(far, &Settings::default(), std::future::pending(), handler).await
            });
            let (mut read, mut write) = tokio::io::split(near);
            tokio::task::spawn_local(async move {
                let (mut rest, mut sizes) = (&sent[..], cuts.iter().cycle());
                while !rest.is_empty() {
                    let (piece, more) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                    write.write_all(piece).await.unwrap();
                    rest = more;
                }
                std::future::pending::<()>().await;
            });
            let mut got = String::new();
            let mut buffer = [0; 4096];
            while got.matches('>').count() < expected.len() {
                let n = read.read(&mut buffer).await.unwrap();
                assert!(n > 0, "{got}");
                got += std::str::from_utf8(&buffer[..n]).unwrap();
            }
            let bodies: Vec<_> = got.split('<').skip(1).map(|part| format!("<{}", part.split_inclusive('>').next().unwrap())).collect();
            assert_eq!(bodies, expected);
        });
    }
}
