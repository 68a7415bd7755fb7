use std::collections::BTreeMap;

use tulle_model::{LoadBalancing, Locality, Mesh, NetworkAddress, Port, WorkloadKind};
use tulle_route::balance::{Cursor, Draw};
use tulle_route::resource::{Balancing, CircuitBreaker, PortPolicy, Subset};

use super::*;

fn service(name: &str) -> Service {
    Service {
        name: name.into(),
        namespace: "shop".into(),
        hostname: format!("{name}.shop.svc.cluster.local").into(),
        addresses: vec![NetworkAddress::host(
            "".into(),
            "10.96.0.1".parse().unwrap(),
        )],
        ports: vec![Port {
            service_port: 80,
            target_port: 8080,
            protocol: AppProtocol::Http11,
        }],
        subject_alt_names: Vec::new(),
        waypoint: None,
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: true,
        families: Default::default(),
        visibility: Default::default(),
    }
}

fn workload(name: &str, ip: &str, of: &Service, tunnel: Tunnel) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/shop/{name}").into(),
        name: name.into(),
        namespace: "shop".into(),
        trust_domain: "cluster.local".into(),
        service_account: name.into(),
        node: "node-1".into(),
        network: "".into(),
        cluster: "Kubernetes".into(),
        addresses: vec![ip.parse().unwrap()],
        hostname: "".into(),
        tunnel,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        workload_name: name.into(),
        kind: WorkloadKind::Deployment,
        services: [(of.key(), of.ports.clone())].into(),
        policies: Vec::new(),
        locality: Locality::default(),
        capacity: 1,
        waypoint: None,
        waypoint_enforced: false,
        network_gateway: None,
    }
}

fn snapshot() -> Snapshot {
    let mut mesh = Mesh::default();
    let reviews = service("reviews");
    mesh.insert_workload(workload("v1", "10.0.0.1", &reviews, Tunnel::Hbone));
    mesh.insert_workload(workload("v2", "10.0.0.2", &reviews, Tunnel::None));
    mesh.insert_service(reviews);
    Snapshot {
        mesh,
        generation: 1,
        ..Snapshot::default()
    }
}

fn key(subset: Option<&str>) -> DestinationKey {
    DestinationKey {
        service: service("reviews").key(),
        port: 80,
        subset: subset.map(Into::into),
    }
}

fn policy(subset: &str, of: &str) -> DestinationPolicy {
    DestinationPolicy {
        service: service("reviews").key(),
        client: "shop".into(),
        policy: TrafficPolicy {
            balancing: Some(Balancing::RoundRobin),
            breaker: Some(CircuitBreaker {
                max_requests: Some(7),
                ..CircuitBreaker::default()
            }),
            ..TrafficPolicy::default()
        },
        ports: vec![PortPolicy {
            port: 80,
            policy: TrafficPolicy {
                proxy_protocol: Some(1),
                ..TrafficPolicy::default()
            },
        }],
        subsets: vec![Subset {
            name: subset.into(),
            labels: BTreeMap::new(),
            workloads: vec![format!("Kubernetes//Pod/shop/{of}").into()],
            policy: TrafficPolicy {
                balancing: Some(Balancing::Random),
                ..TrafficPolicy::default()
            },
            ports: Vec::new(),
        }],
    }
}

#[test]
fn endpoints_are_reached_as_they_are() {
    let all = Destinations::new("".into());
    let found = all.get(&snapshot(), &key(None)).unwrap();
    assert_eq!(
        &*found.cluster,
        "outbound|80||reviews.shop.svc.cluster.local"
    );
    let hops: Vec<&Hop> = found.endpoints.iter().map(|e| &e.hop).collect();
    let Hop::Tunnel {
        to,
        authority,
        expected,
    } = hops[0]
    else {
        panic!("the first is in the mesh: {hops:?}");
    };
    assert_eq!(
        (to.to_string(), authority.to_string()),
        ("10.0.0.1:15008".to_owned(), "10.0.0.1:8080".to_owned())
    );
    assert_eq!(
        expected[0].to_string(),
        "spiffe://cluster.local/ns/shop/sa/v1"
    );
    assert_eq!(*hops[1], Hop::Plain("10.0.0.2:8080".parse().unwrap()));
    assert_eq!(found.protocol(), Some(BackendProtocol::Http1));
}

