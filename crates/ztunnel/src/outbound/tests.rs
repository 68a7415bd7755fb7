use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tulle_model::{Health, Identity, LoadBalancing, Mode, Scope, Tunnel, Workload};

use super::headers::{baggage, forwarded, traceparent};
use super::route::{Hop, Question, Route, route};
use crate::error::Failure;
use crate::fixtures::{endpoint, service, workload};
use crate::state::Snapshot;

mod waypoints;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client() -> Arc<Workload> {
    Arc::new(workload("client", "10.0.0.1"))
}

fn ask(snapshot: &Snapshot, to: &str) -> Result<Route, Failure> {
    ask_as(snapshot, &client(), to, &[], &mut || 0)
}

fn ask_as(
    snapshot: &Snapshot,
    client: &Arc<Workload>,
    to: &str,
    tried: &[Arc<str>],
    dice: &mut dyn FnMut() -> u64,
) -> Result<Route, Failure> {
    let asked = Question {
        client,
        original: at(to),
        tried,
    };
    route(snapshot, asked, dice)
}

#[test]
fn the_unknown_passes_through() {
    let route = ask(&Snapshot::default(), "192.0.2.1:443").unwrap();
    assert_eq!(route.hop, Hop::Plain(at("192.0.2.1:443")));
    assert!(route.workload.is_none() && route.service.is_none());
}

#[test]
fn a_pod_address_is_a_tunnel_to_that_pod_and_no_other_identity() {
    let mut snapshot = Snapshot::default();
    snapshot
        .mesh
        .insert_workload(workload("server", "10.0.0.2"));
    let route = ask(&snapshot, "10.0.0.2:9000").unwrap();
    let expected: Arc<[Identity]> = [Identity::new("cluster.local", "default", "server")].into();
    let hop = Hop::Tunnel {
        to: at("10.0.0.2:15008"),
        authority: at("10.0.0.2:9000"),
        expected,
    };
    assert_eq!(route.hop, hop);
    assert_eq!(route.workload.unwrap().name, "server".into());
}

#[test]
fn a_pod_outside_the_mesh_is_plain() {
    let mut snapshot = Snapshot::default();
    let mut plain = workload("server", "10.0.0.2");
    plain.tunnel = Tunnel::None;
    snapshot.mesh.insert_workload(plain);
    assert_eq!(
        ask(&snapshot, "10.0.0.2:9000").unwrap().hop,
        Hop::Plain(at("10.0.0.2:9000"))
    );
}

#[test]
fn a_service_leads_to_an_endpoints_target_port_and_its_further_identities() {
    let mut snapshot = Snapshot::default();
    let mut web = service("web", "10.96.0.1");
    web.subject_alt_names = vec![
        "spiffe://cluster.local/ns/default/sa/migrated".into(),
        "no identity".into(),
    ];
    snapshot
        .mesh
        .insert_workload(endpoint(workload("server", "10.0.0.2"), &web));
    snapshot.mesh.insert_service(web);
    let route = ask(&snapshot, "10.96.0.1:80").unwrap();
    let expected = ["server", "migrated"].map(|sa| Identity::new("cluster.local", "default", sa));
    let hop = Hop::Tunnel {
        to: at("10.0.0.2:15008"),
        authority: at("10.0.0.2:8080"),
        expected: expected.into(),
    };
    assert_eq!(route.hop, hop);
    assert_eq!(route.service.unwrap().name, "web".into());
}

#[test]
fn a_service_that_cannot_be_served_is_refused_and_never_passed_through() {
    let mut snapshot = Snapshot::default();
    let web = service("web", "10.96.0.1");
    snapshot.mesh.insert_service(web.clone());
    assert!(matches!(
        ask(&snapshot, "10.96.0.1:80"),
        Err(Failure::NoEndpoint { .. })
    ));
    let mut sick = endpoint(workload("server", "10.0.0.2"), &web);
    sick.health = Health::Unhealthy;
    snapshot.mesh.insert_workload(sick);
    let error = ask(&snapshot, "10.96.0.1:80").unwrap_err().to_string();
    assert!(
        error.ends_with("none of its endpoints is healthy"),
        "{error}"
    );
    assert!(matches!(
        ask(&snapshot, "10.96.0.1:81"),
        Err(Failure::NoEndpoint { .. })
    ));
}

