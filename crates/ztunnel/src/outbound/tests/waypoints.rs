//! Through waypoints, and never past them.

use tulle_model::{
    GatewayAddress, GatewayDestination, NetworkAddress, Port, ServiceKey, WeightedWaypoint,
};

use super::*;
use crate::fixtures::port;

fn by_service(name: &str) -> GatewayAddress {
    GatewayAddress {
        destination: GatewayDestination::Service(ServiceKey::new(
            "default",
            &format!("{name}.default.svc.cluster.local"),
        )),
        hbone_port: 15008,
    }
}

fn by_address(address: &str) -> GatewayAddress {
    GatewayAddress {
        destination: GatewayDestination::Address(NetworkAddress::host(
            "".into(),
            address.parse().unwrap(),
        )),
        hbone_port: 15008,
    }
}

fn hbone_port() -> Port {
    port(15008, 15008)
}

/// A waypoint with its service and these pods.
fn waypoint(snapshot: &mut Snapshot, name: &str, vip: &str, pods: &[&str]) {
    let mut own = service(name, vip);
    own.ports = vec![hbone_port()];
    for (n, address) in pods.iter().enumerate() {
        let mut pod = workload(&format!("{name}-{n}"), address);
        pod.service_account = name.into();
        pod.services = [(own.key(), vec![hbone_port()])].into();
        snapshot.mesh.insert_workload(pod);
    }
    snapshot.mesh.insert_service(own);
}

/// `web` at 10.96.0.1 with one pod at 10.0.0.2, behind `gateway`.
fn web_behind(gateway: GatewayAddress) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut web = service("web", "10.96.0.1");
    snapshot
        .mesh
        .insert_workload(endpoint(workload("server", "10.0.0.2"), &web));
    web.waypoint = Some(Box::new(gateway));
    snapshot.mesh.insert_service(web);
    snapshot
}

fn through(to: &str, authority: &str, account: &str) -> Hop {
    Hop::Tunnel {
        to: at(to),
        authority: at(authority),
        expected: [Identity::new("cluster.local", "default", account)].into(),
    }
}

#[test]
fn a_services_waypoint_is_asked_for_the_address_that_was_dialled() {
    for gateway in [
        by_service("wp"),
        by_address("10.96.0.50"),
        by_address("10.0.0.50"),
    ] {
        let mut snapshot = web_behind(gateway.clone());
        waypoint(&mut snapshot, "wp", "10.96.0.50", &["10.0.0.50"]);
        let route = ask(&snapshot, "10.96.0.1:80").unwrap();
        assert_eq!(
            route.hop,
            through("10.0.0.50:15008", "10.96.0.1:80", "wp"),
            "{gateway:?}"
        );
        assert_eq!(route.workload.unwrap().name, "wp-0".into());
        assert_eq!(route.service.unwrap().name, "web".into());
    }
}

#[test]
fn a_port_that_the_service_does_not_have_is_the_waypoints_to_refuse() {
    let mut snapshot = web_behind(by_service("wp"));
    waypoint(&mut snapshot, "wp", "10.96.0.50", &["10.0.0.50"]);
    let route = ask(&snapshot, "10.96.0.1:81").unwrap();
    assert_eq!(route.hop, through("10.0.0.50:15008", "10.96.0.1:81", "wp"));
}

#[test]
fn the_waypoints_own_service_says_where_and_who() {
    let mut snapshot = web_behind(by_service("wp"));
    let mut own = service("wp", "10.96.0.50");
    own.ports = vec![hbone_port()];
    own.subject_alt_names = vec!["spiffe://cluster.local/ns/default/sa/old-wp".into()];
    let mut pod = workload("wp-0", "10.0.0.50");
    pod.services = [(own.key(), vec![port(15008, 25008)])].into();
    pod.service_account = "wp".into();
    snapshot.mesh.insert_workload(pod);
    snapshot.mesh.insert_service(own);
    let expected = ["wp", "old-wp"].map(|sa| Identity::new("cluster.local", "default", sa));
    let hop = Hop::Tunnel {
        to: at("10.0.0.50:25008"),
        authority: at("10.96.0.1:80"),
        expected: expected.into(),
    };
    assert_eq!(ask(&snapshot, "10.96.0.1:80").unwrap().hop, hop);
}

