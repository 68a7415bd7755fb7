//! The `h2` crate on the other side: what ztunnel itself is built on.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use super::*;
use crate::{EndReason, Error, OpenError};

/// Sends `message` and reads as much back, under flow control.
async fn h2_echo(send: &mut h2::SendStream<Bytes>, receive: &mut h2::RecvStream, message: &[u8]) {
    let sending = async {
        let mut rest = Bytes::copy_from_slice(message);
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx))
                .await
                .unwrap()
                .unwrap();
            send.send_data(rest.split_to(room.min(rest.len())), false)
                .unwrap();
        }
    };
    let receiving = async {
        let mut seen = Vec::new();
        while seen.len() < message.len() {
            let data = receive.data().await.unwrap().unwrap();
            receive.flow_control().release_capacity(data.len()).unwrap();
            seen.extend_from_slice(&data);
        }
        assert!(seen == message);
    };
    tokio::join!(sending, receiving);
}

/// The peer ends the stream, without another byte.
async fn ended(receive: &mut h2::RecvStream) {
    while let Some(data) = receive.data().await {
        assert!(data.unwrap().is_empty());
    }
}

fn h2_request(authority: &str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(authority)
        .header(
            "baggage",
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,service.name=sleep",
        )
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        )
        .body(())
        .unwrap()
}

async fn h2_client(tcp: TcpStream) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::Builder::new()
        .handshake::<_, Bytes>(tcp)
        .await
        .unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    client
}

#[test]
fn h2_as_client() {
    on_worker(async {
        let (connection, tcp) = our_server(&Settings::default()).await;
        serve_echo(connection, echo().await);
        let mut client = h2_client(tcp).await.ready().await.unwrap();
        for round in 0..3 {
            let (answer, mut send) = client
                .send_request(h2_request("10.0.0.1:80"), false)
                .unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert!(
                answer.headers()["baggage"]
                    .to_str()
                    .unwrap()
                    .ends_with("sleep"),
                "round {round}"
            );
            let mut receive = answer.into_body();
            for size in [1, 1000, 100_000, 5_000_000] {
                h2_echo(&mut send, &mut receive, &vec![size as u8; size]).await;
            }
            send.send_data(Bytes::new(), true).unwrap();
            ended(&mut receive).await;
        }
    });
}

#[test]
fn h2_clients_trailers_end_the_stream() {
    on_worker(async {
        let (connection, tcp) = our_server(&Settings::default()).await;
        serve_echo(connection, echo().await);
        let mut client = h2_client(tcp).await.ready().await.unwrap();
        let (answer, mut send) = client
            .send_request(h2_request("10.0.0.1:80"), false)
            .unwrap();
        let mut receive = answer.await.unwrap().into_body();
        h2_echo(&mut send, &mut receive, b"hello").await;
        send.send_trailers(http::HeaderMap::new()).unwrap();
        ended(&mut receive).await;
    });
}