#[test]
fn an_endpoint_that_failed_is_left_out_while_there_is_another() {
    let mut snapshot = Snapshot::default();
    let web = service("web", "10.96.0.1");
    snapshot.mesh.insert_service(web.clone());
    for n in 2..5 {
        snapshot.mesh.insert_workload(endpoint(
            workload(&format!("s{n}"), &format!("10.0.0.{n}")),
            &web,
        ));
    }
    let mut dice = 0;
    let mut roll = || {
        dice += 1;
        dice
    };
    let mut tried: Vec<Arc<str>> = Vec::new();
    for _ in 0..3 {
        let route = ask_as(&snapshot, &client(), "10.96.0.1:80", &tried, &mut roll).unwrap();
        tried.push(route.workload.unwrap().uid.clone());
    }
    assert_eq!(tried.iter().collect::<HashSet<_>>().len(), 3);
    // All failed: better one of them than none.
    ask_as(&snapshot, &client(), "10.96.0.1:80", &tried, &mut roll).unwrap();
}

#[test]
fn one_that_is_farther_off_is_asked_when_the_nearest_failed() {
    let mut snapshot = Snapshot::default();
    let mut web = service("web", "10.96.0.1");
    web.load_balancing.mode = Mode::Failover;
    web.load_balancing.preference = vec![Scope::Node];
    snapshot.mesh.insert_service(web.clone());
    for (name, address, node) in [("near", "10.0.0.2", "one"), ("far", "10.0.0.3", "two")] {
        let mut server = endpoint(workload(name, address), &web);
        server.node = node.into();
        snapshot.mesh.insert_workload(server);
    }
    let mut here = Workload::clone(&client());
    here.node = "one".into();
    let here = Arc::new(here);
    let mut tried: Vec<Arc<str>> = Vec::new();
    let mut names = Vec::new();
    let mut dice = 0;
    let mut roll = || {
        dice += 1;
        dice
    };
    for _ in 0..2 {
        let route = ask_as(&snapshot, &here, "10.96.0.1:80", &tried, &mut roll).unwrap();
        let chosen = route.workload.unwrap();
        tried.push(chosen.uid.clone());
        names.push(chosen.name.to_string());
    }
    assert_eq!(names, ["near", "far"]);
}

#[test]
fn another_network_is_refused() {
    let mut snapshot = Snapshot::default();
    let web = service("web", "10.96.0.1");
    let mut far = endpoint(workload("far", "10.0.0.2"), &web);
    far.network = "other".into();
    snapshot.mesh.insert_service(web);
    snapshot.mesh.insert_workload(far);
    assert!(matches!(
        ask(&snapshot, "10.96.0.1:80"),
        Err(Failure::OtherNetwork(_))
    ));
}

#[test]
fn a_passthrough_service_is_not_balanced() {
    let mut snapshot = Snapshot::default();
    let mut web = service("web", "203.0.113.0");
    web.addresses[0].range = "203.0.113.0/24".parse().unwrap();
    web.load_balancing = LoadBalancing {
        mode: Mode::Passthrough,
        ..LoadBalancing::default()
    };
    snapshot.mesh.insert_service(web);
    let route = ask(&snapshot, "203.0.113.9:80").unwrap();
    assert_eq!(route.hop, Hop::Plain(at("203.0.113.9:80")));
    assert_eq!(route.service.unwrap().name, "web".into());
}

#[test]
fn the_family_that_was_dialled_is_preferred() {
    let mut snapshot = Snapshot::default();
    let mut web = service("web", "10.96.0.1");
    web.addresses.push(tulle_model::NetworkAddress::host(
        "".into(),
        "fd00::1".parse().unwrap(),
    ));
    let mut dual = endpoint(workload("dual", "10.0.0.2"), &web);
    dual.addresses.push("fd00::2".parse().unwrap());
    snapshot.mesh.insert_workload(dual);
    snapshot.mesh.insert_service(web);
    let to = |to: &str| match ask(&snapshot, to).unwrap().hop {
        Hop::Tunnel { authority, .. } => authority,
        other => panic!("{other:?}"),
    };
    assert_eq!(to("10.96.0.1:80"), at("10.0.0.2:8080"));
    assert_eq!(to("[fd00::1]:80"), at("[fd00::2]:8080"));
}

