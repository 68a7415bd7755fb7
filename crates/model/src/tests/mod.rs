//! Tests of this crate.

mod balance;
mod identity;
mod mesh;

use std::net::IpAddr;
use std::sync::Arc;

use crate::{
    AppProtocol, Health, LoadBalancing, Locality, NetworkAddress, Port, Service, ServiceKey,
    Tunnel, Workload, WorkloadKind,
};

fn port(service_port: u16, target_port: u16) -> Port {
    Port {
        service_port,
        target_port,
        protocol: AppProtocol::Unknown,
    }
}

/// A healthy workload with one address that serves port 80 of `services` on 8080.
fn workload(uid: &str, address: &str, services: &[&str]) -> Workload {
    let key = |host: &&str| (ServiceKey::new("ns", host), vec![port(80, 8080)]);
    let empty: Arc<str> = Arc::default();
    Workload {
        uid: uid.into(),
        name: uid.into(),
        namespace: "ns".into(),
        trust_domain: "cluster.local".into(),
        service_account: "default".into(),
        node: empty.clone(),
        network: empty.clone(),
        cluster: "Kubernetes".into(),
        addresses: address.parse::<IpAddr>().into_iter().collect(),
        hostname: empty.clone(),
        tunnel: Tunnel::None,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: empty.clone(),
        canonical_revision: empty.clone(),
        workload_name: empty,
        kind: WorkloadKind::Pod,
        services: services.iter().map(key).collect(),
        policies: Vec::new(),
        locality: Locality::default(),
        capacity: 1,
        waypoint: None,
        waypoint_enforced: false,
        network_gateway: None,
    }
}

/// A service of namespace `ns` with port 80 and these addresses or ranges.
fn service(namespace: &str, host: &str, addresses: &[&str]) -> Service {
    let address = |text: &&str| NetworkAddress {
        network: Arc::default(),
        range: text.parse().unwrap(),
    };
    Service {
        name: host.into(),
        namespace: namespace.into(),
        hostname: host.into(),
        addresses: addresses.iter().map(address).collect(),
        ports: vec![port(80, 0)],
        subject_alt_names: Vec::new(),
        waypoint: None,
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: false,
        families: Default::default(),
        visibility: Default::default(),
    }
}
