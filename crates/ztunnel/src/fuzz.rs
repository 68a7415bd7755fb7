//! What a CONNECT asks for, as `fuzz/` brings it: any text may come in, and a broken promise panics.

use std::net::{Ipv4Addr, SocketAddr};

use tulle_api::contract::PORT_HBONE;
use tulle_model::{Service, Workload};
use tulle_proto::workload as wire;

use crate::inbound::authority::{forwarded_host, target};
use crate::state::Snapshot;

const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const HOST: &str = "web.default.svc.cluster.local";

/// `:authority` (first line) and `forwarded` (second line): whatever they say, they lead to the pod itself, and not to the
/// proxy's own ports.
pub fn authority(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (authority, forwarded) = match text.split_once('\n') {
        Some((authority, forwarded)) => (authority, Some(forwarded)),
        None => (&*text, None),
    };
    let (snapshot, pod) = mesh();
    let local = SocketAddr::new(POD.into(), PORT_HBONE);
    let host = forwarded_host(forwarded);
    match target(&snapshot, &pod, local, authority, host) {
        Ok(found) => {
            assert_eq!(found.destination.ip(), local.ip());
            assert!(!crate::is_own_port(found.destination.port()));
            assert!(found.destination.port() != 0);
            assert!(!found.addressed || found.service.is_some());
        }
        Err((status, _)) => assert!(matches!(status, 400 | 503)),
    }
}

fn mesh() -> (Snapshot, Workload) {
    let mut snapshot = Snapshot::default();
    let ports = wire::PortList {
        ports: vec![wire::Port {
            service_port: 80,
            target_port: 8080,
            ..wire::Port::default()
        }],
    };
    let service = Service::try_from(wire::Service {
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        hostname: HOST.to_owned(),
        ports: ports.ports.clone(),
        ..wire::Service::default()
    });
    let pod = Workload::try_from(wire::Workload {
        uid: "Kubernetes//Pod/default/web".to_owned(),
        addresses: vec![POD.octets().to_vec()],
        services: [(format!("default/{HOST}"), ports)].into_iter().collect(),
        ..wire::Workload::default()
    });
    match (service, pod) {
        (Ok(service), Ok(pod)) => {
            snapshot.mesh.insert_service(service);
            snapshot.mesh.insert_workload(pod.clone());
            (snapshot, pod)
        }
        (service, pod) => panic!("the target's own mesh: {service:?} {pod:?}"),
    }
}
