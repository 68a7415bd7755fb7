//! Both ends of real tunnels, TLS and all, over loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::rc::Rc;
use std::time::Duration;

use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tulle_hbone::{Connect, EndReason, Error, OpenError, Settings, client, server};

#[test]
fn messages_and_half_close() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        let served = serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        assert_eq!(tunnel.peer(), &mesh.server.identity);
        let (mut app, relay, counters) = through(&tunnel, echo().await).await;
        for size in [1, 64, 1000, 20_000, 300_000] {
            send_and_receive(&mut app, &vec![size as u8; size]).await;
        }
        assert_eq!(tunnel.streams(), 1);
        app.shutdown().await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(app.read_to_end(&mut rest).await.unwrap(), 0);
        let end = relay.await.unwrap();
        assert!(matches!(end.reason, EndReason::Clean), "{end:?}");
        assert_eq!((end.to_tunnel, end.to_app), (321_065, 321_065));
        assert_eq!(counters.to_app.get(), 321_065);
        assert_eq!(tunnel.streams(), 0);
        tokio::task::yield_now().await;
        let ends = served.ends.borrow();
        assert!(matches!(ends[0].reason, EndReason::Clean), "{ends:?}");
        assert_eq!((ends[0].to_tunnel, ends[0].to_app), (321_065, 321_065));
    });
}

#[test]
fn bulk_both_ways_arrives_whole() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let (app, relay, _) = through(&tunnel, echo().await).await;
        let (mut read, mut write) = app.into_split();
        const CHUNKS: usize = 64;
        let pattern: Rc<Vec<u8>> = Rc::new(
            (0..1_000_003u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
        );
        let sent = Rc::clone(&pattern);
        let writer = tokio::task::spawn_local(async move {
            for _ in 0..CHUNKS {
                write.write_all(&sent).await.unwrap();
            }
            write.shutdown().await.unwrap();
        });
        let mut chunk = vec![0; pattern.len()];
        for _ in 0..CHUNKS {
            read.read_exact(&mut chunk).await.unwrap();
            assert!(chunk == *pattern);
        }
        assert_eq!(read.read(&mut chunk).await.unwrap(), 0);
        writer.await.unwrap();
        assert!(matches!(relay.await.unwrap().reason, EndReason::Clean));
    });
}

#[test]
fn server_first_and_last_words() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let (greeter, to) = listen().await;
        tokio::task::spawn_local(async move {
            loop {
                let (mut tcp, _) = greeter.accept().await.unwrap();
                tcp.write_all(&vec![7; 3_000_000]).await.unwrap();
            }
        });
        let (mut app, relay, _) = through(&tunnel, to).await;
        // The application is slow to read; nothing that came before the end may be lost.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut all = Vec::new();
        app.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 3_000_000);
        drop(app);
        assert!(matches!(relay.await.unwrap().reason, EndReason::Clean));
    });
}

#[test]
fn resets_travel_both_ways() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        let served = serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let (target, to) = listen().await;

        let (app, relay, _) = through(&tunnel, to).await;
        let (mut remote, _) = target.accept().await.unwrap();
        app.set_zero_linger().unwrap();
        drop(app);
        let error = remote.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(relay.await.unwrap().reason, EndReason::AppReset));
        assert!(matches!(
            served.ends.borrow()[0].reason,
            EndReason::PeerReset(8)
        ));

        let (mut app, relay, _) = through(&tunnel, to).await;
        let (remote, _) = target.accept().await.unwrap();
        remote.set_zero_linger().unwrap();
        drop(remote);
        let error = app.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(
            relay.await.unwrap().reason,
            EndReason::PeerReset(8)
        ));
        assert_eq!(tunnel.streams(), 0);
    });
}

#[test]
fn refusals_carry_their_status() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let (closed, nobody) = listen().await;
        drop(closed);
        let refused = tunnel.open(&connect_to(nobody)).await.err().unwrap();
        assert!(
            matches!(refused, OpenError::Refused { status: 503 }),
            "{refused}"
        );
        let opened = tunnel
            .open(&Connect {
                baggage: Some("service.name=x".into()),
                ..connect_to(echo().await)
            })
            .await
            .unwrap();
        assert_eq!(opened.baggage.as_deref(), Some("service.name=x"));
        let invalid = tunnel
            .open(&Connect {
                authority: "nonsense".into(),
                ..Connect::default()
            })
            .await;
        assert!(matches!(invalid, Err(OpenError::Invalid(_))));
    });
}