#[test]
fn headers_as_istio_writes_them() {
    let mut full = workload("sleep", "10.0.0.1");
    full.locality.region = "r1".into();
    full.locality.zone = "z1".into();
    assert_eq!(
        baggage(&full).unwrap(),
        "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=sleep-v1,service.name=sleep,\
         service.version=v1,cloud.region=r1,cloud.availability_zone=z1"
    );
    let mut bare = workload("sleep", "10.0.0.1");
    for field in [
        &mut bare.cluster,
        &mut bare.namespace,
        &mut bare.workload_name,
        &mut bare.canonical_name,
        &mut bare.canonical_revision,
    ] {
        *field = "".into();
    }
    assert_eq!(baggage(&bare), None);
    assert_eq!(forwarded(at("10.0.0.1:99"), None), "for=\"10.0.0.1:99\"");
    let web = service("web", "10.96.0.1");
    assert_eq!(
        forwarded(at("10.0.0.1:99"), Some(&web)),
        "for=\"10.0.0.1:99\";host=web.default.svc.cluster.local"
    );
    assert_eq!(
        traceparent(1, 2),
        "00-00000000000000000000000000000001-0000000000000002-00"
    );
    assert_eq!(traceparent(0, 0).len(), 55);
}

#[test]
fn a_workload_that_has_only_a_name_is_looked_up() {
    let mut snapshot = Snapshot::default();
    let db = service("db", "240.240.0.1");
    let mut named = endpoint(workload("db-0", "10.0.0.2"), &db);
    named.addresses.clear();
    named.hostname = "db.example.com".into();
    named.tunnel = Tunnel::None;
    snapshot.mesh.insert_service(db);
    snapshot.mesh.insert_workload(named.clone());
    let route = ask(&snapshot, "240.240.0.1:80").unwrap();
    assert!(route.drawn, "another endpoint may answer");
    let expected = Hop::Named {
        hostname: "db.example.com".into(),
        port: 8080,
        expected: None,
    };
    assert_eq!(route.hop, expected);
    let found = "192.0.2.7".parse().unwrap();
    assert_eq!(route.hop.at(found), Hop::Plain(at("192.0.2.7:8080")));
    assert_eq!(
        route.hop.at(found).at("192.0.2.8".parse().unwrap()),
        route.hop.at(found)
    );

    named.tunnel = Tunnel::Hbone;
    snapshot.mesh.insert_workload(named);
    let hop = ask(&snapshot, "240.240.0.1:80").unwrap().hop.at(found);
    let expected = Hop::Tunnel {
        to: at("192.0.2.7:15008"),
        authority: at("192.0.2.7:8080"),
        expected: [Identity::new("cluster.local", "default", "db-0")].into(),
    };
    assert_eq!(hop, expected);
}

#[test]
fn a_service_entry_with_a_range_and_endpoints_is_balanced() {
    let mut snapshot = Snapshot::default();
    let mut range = service("range", "203.0.113.0");
    range.addresses[0].range = "203.0.113.0/24".parse().unwrap();
    let mut outside = endpoint(workload("vm", "198.51.100.1"), &range);
    outside.tunnel = Tunnel::None;
    snapshot.mesh.insert_service(range);
    snapshot.mesh.insert_workload(outside);
    let route = ask(&snapshot, "203.0.113.77:80").unwrap();
    assert_eq!(route.hop, Hop::Plain(at("198.51.100.1:8080")));
    assert!(matches!(
        ask(&snapshot, "203.0.113.77:81"),
        Err(Failure::NoEndpoint { .. })
    ));
}

#[test]
fn what_another_namespace_keeps_to_itself_passes_through() {
    let mut snapshot = Snapshot::default();
    let mut hidden = service("hidden", "192.0.2.1");
    hidden.namespace = "other".into();
    hidden.visibility = tulle_model::Visibility::Namespace;
    snapshot.mesh.insert_service(hidden);
    let route = ask(&snapshot, "192.0.2.1:80").unwrap();
    assert_eq!(
        (route.hop, route.service),
        (Hop::Plain(at("192.0.2.1:80")), None)
    );
}
