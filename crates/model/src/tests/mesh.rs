//! Tables and look-ups, against a naive mesh that keeps lists.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::{service, workload};
use crate::{
    Destination, GatewayAddress, GatewayDestination, Mesh, NetworkAddress, Service, ServiceKey,
    Visibility, WeightedWaypoint, Workload,
};

fn at(mesh: &Mesh, address: &str, namespace: &str) -> Destination {
    mesh.destination(&Arc::default(), address.parse().unwrap(), namespace)
}

fn name(destination: &Destination) -> String {
    match destination {
        Destination::Service(service) => format!("service {}", service.key()),
        Destination::Workload(workload) => format!("workload {}", workload.uid),
        Destination::Unknown => "unknown".to_owned(),
    }
}

#[test]
fn exact_then_longest_range_then_workload() {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("ns", "exact", &["10.0.0.1/32"]));
    mesh.insert_service(service("ns", "narrow", &["10.0.0.0/24"]));
    mesh.insert_service(service("ns", "wide", &["10.0.0.0/8"]));
    mesh.insert_workload(workload("w", "10.1.0.1", &[]));
    mesh.insert_workload(workload("v", "192.0.2.1", &[]));
    assert_eq!(name(&at(&mesh, "10.0.0.1", "x")), "service ns/exact");
    assert_eq!(name(&at(&mesh, "10.0.0.2", "x")), "service ns/narrow");
    assert_eq!(name(&at(&mesh, "10.1.0.1", "x")), "service ns/wide");
    assert_eq!(name(&at(&mesh, "192.0.2.1", "x")), "workload v");
    assert_eq!(name(&at(&mesh, "192.0.2.2", "x")), "unknown");
    mesh.remove_service(&ServiceKey::new("ns", "wide"));
    assert_eq!(name(&at(&mesh, "10.1.0.1", "x")), "workload w");
    let other: Arc<str> = "other".into();
    let elsewhere = mesh.destination(&other, "10.0.0.1".parse().unwrap(), "x");
    assert_eq!(
        elsewhere,
        Destination::Unknown,
        "networks do not share addresses"
    );
}

#[test]
fn claims_on_one_address() {
    let mut mesh = Mesh::default();
    let claim = |namespace: &str, canonical| Service {
        canonical,
        ..service(namespace, "h", &["10.0.0.1/32"])
    };
    mesh.insert_service(claim("b", false));
    mesh.insert_service(claim("a", false));
    assert_eq!(
        name(&at(&mesh, "10.0.0.1", "x")),
        "service a/h",
        "the first by name"
    );
    mesh.insert_service(claim("c", true));
    assert_eq!(
        name(&at(&mesh, "10.0.0.1", "x")),
        "service c/h",
        "the canonical one"
    );
    assert_eq!(
        name(&at(&mesh, "10.0.0.1", "b")),
        "service b/h",
        "one's own namespace"
    );
}

#[test]
fn a_reused_address_is_the_newer_pods() {
    let mut mesh = Mesh::default();
    mesh.insert_workload(workload("old", "10.0.0.1", &[]));
    mesh.insert_workload(workload("new", "10.0.0.1", &[]));
    assert_eq!(name(&at(&mesh, "10.0.0.1", "x")), "workload new");
    mesh.remove_workload("old");
    assert_eq!(name(&at(&mesh, "10.0.0.1", "x")), "workload new");
    mesh.insert_workload(Workload {
        host_network: true,
        ..workload("host", "10.0.0.1", &[])
    });
    assert_eq!(
        name(&at(&mesh, "10.0.0.1", "x")),
        "workload new",
        "not found by address"
    );
}

#[test]
fn clones_are_snapshots() {
    let mut mesh = Mesh::default();
    mesh.insert_workload(workload("w", "10.0.0.1", &["s"]));
    let before = mesh.clone();
    mesh.remove_workload("w");
    assert_eq!(name(&at(&before, "10.0.0.1", "x")), "workload w");
    assert_eq!(name(&at(&mesh, "10.0.0.1", "x")), "unknown");
    assert_eq!(before.endpoint_count(&ServiceKey::new("ns", "s")), 1);
}

#[derive(Clone, Debug)]
enum Change {
    Workload(Workload),
    NoWorkload(String),
    Service(Service),
    NoService(ServiceKey),
}

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1"];

