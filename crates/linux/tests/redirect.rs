//! The redirect rules in real namespaces. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::*;
use tulle_api::contract::{PORT_HBONE, PORT_INBOUND_PLAIN, PORT_OUTBOUND, PROBE_V4, PROBE_V6};
use tulle_linux::redirect::{self, Redirect};

fn both_families() -> Redirect {
    Redirect {
        ipv6: true,
        ..Redirect::default()
    }
}

#[test]
fn inbound_goes_through_the_proxy_and_the_application_sees_the_client() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    let seen = proxy(&net.pod);
    redirect::install(&net.pod, &both_families()).unwrap();
    for (client, pod) in [(CLIENT_V4, POD_V4), (CLIENT_V6, POD_V6)] {
        let mut call = call(&net.client, at(pod, APP)).unwrap();
        assert_eq!(call.greeting, format!("app {client}"));
        assert!(call.still_works());
    }
    let expected = [
        (PORT_INBOUND_PLAIN, at(POD_V4, APP)),
        (PORT_INBOUND_PLAIN, at(POD_V6, APP)),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn outbound_is_captured_with_its_destination_and_nothing_leaves_in_clear() {
    let net = Net::up();
    let in_clear = serve(&net.client, 9000, "clear");
    let seen = proxy(&net.pod);
    redirect::install(&net.pod, &both_families()).unwrap();
    for to in [
        at(CLIENT_V4, 9000),
        at(CLIENT_V6, 9000),
        at("192.0.2.7", 443),
        at("2001:db8::7", 443),
    ] {
        let mut call = call(&net.pod, to).unwrap();
        assert_eq!(call.greeting, format!("proxy {PORT_OUTBOUND} {to}"));
        assert!(call.still_works());
    }
    assert_eq!(seen.lock().unwrap().len(), 4);
    assert_eq!(in_clear.load(Ordering::SeqCst), 0);
}

#[test]
fn a_pod_that_calls_itself_meets_no_proxy() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    let seen = proxy(&net.pod);
    redirect::install(&net.pod, &both_families()).unwrap();
    for own in [POD_V4, POD_V6, "127.0.0.1", "::1"] {
        assert_eq!(
            call(&net.pod, at(own, APP)).unwrap().greeting,
            format!("app {own}")
        );
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn probes_pass_and_hbone_is_not_redirected() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    let seen = proxy(&net.pod);
    let (probe_v4, probe_v6) = (PROBE_V4.to_string(), PROBE_V6.to_string());
    ip(&net.client, &format!("addr add {probe_v4}/32 dev eth0"));
    ip(
        &net.client,
        &format!("addr add {probe_v6}/128 dev eth0 nodad"),
    );
    redirect::install(&net.pod, &both_families()).unwrap();
    for (from, pod) in [(&probe_v4, POD_V4), (&probe_v6, POD_V6)] {
        let call = call_from(&net.client, Some(from), at(pod, APP)).unwrap();
        assert_eq!(call.greeting, format!("app {from}"));
    }
    assert!(seen.lock().unwrap().is_empty());
    for pod in [POD_V4, POD_V6] {
        let to = at(pod, PORT_HBONE);
        assert_eq!(
            call(&net.client, to).unwrap().greeting,
            format!("proxy {PORT_HBONE} {to}")
        );
    }
}

#[test]
fn the_capture_ports_themselves_refuse_so_nothing_loops() {
    let net = Net::up();
    let seen = proxy(&net.pod);
    redirect::install(&net.pod, &both_families()).unwrap();
    for own in ["127.0.0.1", "::1", POD_V4, POD_V6] {
        for port in [PORT_OUTBOUND, PORT_INBOUND_PLAIN] {
            let refused = call(&net.pod, at(own, port)).err().map(|e| e.kind());
            assert_eq!(refused, Some(ErrorKind::ConnectionRefused), "{own}:{port}");
        }
    }
    assert!(seen.lock().unwrap().is_empty());
    // From outside, 15006 is its own destination and refused; 15001 comes in at 15006, and the proxy's call to the
    // destination is refused.
    for pod in [POD_V4, POD_V6] {
        let refused = call(&net.client, at(pod, PORT_INBOUND_PLAIN))
            .err()
            .map(|e| e.kind());
        assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
        let reset = call(&net.client, at(pod, PORT_OUTBOUND)).map(|c| c.greeting);
        assert!(reset.as_ref().map_or(true, String::is_empty), "{reset:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[test]
fn dns_is_touched_only_when_asked() {
    for (dns, expected) in [(false, "resolver"), (true, "proxy")] {
        let net = Net::up();
        answer_udp(&net.client, "0.0.0.0:53", "resolver");
        answer_udp(&net.pod, "127.0.0.1:15053", "proxy");
        redirect::install(
            &net.pod,
            &Redirect {
                dns,
                ..both_families()
            },
        )
        .unwrap();
        let asker = net
            .pod
            .enter(|| UdpSocket::bind("0.0.0.0:0"))
            .unwrap()
            .unwrap();
        asker
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        asker.send_to(b"?", at(CLIENT_V4, 53)).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = asker.recv_from(&mut buffer).unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
        assert_eq!(from, at(CLIENT_V4, 53));
    }
}

#[test]
fn queries_of_a_leaving_pod_go_to_the_resolver_also_from_ports_that_were_redirected() {
    let net = Net::up();
    answer_udp(&net.client, "0.0.0.0:53", "resolver");
    answer_udp(&net.pod, "127.0.0.1:15053", "proxy");
    let redirect = Redirect {
        dns: true,
        ..both_families()
    };
    redirect::install(&net.pod, &redirect).unwrap();
    let asker = || {
        let socket = net.pod.enter(|| UdpSocket::bind("0.0.0.0:0"));
        let socket = socket.unwrap().unwrap();
        let patience = Some(Duration::from_secs(3));
        socket.set_read_timeout(patience).unwrap();
        socket
    };
    let answer = |asker: &UdpSocket| {
        let mut buffer = [0; 64];
        let (length, from) = asker.recv_from(&mut buffer).unwrap();
        assert_eq!(from, at(CLIENT_V4, 53));
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let (again, patient) = (asker(), asker());
    again.send_to(b"?", at(CLIENT_V4, 53)).unwrap();
    assert_eq!(answer(&again), "proxy");
    patient.send_to(b"slowly", at(CLIENT_V4, 53)).unwrap();
    redirect::stop_capture(&net.pod).unwrap();
    for _ in 0..3 {
        again.send_to(b"?", at(CLIENT_V4, 53)).unwrap();
        assert_eq!(answer(&again), "resolver");
    }
    assert_eq!(answer(&patient), "proxy");
    // Not one is lost when the rules go for good.
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_secs(1) {
                again.send_to(b"?", at(CLIENT_V4, 53)).unwrap();
                assert_eq!(answer(&again), "resolver");
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        redirect::remove(&net.pod).unwrap();
        asking.join().unwrap();
    });
}

/// Answers every query with `name`; to `slowly` after a while.
fn answer_udp(ns: &tulle_linux::NetNs, address: &str, name: &'static str) {
    let socket = ns.enter(|| UdpSocket::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if buffer[..length] == *b"slowly" {
                std::thread::sleep(Duration::from_millis(500));
            }
            socket.send_to(name.as_bytes(), from).unwrap();
        }
    });
}

#[test]
fn without_ipv6_in_the_mesh_ipv6_is_refused_and_not_sent_in_clear() {
    let net = Net::up();
    let in_clear = serve(&net.client, 9000, "clear");
    let app = serve(&net.pod, APP, "app");
    proxy(&net.pod);
    redirect::install(&net.pod, &Redirect::default()).unwrap();
    let out = call(&net.pod, at(CLIENT_V6, 9000)).err().map(|e| e.kind());
    assert_eq!(out, Some(ErrorKind::ConnectionRefused));
    let inbound = call(&net.client, at(POD_V6, APP)).err().map(|e| e.kind());
    assert_eq!(inbound, Some(ErrorKind::ConnectionRefused));
    assert_eq!(
        (in_clear.load(Ordering::SeqCst), app.load(Ordering::SeqCst)),
        (0, 0)
    );
    // The pod's own IPv6 and the mesh's IPv4 work.
    assert_eq!(
        call(&net.pod, at(POD_V6, APP)).unwrap().greeting,
        format!("app {POD_V6}")
    );
    assert_eq!(
        call(&net.client, at(POD_V4, APP)).unwrap().greeting,
        format!("app {CLIENT_V4}")
    );
}

#[test]
fn ingress_mode_leaves_inbound_alone() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    let seen = proxy(&net.pod);
    redirect::install(
        &net.pod,
        &Redirect {
            ingress_bypass: true,
            ..both_families()
        },
    )
    .unwrap();
    assert_eq!(
        call(&net.client, at(POD_V4, APP)).unwrap().greeting,
        format!("app {CLIENT_V4}")
    );
    assert!(seen.lock().unwrap().is_empty());
    let to = at("192.0.2.7", 443);
    assert_eq!(
        call(&net.pod, to).unwrap().greeting,
        format!("proxy {PORT_OUTBOUND} {to}")
    );
}

#[test]
fn open_connections_live_through_enrolment() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    serve(&net.client, 9000, "peer");
    let mut inbound = call(&net.client, at(POD_V4, APP)).unwrap();
    let mut outbound = call(&net.pod, at(CLIENT_V4, 9000)).unwrap();
    let seen = proxy(&net.pod);
    redirect::install(&net.pod, &both_families()).unwrap();
    for _ in 0..3 {
        assert!(inbound.still_works() && outbound.still_works());
    }
    assert!(
        seen.lock().unwrap().is_empty(),
        "an old connection was taken for a new one"
    );
}