#[test]
fn pods_of_a_waypoint_are_balanced_and_exchanged_when_one_failed() {
    let mut snapshot = web_behind(by_service("wp"));
    let pods = ["10.0.0.50", "10.0.0.51", "10.0.0.52"];
    waypoint(&mut snapshot, "wp", "10.96.0.50", &pods);
    let mut dice = 0;
    let mut roll = || {
        dice += 1;
        dice
    };
    let mut tried: Vec<Arc<str>> = Vec::new();
    for _ in pods {
        let route = ask_as(&snapshot, &client(), "10.96.0.1:80", &tried, &mut roll).unwrap();
        assert!(route.drawn);
        tried.push(route.workload.unwrap().uid.clone());
    }
    assert_eq!(tried.iter().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn shares_of_connections_between_two_waypoints() {
    let mut snapshot = web_behind(by_service("wp"));
    waypoint(&mut snapshot, "wp", "10.96.0.50", &["10.0.0.50"]);
    waypoint(&mut snapshot, "canary", "10.96.0.60", &["10.0.0.60"]);
    let key = ServiceKey::new("default", "web.default.svc.cluster.local");
    let mut web = (**snapshot.mesh.service(&key).unwrap()).clone();
    let weighted = |name, weight| WeightedWaypoint {
        waypoint: by_service(name),
        weight,
    };
    web.waypoint_use.weighted = vec![weighted("wp", 3), weighted("canary", 1)];
    snapshot.mesh.insert_service(web);
    let canaries = (0..100).filter(|dice| {
        let route = ask_as(&snapshot, &client(), "10.96.0.1:80", &[], &mut || *dice).unwrap();
        route.hop == through("10.0.0.60:15008", "10.96.0.1:80", "canary")
    });
    assert_eq!(canaries.count(), 25);
}

#[test]
fn whatever_is_wrong_with_a_waypoint_nothing_is_led_past_it() {
    let why = |snapshot: &Snapshot| match ask(snapshot, "10.96.0.1:80") {
        Err(failure @ Failure::Waypoint { .. }) => failure.to_string(),
        other => panic!("{other:?}"),
    };
    let mut snapshot = web_behind(by_service("wp"));
    assert_eq!(
        why(&snapshot),
        "web.default.svc.cluster.local is behind waypoint default/wp.default.svc.cluster.local, but the mesh does not \
         know it (is its Gateway still there?); refused rather than led past it"
    );
    waypoint(&mut snapshot, "wp", "10.96.0.50", &[]);
    assert!(why(&snapshot).contains("it has no endpoint"));
    waypoint(&mut snapshot, "wp", "10.96.0.50", &["10.0.0.50"]);
    let uid = "Kubernetes//Pod/default/wp-0";
    let mut pod = (**snapshot.mesh.workload(uid).unwrap()).clone();
    pod.health = Health::Unhealthy;
    snapshot.mesh.insert_workload(pod);
    assert!(why(&snapshot).contains("none of its endpoints is ready"));
    snapshot.mesh.insert_service(service("wp", "10.96.0.50"));
    assert!(why(&snapshot).contains("it has no port 15008"));
    assert!(why(&web_behind(by_address("10.0.0.99"))).contains("10.0.0.99"));
}

#[test]
fn a_pod_address_leads_to_the_workloads_waypoint_unless_that_asks() {
    let mut snapshot = Snapshot::default();
    waypoint(&mut snapshot, "wp", "10.96.0.50", &["10.0.0.50"]);
    let mut guarded = workload("guarded", "10.0.0.3");
    guarded.waypoint = Some(Box::new(by_service("wp")));
    snapshot.mesh.insert_workload(guarded);
    let route = ask(&snapshot, "10.0.0.3:9000").unwrap();
    assert_eq!(route.hop, through("10.0.0.50:15008", "10.0.0.3:9000", "wp"));
    assert!(route.service.is_none());

    let own = snapshot.mesh.workload("Kubernetes//Pod/default/wp-0");
    let own = own.unwrap().clone();
    let route = ask_as(&snapshot, &own, "10.0.0.3:9000", &[], &mut || 0).unwrap();
    assert_eq!(
        route.hop,
        through("10.0.0.3:15008", "10.0.0.3:9000", "guarded")
    );
}

#[test]
fn the_waypoint_of_the_chosen_pod_does_not_count_when_a_service_was_addressed() {
    let mut snapshot = Snapshot::default();
    waypoint(&mut snapshot, "wp", "10.96.0.50", &["10.0.0.50"]);
    let web = service("web", "10.96.0.1");
    let mut guarded = endpoint(workload("guarded", "10.0.0.3"), &web);
    guarded.waypoint = Some(Box::new(by_service("wp")));
    snapshot.mesh.insert_service(web);
    snapshot.mesh.insert_workload(guarded);
    let route = ask(&snapshot, "10.96.0.1:80").unwrap();
    assert_eq!(
        route.hop,
        through("10.0.0.3:15008", "10.0.0.3:8080", "guarded")
    );
}

#[test]
fn what_a_waypoint_sends_to_its_own_service_is_not_led_back_to_it() {
    let mut snapshot = web_behind(by_service("wp"));
    waypoint(&mut snapshot, "wp", "10.96.0.50", &["10.0.0.50"]);
    let own = snapshot.mesh.workload("Kubernetes//Pod/default/wp-0");
    let own = own.unwrap().clone();
    let route = ask_as(&snapshot, &own, "10.96.0.1:80", &[], &mut || 0).unwrap();
    assert_eq!(
        route.hop,
        through("10.0.0.2:15008", "10.0.0.2:8080", "server")
    );
}

#[test]
fn a_waypoint_without_endpoints_of_its_service_still_guards_an_entry() {
    // A service entry that only its waypoint can serve: no endpoint, and none is needed.
    let mut snapshot = Snapshot::default();
    waypoint(&mut snapshot, "egress", "10.96.0.50", &["10.0.0.50"]);
    let mut entry = service("wild", "240.240.0.9");
    entry.hostname = "*.example.com".into();
    entry.waypoint = Some(Box::new(by_service("egress")));
    snapshot.mesh.insert_service(entry);
    let route = ask(&snapshot, "240.240.0.9:443").unwrap();
    assert_eq!(
        route.hop,
        through("10.0.0.50:15008", "240.240.0.9:443", "egress")
    );
}