fn change() -> impl Strategy<Value = Change> {
    let uid = || prop::sample::select(vec!["1", "2", "3", "4"]);
    let address = prop::sample::select(&ADDRESSES[..]);
    let hosts = prop::sample::subsequence(&HOSTS[..], 0..3);
    let ranges = prop::sample::subsequence(
        vec![
            "10.0.0.1/32",
            "10.0.0.2/32",
            "10.0.0.0/24",
            "10.0.0.0/16",
            "10.0.0.0/8",
        ],
        0..3,
    );
    let namespace = || prop::sample::select(vec!["ns", "other"]);
    let host = || prop::sample::select(&HOSTS[..]);
    prop_oneof![
        3 => (uid(), address, hosts).prop_map(|(uid, address, hosts)| Change::Workload(workload(uid, address, &hosts))),
        1 => uid().prop_map(|uid| Change::NoWorkload(uid.to_owned())),
        3 => (namespace(), host(), ranges, any::<bool>()).prop_map(|(namespace, host, ranges, canonical)| {
            Change::Service(Service { canonical, ..service(namespace, host, &ranges) })
        }),
        1 => (namespace(), host()).prop_map(|(namespace, host)| Change::NoService(ServiceKey::new(namespace, host))),
    ]
}

/// Lists in order of arrival.
#[derive(Default)]
struct Naive {
    workloads: Vec<Workload>,
    services: BTreeMap<ServiceKey, Service>,
    /// Who took an address last, as long as it is there.
    owners: BTreeMap<IpAddr, Arc<str>>,
}

impl Naive {
    fn remove(&mut self, uid: &str) -> bool {
        let before = self.workloads.len();
        self.workloads.retain(|w| *w.uid != *uid);
        self.owners.retain(|_, owner| **owner != *uid);
        before != self.workloads.len()
    }

