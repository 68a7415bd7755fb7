//! Workloads and services there and back, and what is refused.

use std::sync::Arc;

use proptest::prelude::*;
use prost::Message;
use tulle_model::{
    AppProtocol, GatewayAddress, GatewayDestination, Health, HealthPolicy, Interner, IpFamilies,
    LoadBalancing, Locality, Mode, NetworkAddress, Port, Scope, Service, ServiceKey, Tunnel,
    Visibility, WaypointUse, WeightedWaypoint, Workload, WorkloadKind,
};

use crate::workload as wire;
use crate::{AddressItem, decode_address, encode_service, encode_workload};

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-z0-9.-]{0,12}".prop_map(Arc::from)
}

fn some_text() -> impl Strategy<Value = Arc<str>> {
    "[a-z0-9.-]{1,12}".prop_map(Arc::from)
}

fn key() -> impl Strategy<Value = ServiceKey> {
    (some_text(), some_text()).prop_map(|(namespace, host)| ServiceKey::new(&namespace, &host))
}

fn address() -> impl Strategy<Value = NetworkAddress> {
    (text(), any::<std::net::IpAddr>(), 0u8..=32).prop_map(|(network, ip, length)| {
        let range = ipnet::IpNet::new(ip, length).unwrap().trunc();
        if length == 0 {
            NetworkAddress::host(network, ip)
        } else {
            NetworkAddress { network, range }
        }
    })
}

fn gateway() -> impl Strategy<Value = Option<Box<GatewayAddress>>> {
    let destination = prop_oneof![
        key().prop_map(GatewayDestination::Service),
        address().prop_map(GatewayDestination::Address),
    ];
    let gateway = (destination, 1u16..).prop_map(|(destination, hbone_port)| {
        Box::new(GatewayAddress {
            destination,
            hbone_port,
        })
    });
    prop::option::of(gateway)
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    use AppProtocol::{Grpc, Http2, Http11, Tcp, Tls, Unknown};
    let protocol = prop::sample::select(vec![Unknown, Http11, Http2, Grpc, Tcp, Tls]);
    let port =
        (any::<u16>(), any::<u16>(), protocol).prop_map(|(service_port, target_port, protocol)| {
            Port {
                service_port,
                target_port,
                protocol,
            }
        });
    prop::collection::vec(port, 0..3)
}

fn workload() -> impl Strategy<Value = Workload> {
    let names = (
        some_text(),
        text(),
        text(),
        some_text(),
        some_text(),
        text(),
    );
    let more = (text(), some_text(), text(), text(), text(), text());
    let enums = (
        prop::sample::select(vec![Tunnel::None, Tunnel::Hbone]),
        prop::sample::select(vec![Health::Healthy, Health::Unhealthy]),
        prop::sample::select(vec![
            WorkloadKind::Deployment,
            WorkloadKind::CronJob,
            WorkloadKind::Pod,
            WorkloadKind::Job,
        ]),
        any::<(bool, bool, bool)>(),
        any::<u32>(),
    );
    let lists = (
        prop::collection::vec(any::<std::net::IpAddr>(), 0..3),
        prop::collection::btree_map(key(), ports(), 0..3),
        prop::collection::vec(some_text(), 0..3),
    );
    let places = (text(), text(), text(), gateway(), gateway());
    (names, more, enums, lists, places).prop_map(|(names, more, enums, lists, places)| Workload {
        uid: names.0,
        name: names.1,
        namespace: names.2,
        trust_domain: names.3,
        service_account: names.4,
        node: names.5,
        network: more.0,
        cluster: more.1,
        hostname: more.2,
        canonical_name: more.3,
        canonical_revision: more.4,
        workload_name: more.5,
        addresses: lists.0,
        services: lists.1.into_iter().collect(),
        policies: lists.2,
        tunnel: enums.0,
        health: enums.1,
        kind: enums.2,
        native_tunnel: enums.3.0,
        host_network: enums.3.1,
        capacity: enums.4,
        locality: Locality {
            region: places.0,
            zone: places.1,
            subzone: places.2,
        },
        waypoint: places.3,
        waypoint_enforced: enums.3.2,
        network_gateway: places.4,
    })
}

