//! Tables and look-ups, against a naive mesh that keeps lists.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::{service, workload};
use crate::{Destination, Mesh, Service, ServiceKey, Workload};

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
        let mut best: Option<(u8, (bool, bool), &ServiceKey)> = None;
        for (key, service) in &self.services {
            for claim in service
                .addresses
                .iter()
                .filter(|a| a.range.contains(&address))
            {
                let rank = (&*service.namespace == namespace, service.canonical);
                let length = claim.range.prefix_len();
                if best.is_none_or(|(l, r, _)| (length, rank) > (l, r)) {
                    best = Some((length, rank, key));
                }
            }
        }
        if let Some((_, _, key)) = best {
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
