//! Kubelet probes in real namespaces: the "client" end is the node. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;

use support::*;
use tulle_api::contract::{PROBE_V4, PROBE_V6};
use tulle_linux::redirect::{self, Redirect};
use tulle_linux::{HostProbes, NetNs};

const UID: &str = "0aa1b2c3-1111-2222-3333-444455556666";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A connection as a user other than root, from a thread of its own because credentials belong to the thread.
fn call_as_user(ns: &NetNs, to: std::net::SocketAddr) -> String {
    std::thread::scope(|threads| {
        let caller = threads.spawn(|| {
            ns.enter(|| {
                let user = rustix::process::Uid::from_raw(1000);
                let socket = {
                    let root = rustix::process::Uid::from_raw(0);
                    rustix::thread::set_thread_res_uid(root, user, root).unwrap();
                    let socket = support::connect(to);
                    rustix::thread::set_thread_res_uid(root, root, root).unwrap();
                    socket
                };
                support::greeting(socket.unwrap()).unwrap().greeting
            })
            .unwrap()
        });
        caller.join().unwrap()
    })
}

#[test]
fn the_kubelet_bears_the_probe_address_and_others_do_not() {
    let net = Net::up();
    serve(&net.pod, APP, "app");
    let seen = proxy(&net.pod);
    redirect::install(
        &net.pod,
        &Redirect {
            ipv6: true,
            ..Redirect::default()
        },
    )
    .unwrap();
    let mut probes = HostProbes::install(net.client.clone()).unwrap();
    assert_eq!(
        call(&net.client, at(POD_V4, APP)).unwrap().greeting,
        format!("app {CLIENT_V4}")
    );
    probes
        .add(UID, &[address(POD_V4), address(POD_V6)])
        .unwrap();
    assert_eq!(
        call(&net.client, at(POD_V4, APP)).unwrap().greeting,
        format!("app {PROBE_V4}")
    );
    assert_eq!(
        call(&net.client, at(POD_V6, APP)).unwrap().greeting,
        format!("app {PROBE_V6}")
    );
    assert_eq!(
        seen.lock().unwrap().len(),
        1,
        "only the call before the pod was in the set"
    );
    assert_eq!(
        call_as_user(&net.client, at(POD_V4, APP)),
        format!("app {CLIENT_V4}")
    );
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[test]
fn an_address_belongs_to_its_last_owner() {
    let net = Net::up();
    let mut probes = HostProbes::install(net.client.clone()).unwrap();
    probes.add("old", &[address(POD_V4)]).unwrap();
    probes.add("new", &[address(POD_V4)]).unwrap();
    probes.remove("old").unwrap();
    assert!(nft(&net.client, "list table inet tulle-host").contains("10.9.0.5 comment \"new\""));
    probes.remove("new").unwrap();
    assert!(!nft(&net.client, "list table inet tulle-host").contains(POD_V4));
    probes.remove("new").unwrap();
}

#[test]
fn a_restart_keeps_the_set_until_it_knows_better() {
    let net = Net::up();
    let mut first = HostProbes::install(net.client.clone()).unwrap();
    first.add("a", &[address(POD_V4)]).unwrap();
    drop(first);
    let mut second = HostProbes::install(net.client.clone()).unwrap();
    assert!(nft(&net.client, "list table inet tulle-host").contains(POD_V4));
    let known = BTreeMap::from([(address("10.9.0.77"), "b".to_owned())]);
    second.replace(known).unwrap();
    let listing = nft(&net.client, "list table inet tulle-host");
    assert!(
        listing.contains("10.9.0.77") && !listing.contains(POD_V4),
        "{listing}"
    );
}

#[test]
fn damage_on_the_node_is_repaired() {
    let net = Net::up();
    let mut probes = HostProbes::install(net.client.clone()).unwrap();
    probes
        .add(
            UID,
            &[address(POD_V4), address("10.9.0.50"), address(POD_V6)],
        )
        .unwrap();
    assert!(!probes.repair().unwrap());
    for damage in [
        "flush ruleset",
        "flush set inet tulle-host istio-inpod-probes-v4",
        "flush chain inet tulle-host probes",
        "delete element inet tulle-host istio-inpod-probes-v4 { 10.9.0.5 }",
    ] {
        nft(&net.client, damage);
        assert!(probes.repair().unwrap(), "{damage}");
        assert!(!probes.repair().unwrap(), "{damage}");
    }
    probes.clear().unwrap();
    assert_eq!(nft(&net.client, "list ruleset"), "");
}

#[test]
fn a_forged_probe_address_is_dropped_at_the_node() {
    let net = Net::up();
    serve(&net.client, 9000, "node");
    let probe = PROBE_V4.to_string();
    ip(&net.pod, &format!("addr add {probe}/32 dev eth0"));
    ip(&net.client, &format!("route add {probe}/32 dev eth0"));
    let to = at(CLIENT_V4, 9000);
    assert!(
        call_from(&net.pod, Some(&probe), to).is_ok(),
        "the path works before"
    );
    let _probes = HostProbes::install(net.client.clone()).unwrap();
    assert!(connect_briefly(&net.pod, &probe, to).is_err());
    assert!(call(&net.pod, to).is_ok());
}