fn service() -> impl Strategy<Value = Service> {
    use Scope::{Cluster, Network, Node, Region, Subzone, Zone};
    let preference = prop::collection::vec(
        prop::sample::select(vec![Region, Zone, Subzone, Node, Cluster, Network]),
        0..4,
    );
    let mode = prop::sample::select(vec![
        Mode::Standard,
        Mode::Strict,
        Mode::Failover,
        Mode::Passthrough,
    ]);
    let health = prop::sample::select(vec![HealthPolicy::OnlyHealthy, HealthPolicy::AllowAll]);
    let balancing =
        (preference, mode, health).prop_map(|(preference, mode, health)| LoadBalancing {
            preference,
            mode,
            health,
        });
    let names = (text(), some_text(), some_text());
    let lists = (
        prop::collection::vec(address(), 0..3),
        ports(),
        prop::collection::vec(some_text(), 0..2),
    );
    use IpFamilies::{Automatic, Dual, V4, V6};
    let weighted = (gateway(), any::<u32>()).prop_filter_map("a gateway", |(waypoint, weight)| {
        waypoint.map(|waypoint| WeightedWaypoint {
            waypoint: *waypoint,
            weight,
        })
    });
    let more = (
        prop::collection::vec(weighted, 0..3),
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(vec![Automatic, V4, V6, Dual]),
        prop::sample::select(vec![Visibility::Public, Visibility::Namespace]),
    );
    (names, lists, gateway(), balancing, any::<bool>(), more).prop_map(
        |(names, lists, waypoint, load_balancing, canonical, more)| Service {
            name: names.0,
            namespace: names.1,
            hostname: names.2,
            addresses: lists.0,
            ports: lists.1,
            subject_alt_names: lists.2,
            waypoint,
            waypoint_use: WaypointUse {
                weighted: more.0,
                ingress: more.1,
                enforced: more.2,
            },
            load_balancing,
            canonical,
            families: more.3,
            visibility: more.4,
        },
    )
}

proptest! {
    #[test]
    fn workloads_survive_the_wire(workload in workload()) {
        let bytes = encode_workload(&workload);
        prop_assert_eq!(&bytes, &encode_workload(&workload.clone()), "equal workloads, equal bytes");
        let decoded = decode_address(&bytes, &mut Interner::default()).unwrap();
        prop_assert_eq!(decoded, AddressItem::Workload(workload));
    }

    #[test]
    fn services_survive_the_wire(service in service()) {
        let decoded = decode_address(&encode_service(&service), &mut Interner::default()).unwrap();
        prop_assert_eq!(decoded, AddressItem::Service(service));
    }

    #[test]
    fn rubbish_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_address(&bytes, &mut Interner::default());
    }
}

fn decode(workload: wire::Workload) -> Result<Workload, crate::DecodeError> {
    Workload::try_from(workload)
}

fn least() -> wire::Workload {
    wire::Workload {
        uid: "u".into(),
        ..wire::Workload::default()
    }
}

#[test]
fn what_the_wire_leaves_out() {
    let workload = decode(least()).unwrap();
    assert_eq!(
        workload.identity().to_string(),
        "spiffe://cluster.local/ns//sa/default"
    );
    assert_eq!((&*workload.cluster, workload.capacity), ("Kubernetes", 1));
    let gateway = wire::GatewayAddress {
        destination: Some(wire::gateway_address::Destination::Address(
            wire::NetworkAddress {
                address: vec![10, 0, 0, 1],
                ..wire::NetworkAddress::default()
            },
        )),
        hbone_mtls_port: 0,
    };
    let workload = decode(wire::Workload {
        waypoint: Some(gateway),
        ..least()
    })
    .unwrap();
    assert_eq!(workload.waypoint.unwrap().hbone_port, 15008);
}

#[test]
fn the_default_trust_domain_costs_no_bytes() {
    let workload = decode(least()).unwrap();
    assert_eq!(wire::Workload::from(&workload).trust_domain, "");
}