    fn destination(&self, address: IpAddr, namespace: &str) -> String {
        /// Exact, of the client's namespace, prefix length, canonical.
        type Rank = (bool, bool, u8, bool);
        let mut best: Option<(Rank, &ServiceKey)> = None;
        for (key, service) in &self.services {
            for claim in service
                .addresses
                .iter()
                .filter(|a| a.range.contains(&address))
            {
                let length = claim.range.prefix_len();
                let own = &*service.namespace == namespace;
                let rank = (length == 32, own, length, service.canonical);
                if best.is_none_or(|(old, _)| rank > old) {
                    best = Some((rank, key));
                }
            }
        }
        if let Some((_, key)) = best {
            return format!("service {key}");
        }
        self.owners
            .get(&address)
            .map_or("unknown".to_owned(), |uid| format!("workload {uid}"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn looks_up_as_the_naive_one(changes in prop::collection::vec(change(), 0..40)) {
        let mut mesh = Mesh::default();
        let mut naive = Naive::default();
        for change in changes {
            match change {
                Change::Workload(workload) => {
                    naive.remove(&workload.uid);
                    for address in &workload.addresses {
                        naive.owners.insert(*address, workload.uid.clone());
                    }
                    naive.workloads.push(workload.clone());
                    mesh.insert_workload(workload);
                }
                Change::NoWorkload(uid) => prop_assert_eq!(mesh.remove_workload(&uid), naive.remove(&uid)),
                Change::Service(service) => {
                    naive.services.insert(service.key(), service.clone());
                    mesh.insert_service(service);
                }
                Change::NoService(key) => {
                    prop_assert_eq!(mesh.remove_service(&key), naive.services.remove(&key).is_some());
                }
            }
            for address in ADDRESSES {
                for namespace in ["ns", "other", "third"] {
                    let expected = naive.destination(address.parse().unwrap(), namespace);
                    prop_assert_eq!(name(&at(&mesh, address, namespace)), expected);
                }
            }
            for host in HOSTS {
                let key = ServiceKey::new("ns", host);
                let member = |w: &&Workload| w.services.iter().any(|(k, _)| *k == key);
                let mut expected: Vec<_> = naive.workloads.iter().filter(member).map(|w| w.uid.clone()).collect();
                expected.sort();
                let endpoints: Vec<_> = mesh.endpoints(&key).map(|w| w.uid.clone()).collect();
                prop_assert_eq!(endpoints.len(), mesh.endpoint_count(&key));
                prop_assert_eq!(endpoints, expected);
            }
        }
        prop_assert_eq!(mesh.workloads().count(), naive.workloads.len());
        prop_assert_eq!(mesh.services().count(), naive.services.len());
    }
}

#[test]
fn a_range_of_the_clients_own_namespace_before_a_longer_one() {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("mine", "wide", &["10.0.0.0/8"]));
    mesh.insert_service(service("theirs", "narrow", &["10.0.0.0/24"]));
    assert_eq!(name(&at(&mesh, "10.0.0.1", "mine")), "service mine/wide");
    assert_eq!(name(&at(&mesh, "10.0.0.1", "x")), "service theirs/narrow");
}

#[test]
fn what_a_client_may_not_know_of_is_not_there() {
    let mut mesh = Mesh::default();
    mesh.insert_service(Service {
        visibility: Visibility::Namespace,
        ..service("a", "h", &["10.0.0.1/32"])
    });
    assert_eq!(name(&at(&mesh, "10.0.0.1", "x")), "unknown");
    assert_eq!(name(&at(&mesh, "10.0.0.1", "a")), "service a/h");
    assert!(mesh.service_at_host("h", "x", |_| true).is_none());
    assert!(mesh.service_at_host("h", "a", |_| true).is_some());
    assert!(mesh.service_at_host("h", "a", |_| false).is_none());
}

#[test]
fn host_names_are_found_in_lower_case_and_forgotten_with_their_service() {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("a", "Www.Example.com", &[]));
    mesh.insert_service(service("b", "www.example.com", &[]));
    let found = |mesh: &Mesh, namespace: &str| {
        let found = mesh.service_at_host("www.example.com", namespace, |_| true);
        found.map(|s| s.namespace.to_string())
    };
    assert_eq!(found(&mesh, "b").as_deref(), Some("b"));
    assert_eq!(found(&mesh, "x").as_deref(), Some("a"), "the first by name");
    mesh.remove_service(&ServiceKey::new("a", "Www.Example.com"));
    assert_eq!(found(&mesh, "x").as_deref(), Some("b"));
    mesh.remove_service(&ServiceKey::new("b", "www.example.com"));
    assert_eq!(found(&mesh, "x"), None);
}

#[test]
fn who_is_behind_a_waypoint() {
    let mut mesh = Mesh::default();
    mesh.insert_service(service("ns", "wp", &["10.96.0.1/32"]));
    mesh.insert_workload(workload("wp-1", "10.0.0.1", &["wp"]));
    mesh.insert_workload(workload("other", "10.0.0.2", &[]));
    let by = |destination| GatewayAddress {
        destination,
        hbone_port: 15008,
    };
    let address = |text: &str| {
        by(GatewayDestination::Address(NetworkAddress::host(
            Arc::default(),
            text.parse().unwrap(),
        )))
    };
    let service = by(GatewayDestination::Service(ServiceKey::new("ns", "wp")));
    for (gateway, first, other) in [
        (service, true, false),
        (address("10.96.0.1"), true, false),
        (address("10.0.0.1"), true, false),
        (address("10.0.0.2"), false, true),
        (address("10.0.0.3"), false, false),
    ] {
        assert_eq!(mesh.any_behind(&gateway, |w| *w.uid == *"wp-1"), first);
        assert_eq!(mesh.any_behind(&gateway, |w| *w.uid == *"other"), other);
    }
}

#[test]
fn shares_of_waypoints() {
    let waypoint = |name: &str| GatewayAddress {
        destination: GatewayDestination::Service(ServiceKey::new("ns", name)),
        hbone_port: 15008,
    };
    let weighted = |name: &str, weight| WeightedWaypoint {
        waypoint: waypoint(name),
        weight,
    };
    let mut one = service("ns", "h", &[]);
    assert_eq!(one.draw_waypoint(7), None);
    one.waypoint = Some(Box::new(waypoint("primary")));
    assert_eq!(one.draw_waypoint(7), Some(&waypoint("primary")));
    one.waypoint_use.weighted = vec![weighted("primary", 0), weighted("canary", 0)];
    assert_eq!(
        one.draw_waypoint(7),
        Some(&waypoint("primary")),
        "no share at all"
    );
    one.waypoint_use.weighted = vec![weighted("primary", 70), weighted("canary", 30)];
    let canary = waypoint("canary");
    let hits = (0..1000).filter(|dice| one.draw_waypoint(*dice) == Some(&canary));
    assert_eq!(hits.count(), 300);
    one.waypoint_use.weighted = vec![weighted("primary", 0), weighted("canary", 100)];
    assert!((0..200).all(|dice| one.draw_waypoint(dice) == Some(&canary)));
    assert_eq!(one.waypoints().count(), 3);
}
