//! Scripted peers: what is malformed, excessive or hostile.

use super::*;
use crate::frame::{Event, Head, PREFACE, Parser, code, flag, kind, setting};
use crate::{EndReason, Error, hpack, limits};

/// A peer that says exactly what the test wants.
pub(super) struct Peer {
    tcp: TcpStream,
    parser: Parser,
    decoder: hpack::Decoder,
    buffer: Vec<u8>,
}

/// What the peer got, without the frames that every conversation has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Status(u32, u16, bool),
    Data(u32, Vec<u8>, bool),
    Reset(u32, u32),
    GoAway(u32, u32),
    Ping,
    Window(u32, u32),
    End,
}

impl Peer {
    pub(super) async fn new(tcp: TcpStream, preface: bool) -> Self {
        let mut peer = Self {
            tcp,
            parser: Parser::new(1 << 20, 1 << 16),
            decoder: hpack::Decoder::new(),
            buffer: Vec::new(),
        };
        if preface {
            peer.tcp.write_all(PREFACE).await.unwrap();
        } else {
            peer.buffer = vec![0; PREFACE.len()];
            peer.tcp.read_exact(&mut peer.buffer).await.unwrap();
            assert_eq!(peer.buffer, PREFACE);
            peer.buffer.clear();
        }
        peer.send(kind::SETTINGS, 0, 0, &[]).await;
        peer
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let head = Head {
            len: payload.len(),
            kind,
            flags,
            stream,
        };
        // A peer that floods may find the door closed.
        let _ = self
            .tcp
            .write_all(&[&head.encode()[..], payload].concat())
            .await;
    }

    pub(super) async fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            hpack::literal(&mut block, name, value);
        }
        self.send(kind::HEADERS, flag::END_HEADERS, stream, &block)
            .await;
    }

    pub(super) async fn connect(&mut self, stream: u32) {
        self.request(
            stream,
            &[(":method", "CONNECT"), (":authority", "1.2.3.4:80")],
        )
        .await;
    }

    pub(super) async fn get(&mut self) -> Got {
        loop {
            let mut input = &self.buffer[..];
            let event = self.parser.next(&mut input).unwrap();
            let got = event.and_then(|event| match event {
                Event::Headers {
                    stream,
                    block,
                    end_stream,
                } => {
                    let mut status = 0;
                    let decode = self.decoder.decode(&block, 1 << 16, |name, value| {
                        if name == b":status" {
                            status = std::str::from_utf8(value).unwrap().parse().unwrap();
                        }
                    });
                    decode.unwrap();
                    Some(Got::Status(stream, status, end_stream))
                }
                Event::Data {
                    stream,
                    payload,
                    end_stream,
                    ..
                } => Some(Got::Data(stream, payload.to_vec(), end_stream)),
                Event::Reset { stream, code } => Some(Got::Reset(stream, code)),
                Event::GoAway { last, code } => Some(Got::GoAway(last, code)),
                Event::Ping(_) => Some(Got::Ping),
                Event::WindowUpdate { stream, increment } if stream != 0 => {
                    Some(Got::Window(stream, increment))
                }
                _ => None,
            });
            let used = self.buffer.len() - input.len();
            self.buffer.drain(..used);
            match got {
                Some(got) => return got,
                None if used > 0 => {}
                None => {
                    let mut more = [0; 4096];
                    match self.tcp.read(&mut more).await {
                        Ok(0) | Err(_) => return Got::End,
                        Ok(n) => self.buffer.extend_from_slice(&more[..n]),
                    }
                }
            }
        }
    }

    /// Reads until the tunnel is told to be over; the code.
    pub(super) async fn goodbye(&mut self) -> u32 {
        loop {
            match self.get().await {
                Got::GoAway(_, code) => return code,
                Got::End => panic!("no GOAWAY"),
                _ => {}
            }
        }
    }
}

async fn server_and_peer() -> (Connection, Peer) {
    let (connection, tcp) = our_server(&Settings::default()).await;
    (connection, Peer::new(tcp, true).await)
}