#[test]
fn telemetry_hints_may_be_unknown_and_routing_may_not() {
    let hint = wire::Workload {
        workload_type: 99,
        status: 99,
        ..least()
    };
    let workload = decode(hint).unwrap();
    assert_eq!(
        (workload.kind, workload.health),
        (WorkloadKind::Pod, Health::Unhealthy)
    );
    for (bad, field) in [
        (
            wire::Workload {
                tunnel_protocol: 99,
                ..least()
            },
            "tunnel_protocol",
        ),
        (
            wire::Workload {
                network_mode: 99,
                ..least()
            },
            "network_mode",
        ),
        (
            wire::Workload {
                addresses: vec![vec![1, 2, 3]],
                ..least()
            },
            "addresses",
        ),
        (
            wire::Workload {
                uid: String::new(),
                ..least()
            },
            "uid",
        ),
        (
            wire::Workload {
                services: [("nohost".into(), wire::PortList::default())].into(),
                ..least()
            },
            "services",
        ),
        (
            wire::Workload {
                waypoint: Some(wire::GatewayAddress::default()),
                ..least()
            },
            "waypoint",
        ),
    ] {
        let error = decode(bad).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    let port = wire::Port {
        service_port: 70_000,
        ..wire::Port::default()
    };
    let ports = wire::PortList { ports: vec![port] };
    let error = decode(wire::Workload {
        services: [("a/b".into(), ports)].into(),
        ..least()
    })
    .unwrap_err();
    assert!(error.to_string().contains("70000"), "{error}");
}

#[test]
fn a_service_needs_names_and_sense() {
    let least = || wire::Service {
        namespace: "n".into(),
        hostname: "h".into(),
        ..wire::Service::default()
    };
    assert!(Service::try_from(least()).is_ok());
    assert!(
        Service::try_from(wire::Service {
            namespace: String::new(),
            ..least()
        })
        .is_err()
    );
    let balancing = |routing_preference, mode| wire::Service {
        load_balancing: Some(wire::LoadBalancing {
            routing_preference,
            mode,
            health_policy: 0,
        }),
        ..least()
    };
    assert!(Service::try_from(balancing(vec![99], 0)).is_err());
    assert!(Service::try_from(balancing(vec![], 99)).is_err());
    let range = |length| {
        let address = wire::NetworkAddress {
            address: vec![10, 0, 0, 1],
            length: Some(length),
            ..wire::NetworkAddress::default()
        };
        Service::try_from(wire::Service {
            addresses: vec![address],
            ..least()
        })
    };
    assert_eq!(
        range(24).unwrap().addresses[0].range.to_string(),
        "10.0.0.0/24"
    );
    assert!(range(33).is_err());
}

#[test]
fn an_address_of_neither_kind_is_refused() {
    let error = decode_address(&[], &mut Interner::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("neither a workload nor a service"),
        "{error}"
    );
    let error = decode_address(&[0xff; 4], &mut Interner::default()).unwrap_err();
    assert!(
        error.to_string().contains("istio.workload.Address"),
        "{error}"
    );
}

#[test]
fn texts_and_services_are_shared_between_resources() {
    let mut texts = Interner::default();
    let decode = |texts: &mut Interner, uid: &str| {
        let message = wire::Workload {
            uid: uid.into(),
            namespace: "same".into(),
            services: [("same/web".into(), wire::PortList::default())].into(),
            ..wire::Workload::default()
        };
        let address = wire::Address {
            r#type: Some(wire::address::Type::Workload(message)),
        };
        match decode_address(&address.encode_to_vec(), texts).unwrap() {
            AddressItem::Workload(workload) => workload,
            AddressItem::Service(_) => panic!("a service"),
        }
    };
    let (a, b) = (decode(&mut texts, "a"), decode(&mut texts, "b"));
    assert!(Arc::ptr_eq(&a.namespace, &b.namespace));
    assert_eq!(a.services.len(), 1);
    assert!(Arc::ptr_eq(&a.services, &b.services));
}
