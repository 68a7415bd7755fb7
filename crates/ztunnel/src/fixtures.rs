//! Workloads and services for tests.

use tulle_model::{
    AppProtocol, Health, LoadBalancing, Locality, NetworkAddress, Port, Service, Tunnel, Workload,
    WorkloadKind,
};

pub(crate) fn workload(name: &str, address: &str) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/default/{name}").into(),
        name: name.into(),
        namespace: "default".into(),
        trust_domain: "cluster.local".into(),
        service_account: name.into(),
        node: "node-1".into(),
        network: "".into(),
        cluster: "Kubernetes".into(),
        addresses: vec![address.parse().unwrap()],
        hostname: "".into(),
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        workload_name: format!("{name}-v1").into(),
        kind: WorkloadKind::Deployment,
        services: [].into(),
        policies: Vec::new(),
        locality: Locality::default(),
        capacity: 1,
        waypoint: None,
        waypoint_enforced: false,
        network_gateway: None,
    }
}

pub(crate) fn service(name: &str, vip: &str) -> Service {
    Service {
        name: name.into(),
        namespace: "default".into(),
        hostname: format!("{name}.default.svc.cluster.local").into(),
        addresses: vec![NetworkAddress::host("".into(), vip.parse().unwrap())],
        ports: vec![port(80, 8080)],
        subject_alt_names: Vec::new(),
        waypoint: None,
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: true,
        families: Default::default(),
        visibility: Default::default(),
    }
}

pub(crate) fn port(service_port: u16, target_port: u16) -> Port {
    Port {
        service_port,
        target_port,
        protocol: AppProtocol::Unknown,
    }
}

/// `workload` as an endpoint of `service`.
pub(crate) fn endpoint(mut workload: Workload, service: &Service) -> Workload {
    let own = [(service.key(), vec![port(80, 8080)])];
    let all = workload.services.iter().cloned().chain(own);
    workload.services = all.collect();
    workload
}
