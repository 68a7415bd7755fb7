//! Tests of this crate.

mod reference;
mod verdicts;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tulle_model::{Health, Identity, Locality, Tunnel, Workload, WorkloadKind};

use crate::{Clause, Match, Rule};

/// A workload of namespace `ns` that names these policies.
fn workload(namespace: &str, policies: &[&str]) -> Workload {
    let empty: Arc<str> = "".into();
    Workload {
        uid: "Kubernetes//Pod/ns/w".into(),
        name: "w".into(),
        namespace: namespace.into(),
        trust_domain: "cluster.local".into(),
        service_account: "default".into(),
        node: empty.clone(),
        network: empty.clone(),
        cluster: "Kubernetes".into(),
        addresses: vec![[10, 0, 0, 1].into()],
        hostname: empty.clone(),
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: empty.clone(),
        canonical_revision: empty.clone(),
        workload_name: empty,
        kind: WorkloadKind::Pod,
        services: [].into(),
        policies: policies.iter().map(|name| Arc::from(*name)).collect(),
        locality: Locality::default(),
        capacity: 1,
        waypoint: None,
        waypoint_enforced: false,
        network_gateway: None,
    }
}

/// A connection of `source` from 10.0.0.9 to 10.0.0.1:80.
fn connection(source: Option<&Identity>) -> crate::Connection<'_> {
    crate::Connection {
        source,
        source_ip: IpAddr::from([10, 0, 0, 9]),
        destination: SocketAddr::from(([10, 0, 0, 1], 80)),
    }
}

/// A rule of one clause of these matches.
fn rule(matches: Vec<Match>) -> Rule {
    Rule {
        clauses: vec![Clause { matches }],
    }
}