#[test]
fn malformed_requests_get_400_and_are_never_yielded() {
    on_worker(async {
        let (mut connection, mut peer) = server_and_peer().await;
        let requests: [&[(&str, &str)]; 8] = [
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "1.2.3.4:80"),
            ],
            &[(":method", "POST"), (":authority", "1.2.3.4:80")],
            &[
                (":method", "CONNECT"),
                (":authority", "1.2.3.4:80"),
                (":path", "/"),
            ],
            &[(":method", "CONNECT")],
            &[
                (":method", "CONNECT"),
                (":authority", "1.2.3.4:80"),
                (":authority", "1.2.3.4:81"),
            ],
            &[(":method", "CONNECT"), (":authority", "user@1.2.3.4:80")],
            &[(":method", "CONNECT"), (":authority", "[fe80::1%eth0]:80")],
            &[(":method", "CONNECT"), (":authority", "1.2.3.4:70000")],
        ];
        for (n, fields) in requests.iter().enumerate() {
            let stream = 2 * n as u32 + 1;
            peer.request(stream, fields).await;
            assert_eq!(
                peer.get().await,
                Got::Status(stream, 400, true),
                "{fields:?}"
            );
            assert_eq!(peer.get().await, Got::Reset(stream, code::NO_ERROR));
        }
        peer.connect(101).await;
        assert_eq!(connection.next().await.unwrap().authority, "1.2.3.4:80");
    });
}

#[test]
fn continuation_padding_and_unknown_frames_are_understood() {
    on_worker(async {
        let (mut connection, mut peer) = server_and_peer().await;
        let mut block = Vec::new();
        hpack::literal(&mut block, ":method", "CONNECT");
        hpack::literal(&mut block, ":authority", "1.2.3.4:80");
        hpack::literal(&mut block, "baggage", &"x".repeat(20_000));
        peer.send(0x99, 7, 0, b"grease").await;
        peer.send(kind::PRIORITY, 0, 9, &[0; 5]).await;
        peer.send(kind::SETTINGS, 0, 0, &[0x0a, 0x0a, 1, 2, 3, 4])
            .await;
        let first = [&[3, 0, 0, 0, 0, 16][..], &block[..10], &[0; 3]].concat();
        peer.send(kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, &first)
            .await;
        peer.send(kind::CONTINUATION, 0, 1, &block[10..16_000])
            .await;
        peer.send(kind::CONTINUATION, flag::END_HEADERS, 1, &block[16_000..])
            .await;
        let request = connection.next().await.unwrap();
        assert_eq!(request.baggage.as_deref().map(str::len), Some(20_000));
        let (mut app, near) = pair().await;
        let running = relay(request.accept(None), near);
        peer.send(
            kind::DATA,
            flag::PADDED,
            1,
            &[&[9][..], b"hel", &[0; 9]].concat(),
        )
        .await;
        peer.send(
            kind::DATA,
            flag::PADDED | flag::END_STREAM,
            1,
            &[&[0][..], b"lo"].concat(),
        )
        .await;
        let mut text = String::new();
        app.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        drop(app);
        assert_eq!(peer.get().await, Got::Status(1, 200, false));
        assert_eq!(peer.get().await, Got::Data(1, vec![], true));
        assert!(matches!(running.await.unwrap().reason, EndReason::Clean));
    });
}

#[test]
fn floods_end_the_tunnel() {
    type Frame = (u8, u8, u32, Vec<u8>);
    type Flood = fn(u32) -> Frame;
    let floods: [(&str, Flood); 5] = [
        ("ping", |_| (kind::PING, 0, 0, vec![0; 8])),
        ("settings", |_| (kind::SETTINGS, 0, 0, vec![])),
        ("empty data", |_| (kind::DATA, 0, 1, vec![])),
        ("padding only", |_| (kind::DATA, flag::PADDED, 1, vec![0])),
        ("unknown", |_| (0x99, 0, 0, vec![])),
    ];
    for (name, flood) in floods {
        on_worker(async move {
            let (mut connection, mut peer) = server_and_peer().await;
            peer.connect(1).await;
            let _request = connection.next().await.unwrap();
            for n in 0..=limits::FLOOD_BUDGET {
                let (kind, flags, stream, payload) = flood(n);
                peer.send(kind, flags, stream, &payload).await;
            }
            assert_eq!(peer.goodbye().await, code::ENHANCE_YOUR_CALM, "{name}");
            assert!(matches!(connection.closed().await, Error::Protocol { .. }));
        });
    }
}

