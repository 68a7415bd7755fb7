//! Tunnels whose peers have fallen silent.

use super::raw::{Got, Peer};
use super::*;
use crate::frame::{flag, kind};
use crate::{EndReason, Error};

fn impatient() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(100),
        pool_idle: Duration::from_millis(50),
        preface_deadline: Duration::from_millis(50),
        ..Settings::default()
    }
}

#[test]
fn a_silent_tunnel_is_asked_and_given_up() {
    on_worker(async {
        let settings = impatient();
        let (mut connection, tcp) = our_server(&settings).await;
        let mut peer = Peer::new(tcp, true).await;
        peer.connect(1).await;
        let request = connection.next().await.unwrap();
        let (_app, near) = pair().await;
        let running = relay(request.accept(None), near);
        assert_eq!(peer.get().await, Got::Status(1, 200, false));
        assert_eq!(peer.get().await, Got::Ping);
        let end = running.await.unwrap();
        assert!(
            matches!(end.reason, EndReason::Tunnel(Error::PingTimeout { .. })),
            "{end:?}"
        );
    });
}

#[test]
fn an_idle_tunnel_is_asked_too_and_lives_if_it_answers() {
    on_worker(async {
        let (connection, tcp) = our_server(&impatient()).await;
        let mut peer = Peer::new(tcp, true).await;
        for _ in 0..4 {
            assert_eq!(peer.get().await, Got::Ping);
            peer.send(kind::PING, flag::ACK, 0, b"alive?\0\0").await;
        }
        assert_eq!(peer.get().await, Got::Ping);
        assert!(matches!(
            connection.closed().await,
            Error::PingTimeout { .. }
        ));
    });
}

#[test]
fn a_peer_without_a_preface_meets_a_deadline() {
    on_worker(async {
        let (connection, _tcp) = our_server(&impatient()).await;
        assert!(matches!(connection.closed().await, Error::Deadline { .. }));
    });
}
