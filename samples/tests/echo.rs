//! The echo over real loopback sockets: what proxies are watched with must itself tell the truth.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tulle_samples::app::{App, Settings};
use tulle_samples::{Role, Server};

struct Named;

impl Settings for Named {
    fn get(&self, name: &str) -> Option<String> {
        (name == "NAME").then(|| "one".to_owned())
    }
}

fn app() -> App {
    App::new(Role::Echo, &Named)
}

async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new(app(), listener).run(std::future::pending()));
    address
}

async fn http1(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn requests_are_told_and_wishes_granted() {
    let address = start().await;
    let answer = http1(address, "/some/path?status=418&header=x-b:2").await;
    assert!(answer.starts_with("HTTP/1.1 418"), "{answer}");
    assert!(answer.contains("x-b: 2\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let seen: Value = serde_json::from_str(body).unwrap();
    assert_eq!(seen["name"], "one");
    assert_eq!(seen["protocol"], "HTTP/1.1");
    assert_eq!(seen["host"], "a.example");
    assert_eq!(seen["path"], "/some/path");
    assert_eq!(seen["headers"]["x-a"][0], "1");
    for expected in ["503", "503", "200"] {
        let answer = http1(address, "/?fail=2&key=k").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn grpc_over_http2_is_answered_with_a_message_and_trailers() {
    let stream = TcpStream::connect(start().await).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://b.example/a.Service/Method")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    let message = body.to_bytes();
    let seen: Value = serde_json::from_slice(&message[5..]).unwrap();
    assert_eq!(seen["protocol"], "HTTP/2.0");
    assert_eq!(seen["host"], "b.example");
    assert_eq!(seen["path"], "/a.Service/Method");
}

#[tokio::test]
async fn websocket_messages_and_bytes_come_back() {
    let mut stream = TcpStream::connect(start().await).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
    assert!(read.starts_with(b"HTTP/1.1 101"));
    // "hi", masked with zeros; unmasked on its way back.
    stream
        .write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'])
        .await
        .unwrap();
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x81, 0x02, b'h', b'i']);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { app().bytes(listener).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"back\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello from one\nback\n");
}
