//! Socket options and handing listeners on, in real namespaces. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use support::*;
use tulle_linux::{NetNs, redirect, socket};

#[test]
fn a_listener_serves_both_families_and_shares_its_port() {
    let net = Net::up();
    let first = socket::listen(&net.pod, at("::", 15008)).unwrap();
    let _second = socket::listen(&net.pod, at("::", 15008)).unwrap();
    drop(first);
    let seen = serve(&net.pod, APP, "app");
    for own in [POD_V4, POD_V6] {
        assert_eq!(
            call(&net.client, at(own, APP))
                .unwrap()
                .greeting
                .split(' ')
                .next(),
            Some("app")
        );
    }
    assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[test]
fn an_application_on_the_port_is_reported() {
    let ns = NetNs::create().unwrap();
    let _app = ns
        .enter(|| std::net::TcpListener::bind("0.0.0.0:15008"))
        .unwrap()
        .unwrap();
    assert_eq!(
        socket::listen(&ns, at("::", 15008)).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
}

#[test]
fn a_namespace_without_ipv6_gets_an_ipv4_listener() {
    let net = Net::up();
    for key in ["all", "lo", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{key}/disable_ipv6");
        net.pod
            .enter(|| std::fs::write(path, "1"))
            .unwrap()
            .unwrap();
    }
    serve(&net.pod, APP, "app");
    assert_eq!(
        call(&net.client, at(POD_V4, APP)).unwrap().greeting,
        format!("app {CLIENT_V4}")
    );
}

#[test]
fn what_was_not_redirected_was_going_where_it_is() {
    let ns = NetNs::create().unwrap();
    for (loopback, mapped) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
        let listener = socket::listen(&ns, at("::", 0)).unwrap();
        listener.set_nonblocking(false).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = ns
            .enter(|| TcpStream::connect(at(loopback, port)))
            .unwrap()
            .unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(
            socket::original_destination(&accepted).unwrap(),
            at(mapped, port)
        );
    }
}

#[test]
fn a_refused_connection_ends_with_a_reset() {
    let ns = NetNs::create().unwrap();
    let listener = socket::listen(&ns, at("::", 0)).unwrap();
    listener.set_nonblocking(false).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = ns
        .enter(|| TcpStream::connect(at("127.0.0.1", port)))
        .unwrap()
        .unwrap();
    let (accepted, _) = listener.accept().unwrap();
    socket::reset_on_close(&accepted).unwrap();
    drop(accepted);
    assert_eq!(
        client.read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn accepted_sockets_inherit_nodelay() {
    let ns = NetNs::create().unwrap();
    let listener = socket::listen(&ns, at("::", 0)).unwrap();
    listener.set_nonblocking(false).unwrap();
    let port = listener.local_addr().unwrap().port();
    let _client = ns
        .enter(|| TcpStream::connect(at("127.0.0.1", port)))
        .unwrap()
        .unwrap();
    assert!(listener.accept().unwrap().0.nodelay().unwrap());
}

/// A listener that closes hands those who wait to the other one of its group, because the pod was prepared.
#[test]
fn connections_that_wait_outlive_their_listener() {
    let net = Net::up();
    redirect::prepare(&net.pod, std::path::Path::new("/proc/sys")).unwrap();
    let doomed = socket::listen(&net.pod, at("::", APP)).unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            net.client
                .enter(|| connect(at(POD_V4, APP)))
                .unwrap()
                .unwrap()
        })
        .collect();
    let heir = socket::listen(&net.pod, at("::", APP)).unwrap();
    drop(doomed);
    accept_forever(heir, |mut stream, _| {
        let _gone = std::io::Write::write_all(&mut stream, b"heir\n");
    });
    for stream in waiting {
        assert_eq!(greeting(stream).unwrap().greeting, "heir");
    }
}