#[test]
fn stopping_capture_lets_captured_connections_go_on_and_takes_no_new_ones() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    serve(&net.client, 9000, "peer");
    let seen = proxy(&net.pod);
    redirect::install(&net.pod, &both_families()).unwrap();
    let mut inbound = call(&net.client, at(POD_V4, APP)).unwrap();
    let mut outbound = call(&net.pod, at(CLIENT_V4, 9000)).unwrap();
    assert!(outbound.greeting.starts_with("proxy"));
    redirect::stop_capture(&net.pod).unwrap();
    for _ in 0..3 {
        assert!(inbound.still_works() && outbound.still_works());
    }
    assert_eq!(
        call(&net.pod, at(CLIENT_V4, 9000)).unwrap().greeting,
        format!("peer {POD_V4}")
    );
    assert_eq!(
        call(&net.client, at(POD_V4, APP)).unwrap().greeting,
        format!("app {CLIENT_V4}")
    );
    assert_eq!(seen.lock().unwrap().len(), 2);
    redirect::remove(&net.pod).unwrap();
    assert_eq!(nft(&net.pod, "list ruleset"), "");
    assert_eq!(
        call(&net.client, at(POD_V4, APP)).unwrap().greeting,
        format!("app {CLIENT_V4}")
    );
}

#[test]
fn no_call_fails_while_a_pod_joins_and_leaves_under_load() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    proxy(&net.pod);
    let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let load = threads.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let mut call = call(&net.client, at(POD_V4, APP)).unwrap();
                assert_eq!(call.greeting, format!("app {CLIENT_V4}"));
                assert!(call.still_works());
                calls.fetch_add(1, Ordering::SeqCst);
            }
        });
        for _ in 0..5 {
            redirect::install(&net.pod, &both_families()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            redirect::install(&net.pod, &both_families()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            redirect::stop_capture(&net.pod).unwrap();
            // What was captured ends before the hooks go.
            std::thread::sleep(Duration::from_millis(100));
            redirect::remove(&net.pod).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        load.join().unwrap();
    });
    assert!(calls.load(Ordering::SeqCst) > 20, "there was no load");
}