#[test]
fn the_wrong_peer_gets_nothing() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        let stranger = epoch(&mesh.authority, "stranger");
        let accepting = tokio::task::spawn_local(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            server::accept(tcp, &stranger.server, &Settings::default())
                .await
                .map(|_| ())
        });
        let tcp = TcpStream::connect(at).await.unwrap();
        let refused = client::connect(
            tcp,
            &mesh.client.client,
            mesh.expected(),
            &Settings::default(),
        )
        .await;
        let Err(Error::Tls(why)) = refused else {
            panic!("connected to a stranger")
        };
        assert!(why.to_string().contains("sa/stranger"), "{why}");
        assert!(accepting.await.unwrap().is_err());
    });
}

#[test]
fn another_mesh_is_refused() {
    on_worker(async {
        let (ours, theirs) = (Rc::new(Mesh::new()), Mesh::new());
        let (listener, at) = listen().await;
        serve(&ours, listener, Settings::default());
        let tcp = TcpStream::connect(at).await.unwrap();
        let refused = client::connect(
            tcp,
            &theirs.client.client,
            ours.expected(),
            &Settings::default(),
        )
        .await;
        assert!(matches!(refused, Err(Error::Tls(_))));
    });
}

#[test]
fn a_silent_peer_meets_a_deadline() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let settings = Settings {
            tls_deadline: Duration::from_millis(100),
            preface_deadline: Duration::from_millis(100),
            ..Settings::default()
        };
        let (listener, at) = listen().await;
        let tcp = TcpStream::connect(at).await.unwrap();
        let refused = client::connect(tcp, &mesh.client.client, mesh.expected(), &settings).await;
        assert!(matches!(refused, Err(Error::Deadline { .. })));
        let (accepted, _) = listener.accept().await.unwrap();
        drop(accepted);
        let mute = TcpStream::connect(at).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let refused = server::accept(accepted, &mesh.server.server, &settings).await;
        assert!(matches!(refused, Err(Error::Deadline { .. })));
        drop(mute);
    });
}

#[test]
fn a_handshake_in_single_bytes_succeeds() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        let (front, slow) = listen().await;
        tokio::task::spawn_local(async move {
            let (mut near, _) = front.accept().await.unwrap();
            let mut far = TcpStream::connect(at).await.unwrap();
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let (mut near_read, mut near_write) = near.split();
            let (mut far_read, mut far_write) = far.split();
            let trickle =
                async |read: &mut tokio::net::tcp::ReadHalf<'_>,
                       write: &mut tokio::net::tcp::WriteHalf<'_>| {
                    while let Ok(byte) = read.read_u8().await {
                        if write.write_u8(byte).await.is_err() {
                            break;
                        }
                    }
                };
            tokio::join!(
                trickle(&mut near_read, &mut far_write),
                trickle(&mut far_read, &mut near_write)
            );
        });
        let tunnel = tunnel(&mesh, slow, &Settings::default()).await;
        let (mut app, _relay, _) = through(&tunnel, echo().await).await;
        send_and_receive(&mut app, b"hello").await;
    });
}

#[test]
fn a_stalled_stream_does_not_stop_its_neighbours() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        // A small connection window: stalled streams together would use it up many times over.
        let settings = Settings {
            connection_window: 1 << 20,
            stream_window: 256 << 10,
            ..Settings::default()
        };
        let tunnel = tunnel(&mesh, at, &settings).await;
        let (flood, to) = listen().await;
        tokio::task::spawn_local(async move {
            loop {
                let (mut tcp, _) = flood.accept().await.unwrap();
                tokio::task::spawn_local(async move {
                    while tcp.write_all(&[1; 65536]).await.is_ok() {}
                });
            }
        });
        let mut stalled = Vec::new();
        for _ in 0..8 {
            stalled.push(through(&tunnel, to).await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (mut app, _relay, _) = through(&tunnel, echo().await).await;
        for _ in 0..20 {
            send_and_receive(&mut app, &vec![3; 100_000]).await;
        }
        // And those that stood still go on as soon as they are read.
        let mut sink = vec![0; 1 << 20];
        for (app, _, _) in &mut stalled {
            let mut seen = 0;
            while seen < 8 << 20 {
                seen += app.read(&mut sink).await.unwrap();
            }
        }
    });
}

#[test]
fn a_dead_tunnel_is_noticed_at_once() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        let served = serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let (mut app, relay, _) = through(&tunnel, echo().await).await;
        send_and_receive(&mut app, b"x").await;
        served.handles.borrow()[0].abort();
        assert!(matches!(relay.await.unwrap().reason, EndReason::Tunnel(_)));
        assert_eq!(
            app.read(&mut [0; 1]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        tunnel.closed().await;
        assert!(!tunnel.usable());
        assert!(matches!(
            tunnel.open(&connect_to(at)).await,
            Err(OpenError::Tunnel(_))
        ));
    });
}