#[test]
fn rapid_reset_ends_the_tunnel() {
    on_worker(async {
        let (mut connection, mut peer) = server_and_peer().await;
        let taking = tokio::task::spawn_local(async move {
            let mut taken = Vec::new();
            while let Some(request) = connection.next().await {
                taken.push(request);
            }
            taken.len()
        });
        for n in 0..=limits::FLOOD_BUDGET {
            peer.connect(2 * n + 1).await;
            peer.send(kind::RST_STREAM, 0, 2 * n + 1, &code::CANCEL.to_be_bytes())
                .await;
        }
        assert_eq!(peer.goodbye().await, code::ENHANCE_YOUR_CALM);
        assert!(taking.await.unwrap() <= limits::FLOOD_BUDGET as usize);
    });
}

#[test]
fn made_you_reset_draws_on_the_same_budget() {
    on_worker(async {
        let (_connection, mut peer) = server_and_peer().await;
        for n in 0..=limits::FLOOD_BUDGET {
            peer.connect(2 * n + 1).await;
            peer.send(kind::WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4]).await;
        }
        assert_eq!(peer.goodbye().await, code::ENHANCE_YOUR_CALM);
    });
}

#[test]
fn header_bombs_end_the_tunnel() {
    on_worker(async {
        let (_connection, mut peer) = server_and_peer().await;
        let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
        block.extend(std::iter::repeat_n(b'x', 4000));
        block.extend(std::iter::repeat_n(0x80 | 62, 100));
        peer.send(kind::HEADERS, flag::END_HEADERS, 1, &block).await;
        assert_eq!(peer.goodbye().await, code::ENHANCE_YOUR_CALM);

        let (_connection, mut peer) = server_and_peer().await;
        peer.send(kind::HEADERS, 0, 1, &[]).await;
        for _ in 0..=limits::MAX_CONTINUATIONS {
            peer.send(kind::CONTINUATION, 0, 1, &[]).await;
        }
        assert_eq!(peer.goodbye().await, code::ENHANCE_YOUR_CALM);
    });
}