#[test]
fn damage_is_seen_by_the_generation_and_repaired() {
    let net = Net::up();
    let wanted = both_families();
    assert!(!redirect::intact(&net.pod, &wanted) && !redirect::installed(&net.pod));
    redirect::install(&net.pod, &wanted).unwrap();
    assert!(redirect::intact(&net.pod, &wanted) && redirect::installed(&net.pod));
    assert_eq!(
        redirect::observe(&net.pod).unwrap(),
        redirect::observe(&net.pod).unwrap()
    );
    assert!(
        !redirect::intact(&net.pod, &Redirect::default()),
        "other rules are not these rules"
    );
    let damages: [&dyn Fn(); 5] = [
        &|| drop(nft(&net.pod, "flush ruleset")),
        &|| drop(nft(&net.pod, "flush chain inet tulle-pod capture-out")),
        &|| {
            drop(nft(
                &net.pod,
                "insert rule inet tulle-pod capture-out accept",
            ))
        },
        &|| drop(nft(&net.pod, "delete table inet tulle-pod")),
        &|| redirect::stop_capture(&net.pod).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let before = redirect::generation(&net.pod).unwrap();
        damage();
        assert_ne!(
            redirect::generation(&net.pod).unwrap(),
            before,
            "damage {number}"
        );
        assert!(!redirect::intact(&net.pod, &wanted), "damage {number}");
        redirect::install(&net.pod, &wanted).unwrap();
        assert!(redirect::intact(&net.pod, &wanted), "damage {number}");
    }
    ip(&net.pod, "rule del priority 32764");
    assert!(!redirect::observe(&net.pod).unwrap().routed);
    assert!(!redirect::intact(&net.pod, &wanted));
    redirect::install(&net.pod, &wanted).unwrap();
    ip(&net.pod, "-6 route flush table 100");
    assert!(!redirect::intact(&net.pod, &wanted));
    redirect::install(&net.pod, &wanted).unwrap();
    assert!(redirect::intact(&net.pod, &wanted));
}

