//! Workloads and services for tests.

use std::sync::Arc;

use tulle_model::{Health, LoadBalancing, Locality, Service, Tunnel, Workload, WorkloadKind};

pub(crate) fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        uid: format!("Kubernetes//Pod/default/{name}-abc").into(),
        name: format!("{name}-abc").into(),
        namespace: "default".into(),
        trust_domain: "cluster.local".into(),
        service_account: name.into(),
        node: "node-1".into(),
        network: "".into(),
        cluster: "Kubernetes".into(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
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
        locality: Locality {
            region: "r1".into(),
            zone: "".into(),
            subzone: "".into(),
        },
        capacity: 1,
        waypoint: None,
        waypoint_enforced: false,
        network_gateway: None,
    })
}

pub(crate) fn service(name: &str) -> Arc<Service> {
    Arc::new(Service {
        name: name.into(),
        namespace: "default".into(),
        hostname: format!("{name}.default.svc.cluster.local").into(),
        addresses: Vec::new(),
        ports: Vec::new(),
        subject_alt_names: Vec::new(),
        waypoint: None,
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: true,
        families: Default::default(),
        visibility: Default::default(),
    })
}