#[test]
fn subsets_take_what_they_do_not_say_from_the_service() {
    let all = Destinations::new("".into());
    let mut snapshot = snapshot();
    snapshot
        .destinations
        .insert(service("reviews").key(), Arc::new(policy("blue", "v2")));
    let blue = all.get(&snapshot, &key(Some("blue"))).unwrap();
    assert_eq!(blue.endpoints.len(), 1);
    assert_eq!(&*blue.endpoints[0].workload.as_ref().unwrap().name, "v2");
    assert_eq!(blue.policy.balancing, Some(Balancing::Random));
    assert_eq!(blue.policy.proxy_protocol, Some(1));
    assert_eq!(blue.policy.breaker.unwrap().max_requests, Some(7));
    assert!(matches!(
        all.get(&snapshot, &key(Some("green"))),
        Err(NoDestination::Subset(..))
    ));
}

#[test]
fn what_has_not_changed_is_kept_and_what_is_known_of_endpoints_outlives_changes() {
    let all = Destinations::new("".into());
    let mut snapshot = snapshot();
    let first = all.get(&snapshot, &key(None)).unwrap();
    snapshot.generation = 2;
    let again = all.get(&snapshot, &key(None)).unwrap();
    assert!(Arc::ptr_eq(&first, &again));

    let draw = Draw {
        now: all.now(),
        dice: 1,
        hash: None,
        tried: &[],
    };
    let at = first
        .balancer
        .choose(&draw, &mut Cursor::default())
        .unwrap();
    let _busy = first.balancer.members()[at].state.begin();
    let uid = first.endpoints[at].workload.as_ref().unwrap().uid.clone();
    snapshot.mesh.insert_workload(workload(
        "v3",
        "10.0.0.3",
        &service("reviews"),
        Tunnel::None,
    ));
    snapshot.generation = 3;
    let grown = all.get(&snapshot, &key(None)).unwrap();
    assert_eq!(grown.endpoints.len(), 3);
    assert_ne!(grown.serial, first.serial);
    let same = grown
        .balancer
        .members()
        .iter()
        .find(|m| m.id == uid)
        .unwrap();
    assert_eq!(same.state.active(), 1);
}

#[test]
fn what_is_missing_is_said() {
    let all = Destinations::new("".into());
    let mut wrong = key(None);
    wrong.port = 81;
    assert!(matches!(
        all.get(&snapshot(), &wrong),
        Err(NoDestination::Port(_, 81))
    ));
    wrong.service = service("ratings").key();
    assert!(matches!(
        all.get(&snapshot(), &wrong),
        Err(NoDestination::Service(_))
    ));
}

#[test]
fn what_a_gateway_is_to_present_is_presented_or_nothing_goes() {
    let mut snapshot = snapshot();
    let mut wanted = policy("blue", "v2");
    wanted.policy.tls = Some(tulle_route::resource::BackendTls {
        sni: Some("reviews.test".into()),
        roots: None,
        certificate: None,
        gateway_certificate: true,
        verify: tulle_route::resource::VerifyNames::Insecure,
    });
    snapshot
        .destinations
        .insert(service("reviews").key(), Arc::new(wanted));
    let tls = |snapshot: &Snapshot| {
        let found = Destinations::new("".into()).get(snapshot, &key(None));
        found.unwrap().tls.clone().unwrap().map(drop)
    };
    assert_eq!(tls(&snapshot), Ok(()));
    let gateway = tulle_route::resource::Gateway {
        namespace: "shop".into(),
        name: "ingress".into(),
        role: tulle_route::resource::Role::Gateway,
        listeners: Vec::new(),
        backend_certificate: Some("shop/client".into()),
        client_identity: false,
    };
    snapshot
        .gateways
        .insert("shop/ingress".into(), Arc::new(gateway));
    assert!(tls(&snapshot).is_err_and(|why| why.contains("shop/client")));
}

#[test]
fn connections_outlive_other_endpoints_but_no_other_settings() {
    let all = Destinations::new("".into());
    let mut snapshot = snapshot();
    let set = |snapshot: &mut Snapshot, policy: DestinationPolicy| {
        snapshot.generation += 1;
        let key = service("reviews").key();
        snapshot.destinations.insert(key, Arc::new(policy));
    };
    set(&mut snapshot, policy("blue", "v2"));
    let first = all.get(&snapshot, &key(None)).unwrap();
    let more = workload("v3", "10.0.0.3", &service("reviews"), Tunnel::None);
    snapshot.mesh.insert_workload(more);
    snapshot.generation += 1;
    let grown = all.get(&snapshot, &key(None)).unwrap();
    assert_ne!(grown.serial, first.serial);
    assert_eq!(grown.connections, first.connections);
    let mut other = policy("blue", "v2");
    other.policy.breaker = None;
    set(&mut snapshot, other);
    let changed = all.get(&snapshot, &key(None)).unwrap();
    assert_ne!(changed.connections, first.connections);
}
