use tulle_model::{
    GatewayAddress, GatewayDestination, Health, LoadBalancing, Locality, NetworkAddress, Port,
    ServiceKey, Tunnel, WorkloadKind,
};
use tulle_route::resource::{Gateway, Role};

use super::*;
use crate::state::Own;

fn service(name: &str, vip: &str, waypoint: Option<&str>) -> Service {
    Service {
        name: name.into(),
        namespace: "shop".into(),
        hostname: format!("{name}.shop.svc.cluster.local").into(),
        addresses: vec![NetworkAddress::host("".into(), vip.parse().unwrap())],
        ports: vec![Port {
            service_port: 80,
            target_port: 8080,
            protocol: AppProtocol::Http11,
        }],
        subject_alt_names: Vec::new(),
        waypoint: waypoint.map(|name| Box::new(named(name))),
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: true,
        families: Default::default(),
        visibility: Default::default(),
    }
}

fn named(waypoint: &str) -> GatewayAddress {
    GatewayAddress {
        destination: GatewayDestination::Service(ServiceKey::new(
            "shop",
            &format!("{waypoint}.shop.svc.cluster.local"),
        )),
        hbone_port: 15008,
    }
}

fn workload(name: &str, ip: &str, waypoint: Option<&str>, of: Option<&Service>) -> Workload {
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
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        workload_name: name.into(),
        kind: WorkloadKind::Deployment,
        services: of.map(|s| (s.key(), s.ports.clone())).into_iter().collect(),
        policies: Vec::new(),
        locality: Locality::default(),
        capacity: 1,
        waypoint: waypoint.map(|name| Box::new(named(name))),
        waypoint_enforced: false,
        network_gateway: None,
    }
}

fn snapshot(services: bool, workloads: bool) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let own = service("waypoint", "10.96.0.9", None);
    let mesh = &mut snapshot.mesh;
    mesh.insert_workload(workload(
        "waypoint-1",
        "10.0.0.9",
        Some("waypoint"),
        Some(&own),
    ));
    mesh.insert_service(own);
    let reviews = service("reviews", "10.96.0.1", Some("waypoint"));
    mesh.insert_workload(workload(
        "reviews-1",
        "10.0.0.1",
        Some("waypoint"),
        Some(&reviews),
    ));
    mesh.insert_service(reviews);
    mesh.insert_service(service("foreign", "10.96.0.2", Some("other")));
    mesh.insert_service(service("free", "10.96.0.3", None));
    mesh.insert_workload(workload("free-1", "10.0.0.3", None, None));
    snapshot.own = Own::find(&snapshot.mesh, "shop", "waypoint-1");
    let gateway = Gateway {
        namespace: "shop".into(),
        name: "waypoint".into(),
        role: Role::Waypoint {
            services,
            workloads,
        },
        listeners: Vec::new(),
        backend_certificate: None,
        client_identity: false,
    };
    snapshot
        .gateways
        .insert("shop/waypoint".into(), Arc::new(gateway));
    snapshot
}

fn ask(snapshot: &Snapshot, authority: &str) -> Result<Target, Refusal> {
    judge(snapshot, &"".into(), "shop", authority, |port| {
        port == 15000
    })
}

#[test]
fn a_service_behind_this_waypoint_is_served_by_address_and_by_name() {
    let snapshot = snapshot(true, false);
    for authority in [
        "10.96.0.1:80",
        "[::ffff:10.96.0.1]:80",
        "reviews.shop.svc.cluster.local:80",
    ] {
        let target = ask(&snapshot, authority).unwrap();
        assert_eq!(&*target.service().unwrap().name, "reviews", "{authority}");
        assert_eq!(target.address.to_string(), "10.96.0.1:80");
        assert_eq!(target.protocol, AppProtocol::Http11);
    }
}

#[test]
fn everything_else_is_refused() {
    let snapshot = snapshot(true, true);
    for (authority, status) in [
        ("10.96.0.1:81", 404),
        ("10.96.0.2:80", 404),
        ("10.96.0.3:80", 404),
        ("foreign.shop.svc.cluster.local:80", 404),
        ("nobody.example:80", 404),
        ("10.0.0.3:8080", 404),
        ("192.0.2.1:80", 404),
        ("10.0.0.9:15000", 404),
        ("reviews", 400),
        ("user@reviews:80", 400),
    ] {
        let refusal = ask(&snapshot, authority).unwrap_err();
        assert_eq!(refusal.status(), status, "{authority}: {refusal}");
    }
    assert!(matches!(
        ask(&snapshot, "10.0.0.9:15000"),
        Err(Refusal::OwnPort(15000))
    ));
    assert!(matches!(
        ask(&snapshot, "10.96.0.2:80"),
        Err(Refusal::Foreign(_))
    ));
}

#[test]
fn what_a_waypoint_is_for_decides() {
    let to_pod = "10.0.0.1:8080";
    assert!(matches!(
        ask(&snapshot(true, false), to_pod),
        Err(Refusal::Kind(_))
    ));
    let target = ask(&snapshot(false, true), to_pod).unwrap();
    assert_eq!(target.protocol, AppProtocol::Http11);
    assert!(target.service().is_none());
    assert!(matches!(
        ask(&snapshot(false, true), "10.96.0.1:80"),
        Err(Refusal::Kind(_))
    ));
    assert!(matches!(
        ask(&Snapshot::default(), "10.96.0.1:80"),
        Err(Refusal::NoWaypoint)
    ));
}