#[test]
fn h2_client_resets_and_is_reset() {
    on_worker(async {
        let (mut connection, tcp) = our_server(&Settings::default()).await;
        let mut client = h2_client(tcp).await.ready().await.unwrap();
        let (answer, mut send) = client
            .send_request(h2_request("10.0.0.1:80"), false)
            .unwrap();
        let request = connection.next().await.unwrap();
        assert_eq!(request.authority, "10.0.0.1:80");
        let (mut app, near) = pair().await;
        let running = relay(request.accept(None), near);
        answer.await.unwrap();
        send.send_reset(h2::Reason::CANCEL);
        assert!(matches!(
            running_end(&mut connection, running).await.reason,
            EndReason::PeerReset(8)
        ));
        assert_eq!(
            app.read(&mut [0]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );

        let (answer, _send) = client
            .send_request(h2_request("10.0.0.1:80"), false)
            .unwrap();
        let request = connection.next().await.unwrap();
        let (app, near) = pair().await;
        let running = relay(request.accept(None), near);
        let mut receive = answer.await.unwrap().into_body();
        app.set_zero_linger().unwrap();
        drop(app);
        let error = receive.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert!(matches!(
            running_end(&mut connection, running).await.reason,
            EndReason::AppReset
        ));

        let (answer, _send) = client
            .send_request(h2_request("10.0.0.1:80"), false)
            .unwrap();
        connection.next().await.unwrap().refuse(401);
        assert_eq!(answer.await.unwrap().status(), StatusCode::UNAUTHORIZED);
    });
}

async fn running_end(
    connection: &mut Connection,
    running: tokio::task::JoinHandle<RelayEnd>,
) -> RelayEnd {
    tokio::select! {
        end = running => end.unwrap(),
        _ = connection.next() => panic!("no request was expected"),
    }
}

#[test]
fn h2_client_is_drained() {
    on_worker(async {
        let (connection, tcp) = our_server(&Settings::default()).await;
        let handle = connection.handle();
        serve_echo(connection, echo().await);
        let (client, running) = h2::client::Builder::new()
            .handshake::<_, Bytes>(tcp)
            .await
            .unwrap();
        let running = tokio::task::spawn_local(running);
        let mut client = client.ready().await.unwrap();
        let (answer, mut send) = client
            .send_request(h2_request("10.0.0.1:80"), false)
            .unwrap();
        let mut receive = answer.await.unwrap().into_body();
        handle.drain();
        h2_echo(&mut send, &mut receive, &vec![1; 1_000_000]).await;
        assert!(client.ready().await.is_err());
        send.send_data(Bytes::new(), true).unwrap();
        ended(&mut receive).await;
        drop((send, receive));
        running.await.unwrap().unwrap();
        assert!(matches!(handle.closed().await, Error::Closed));
    });
}

/// What an h2 server does with a request.
fn h2_server(tcp: TcpStream, mut builder: h2::server::Builder) {
    tokio::task::spawn_local(async move {
        builder.max_concurrent_streams(10);
        let mut connection = builder.handshake::<_, Bytes>(tcp).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.method(), Method::CONNECT);
            let authority = request.uri().authority().unwrap().to_string();
            if authority == "refused:1" {
                respond
                    .send_response(Response::builder().status(503).body(()).unwrap(), true)
                    .unwrap();
                continue;
            }
            if authority == "reset:1" {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            if authority == "leave:1" {
                connection.graceful_shutdown();
            }
            let answer = Response::builder()
                .header("baggage", authority)
                .header("x-other", "y")
                .body(())
                .unwrap();
            let mut send = respond.send_response(answer, false).unwrap();
            let mut receive = request.into_body();
            tokio::task::spawn_local(async move {
                while let Some(Ok(mut data)) = receive.data().await {
                    receive.flow_control().release_capacity(data.len()).unwrap();
                    while !data.is_empty() {
                        send.reserve_capacity(data.len());
                        let Some(Ok(room)) =
                            std::future::poll_fn(|cx| send.poll_capacity(cx)).await
                        else {
                            return;
                        };
                        send.send_data(data.split_to(room.min(data.len())), false)
                            .unwrap();
                    }
                }
                let _ = send.send_data(Bytes::new(), true);
            });
        }
    });
}

#[test]
fn h2_as_server() {
    on_worker(async {
        for (window, frame) in [(65_535, 16_384), (1 << 20, 1 << 20), (1000, 16_384)] {
            let (tunnel, tcp) = our_client(&Settings::default()).await;
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(window).max_frame_size(frame);
            h2_server(tcp, builder);
            let opened = tunnel.open(&connect_to("some.host:80")).await.unwrap();
            assert_eq!(opened.baggage.as_deref(), Some("some.host:80"));
            let (mut app, near) = pair().await;
            let running = relay(opened.stream, near);
            for size in [1, 1000, 100_000, 2_000_000] {
                send_and_receive(&mut app, &vec![size as u8; size]).await;
            }
            app.shutdown().await.unwrap();
            assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
            assert!(matches!(running.await.unwrap().reason, EndReason::Clean));
        }
    });
}

#[test]
fn h2_server_refuses_resets_and_leaves() {
    on_worker(async {
        let (tunnel, tcp) = our_client(&Settings::default()).await;
        h2_server(tcp, h2::server::Builder::new());
        assert!(matches!(
            tunnel.open(&connect_to("refused:1")).await,
            Err(OpenError::Refused { status: 503 })
        ));
        assert!(matches!(
            tunnel.open(&connect_to("reset:1")).await,
            Err(OpenError::Reset { code: 7 })
        ));
        let opened = tunnel.open(&connect_to("leave:1")).await.unwrap();
        let (mut app, near) = pair().await;
        let running = relay(opened.stream, near);
        send_and_receive(&mut app, b"hello").await;
        while tunnel.usable() {
            tokio::task::yield_now().await;
        }
        send_and_receive(&mut app, &vec![4; 300_000]).await;
        app.shutdown().await.unwrap();
        assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
        assert!(matches!(running.await.unwrap().reason, EndReason::Clean));
        assert!(matches!(tunnel.closed().await, Error::Closed));
    });
}

#[test]
fn the_peers_stream_limit_is_kept() {
    on_worker(async {
        let (tunnel, tcp) = our_client(&Settings::default()).await;
        h2_server(tcp, h2::server::Builder::new());
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(tunnel.open(&connect_to("some.host:80")).await.unwrap());
        }
        assert!(!tunnel.has_room());
        assert!(tunnel.open(&connect_to("some.host:80")).await.is_err());
        open.pop();
        assert!(tunnel.has_room());
        tunnel.open(&connect_to("some.host:80")).await.unwrap();
    });
}