#[test]
fn protocol_errors_end_the_tunnel() {
    type Frame = (u8, u8, u32, &'static [u8]);
    let cases: [(&str, u32, Frame); 9] = [
        (
            "even stream",
            code::PROTOCOL_ERROR,
            (kind::HEADERS, flag::END_HEADERS, 2, &[0x88]),
        ),
        (
            "data on an idle stream",
            code::PROTOCOL_ERROR,
            (kind::DATA, 0, 5, b"x"),
        ),
        (
            "reset of an idle stream",
            code::PROTOCOL_ERROR,
            (kind::RST_STREAM, 0, 5, &[0; 4]),
        ),
        (
            "broken compression",
            code::COMPRESSION_ERROR,
            (kind::HEADERS, flag::END_HEADERS, 1, &[0x80]),
        ),
        (
            "window update of 0",
            code::PROTOCOL_ERROR,
            (kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
        ),
        (
            "window overflow",
            code::FLOW_CONTROL_ERROR,
            (kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "initial window",
            code::FLOW_CONTROL_ERROR,
            (kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
        ),
        (
            "frame size",
            code::PROTOCOL_ERROR,
            (kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        ),
        (
            "push",
            code::PROTOCOL_ERROR,
            (kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 4]),
        ),
    ];
    for (name, expected, (kind, flags, stream, payload)) in cases {
        on_worker(async move {
            let (_connection, mut peer) = server_and_peer().await;
            peer.send(kind, flags, stream, payload).await;
            assert_eq!(peer.goodbye().await, expected, "{name}");
        });
    }
}

#[test]
fn something_else_than_http2_is_refused() {
    on_worker(async {
        let (connection, mut tcp) = our_server(&Settings::default()).await;
        tcp.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(connection.closed().await, Error::Protocol { .. }));
        let (tunnel, mut tcp) = our_client(&Settings::default()).await;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(tunnel.closed().await, Error::Protocol { .. }));
    });
}

#[test]
fn data_beyond_the_window_ends_the_tunnel() {
    on_worker(async {
        let settings = Settings {
            stream_window: 1000,
            ..Settings::default()
        };
        let (mut connection, tcp) = our_server(&settings).await;
        let mut peer = Peer::new(tcp, true).await;
        peer.connect(1).await;
        let _unanswered = connection.next().await.unwrap();
        peer.send(kind::DATA, 0, 1, &[0; 1000]).await;
        peer.send(kind::DATA, 0, 1, &[0; 1]).await;
        assert_eq!(peer.goodbye().await, code::FLOW_CONTROL_ERROR);
    });
}

#[test]
fn more_streams_than_allowed_are_refused_one_by_one() {
    on_worker(async {
        let settings = Settings {
            max_streams: 2,
            ..Settings::default()
        };
        let (mut connection, tcp) = our_server(&settings).await;
        let mut peer = Peer::new(tcp, true).await;
        for stream in [1, 3, 5] {
            peer.connect(stream).await;
        }
        assert_eq!(peer.get().await, Got::Reset(5, code::REFUSED_STREAM));
        connection.next().await.unwrap().refuse(401);
        assert_eq!(peer.get().await, Got::Status(1, 401, true));
        assert_eq!(peer.get().await, Got::Reset(1, code::NO_ERROR));
        peer.connect(7).await;
        connection.next().await.unwrap().refuse(503);
        assert_eq!(peer.get().await, Got::Status(3, 503, true));
    });
}

#[test]
fn windows_hold_us_back_and_let_us_go_on() {
    on_worker(async {
        let (tunnel, tcp) = our_client(&Settings::default()).await;
        let mut peer = Peer::new(tcp, false).await;
        let [a, b] = setting::INITIAL_WINDOW_SIZE.to_be_bytes();
        peer.send(kind::SETTINGS, 0, 0, &[a, b, 0, 0, 0, 10]).await;
        let opening = tokio::task::spawn_local({
            let tunnel = tunnel.clone();
            async move { tunnel.open(&connect_to("1.2.3.4:80")).await }
        });
        assert!(matches!(peer.get().await, Got::Status(1, 0, false)));
        peer.send(kind::HEADERS, flag::END_HEADERS, 1, &[0x88])
            .await;
        let stream = opening.await.unwrap().unwrap().stream;
        let (mut app, near) = pair().await;
        let _running = relay(stream, near);
        app.write_all(b"0123456789abcdef").await.unwrap();
        assert_eq!(
            peer.get().await,
            Got::Data(1, b"0123456789".to_vec(), false)
        );
        peer.send(kind::SETTINGS, 0, 0, &[a, b, 0, 0, 0, 12]).await;
        assert_eq!(peer.get().await, Got::Data(1, b"ab".to_vec(), false));
        peer.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).await;
        assert_eq!(peer.get().await, Got::Data(1, b"c".to_vec(), false));
        peer.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 1, 0]).await;
        assert_eq!(peer.get().await, Got::Data(1, b"def".to_vec(), false));
    });
}

#[test]
fn credit_is_returned_when_the_application_has_the_bytes() {
    on_worker(async {
        let settings = Settings {
            stream_window: 1000,
            ..Settings::default()
        };
        let (mut connection, tcp) = our_server(&settings).await;
        let mut peer = Peer::new(tcp, true).await;
        peer.connect(1).await;
        let request = connection.next().await.unwrap();
        peer.send(kind::DATA, 0, 1, &[0; 600]).await;
        peer.send(kind::PING, 0, 0, &[0; 8]).await;
        let (_app, near) = pair().await;
        let _running = relay(request.accept(None), near);
        assert_eq!(peer.get().await, Got::Status(1, 200, false));
        assert_eq!(peer.get().await, Got::Window(1, 600));
    });
}