#[test]
fn a_pod_without_ipv6_can_be_enrolled() {
    let net = Net::up();
    for key in ["all", "lo", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{key}/disable_ipv6");
        net.pod
            .enter(|| std::fs::write(path, "1"))
            .unwrap()
            .unwrap();
    }
    redirect::install(&net.pod, &both_families()).unwrap();
    assert!(redirect::intact(&net.pod, &both_families()));
    redirect::remove(&net.pod).unwrap();
}

#[test]
fn installing_and_removing_twice_is_the_same_as_once() {
    let net = Net::up();
    for _ in 0..2 {
        redirect::install(&net.pod, &both_families()).unwrap();
    }
    let rules = run_ip(&net.pod, "rule list");
    assert_eq!(
        rules.matches("fwmark 0x111/0xfff lookup 100").count(),
        1,
        "{rules}"
    );
    for _ in 0..2 {
        redirect::remove(&net.pod).unwrap();
    }
    assert!(!run_ip(&net.pod, "rule list").contains("0x111"));
    assert_eq!(
        run_ip(&net.pod, "route show table all")
            .matches("table 100")
            .count(),
        0
    );
}

fn run_ip(ns: &tulle_linux::NetNs, arguments: &str) -> String {
    let words = arguments.split(' ');
    let output = ns
        .enter(|| std::process::Command::new("ip").args(words).output())
        .unwrap()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn waiting_connections_may_move_to_another_listener_in_the_pod_only() {
    let net = Net::up();
    redirect::prepare(&net.pod, Path::new("/proc/sys")).unwrap();
    let read = |ns: &tulle_linux::NetNs| {
        let text = ns.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req"));
        text.unwrap().unwrap().trim().to_owned()
    };
    assert_eq!(
        (read(&net.pod), read(&net.client)),
        ("1".into(), "0".into())
    );
}

#[test]
fn an_interface_name_cannot_carry_rules() {
    let net = Net::up();
    let evil = Redirect {
        virtual_interfaces: vec!["x\" accept; #".into()],
        ..both_families()
    };
    assert!(matches!(
        redirect::install(&net.pod, &evil),
        Err(redirect::RedirectError::Interface(_))
    ));
}