#[test]
fn drain_lets_open_streams_end() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        let served = serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let (mut app, relay, _) = through(&tunnel, echo().await).await;
        send_and_receive(&mut app, b"before").await;
        served.handles.borrow()[0].drain();
        send_and_receive(&mut app, b"after").await;
        while tunnel.usable() {
            tokio::task::yield_now().await;
        }
        send_and_receive(&mut app, &vec![9; 500_000]).await;
        app.shutdown().await.unwrap();
        assert_eq!(app.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(matches!(relay.await.unwrap().reason, EndReason::Clean));
        assert!(matches!(tunnel.closed().await, Error::Closed));
    });
}

#[test]
fn ten_thousand_streams_one_after_the_other() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let to = echo().await;
        for n in 0..10_000u32 {
            let stream = tunnel.open(&connect_to(to)).await.unwrap().stream;
            if n % 100 == 0 {
                let (mut app, near) = pair().await;
                let relay = tokio::task::spawn_local(async move {
                    stream
                        .relay(near, &Rc::default(), std::future::pending())
                        .await
                });
                send_and_receive(&mut app, &n.to_be_bytes()).await;
                drop(app);
                relay.await.unwrap();
            }
        }
        assert!(tunnel.streams() <= 1);
        assert!(tunnel.usable());
    });
}

#[test]
fn a_relay_can_be_stopped() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let stream = tunnel.open(&connect_to(echo().await)).await.unwrap().stream;
        let (mut app, near) = pair().await;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let relay = tokio::task::spawn_local(async move {
            stream
                .relay(near, &Rc::default(), async { stopped.await.unwrap() })
                .await
        });
        send_and_receive(&mut app, b"hello").await;
        stop.send(tulle_hbone::StopReason::Policy).unwrap();
        assert!(matches!(
            relay.await.unwrap().reason,
            EndReason::Stopped(tulle_hbone::StopReason::Policy)
        ));
        assert_eq!(
            app.read(&mut [0; 1]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn plain_relay() {
    on_worker(async {
        let (mut a, near) = pair().await;
        let far = TcpStream::connect(echo().await).await.unwrap();
        let counters = Rc::default();
        let relay = {
            let counters = Rc::clone(&counters);
            tokio::task::spawn_local(async move {
                tulle_hbone::relay::plain(near, far, &counters, std::future::pending()).await
            })
        };
        send_and_receive(&mut a, b"hello").await;
        let (mut read, mut write) = a.split();
        let sent = vec![5; 20_000_000];
        let write = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(write, read.read_to_end(&mut all));
        assert_eq!(read.unwrap(), 20_000_000);
        let end = relay.await.unwrap();
        assert!(matches!(end.reason, EndReason::Clean), "{end:?}");
        assert_eq!((end.to_tunnel, end.to_app), (20_000_005, 20_000_005));

        let (a, near) = pair().await;
        let (far, mut b) = pair().await;
        let relay = tokio::task::spawn_local(async move {
            tulle_hbone::relay::plain(near, far, &Rc::default(), std::future::pending()).await
        });
        a.set_zero_linger().unwrap();
        drop(a);
        assert_eq!(
            b.read(&mut [0; 1]).await.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset
        );
        assert!(matches!(relay.await.unwrap().reason, EndReason::AppReset));
    });
}

#[test]
fn a_small_receive_buffer_at_the_application() {
    on_worker(async {
        let mesh = Rc::new(Mesh::new());
        let (listener, at) = listen().await;
        serve(&mesh, listener, Settings::default());
        let tunnel = tunnel(&mesh, at, &Settings::default()).await;
        let stream = tunnel.open(&connect_to(echo().await)).await.unwrap().stream;
        let (listener, local) = listen().await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        let (app, near) = tokio::join!(socket.connect(local), listener.accept());
        let (app, near) = (app.unwrap(), near.unwrap().0);
        let relay = tokio::task::spawn_local(async move {
            stream
                .relay(near, &Rc::default(), std::future::pending())
                .await
        });
        let (mut read, mut write) = app.into_split();
        let writer = tokio::task::spawn_local(async move {
            write.write_all(&vec![1; 5_000_000]).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 5_000_000);
        writer.await.unwrap();
        assert!(matches!(relay.await.unwrap().reason, EndReason::Clean));
    });
}
