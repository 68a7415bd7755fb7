//! Small worlds of objects, and events in them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::from;
use crate::{Cluster, Settings};

/// Kinds of objects in the small world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    Slice,
    ServiceEntry,
    WorkloadEntry,
    Authorization,
    Peer,
    Class,
    Gateway,
    ListenerSet,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    Grant,
    BackendTls,
    Secret,
    ConfigMap,
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Kind, namespace, name, and the object; `None` removes it.
    Object(Kind, &'static str, &'static str, Option<Value>),
    Settings(Settings),
    /// The control plane looks.
    Take,
}

/// Key of an object.
pub(super) type At = (Kind, &'static str, &'static str);

/// Tells a cluster of one object.
pub(super) fn tell(cluster: &mut Cluster, (kind, namespace, name): At, object: Option<&Value>) {
    match (kind, object.cloned()) {
        (Kind::Namespace, Some(o)) => cluster.upsert_namespace(&from(o)),
        (Kind::Namespace, None) => cluster.remove_namespace(name),
        (Kind::Node, Some(o)) => cluster.upsert_node(&from(o)),
        (Kind::Node, None) => cluster.remove_node(name),
        (Kind::Pod, Some(o)) => cluster.upsert_pod(&from(o)),
        (Kind::Pod, None) => cluster.remove_pod(namespace, name),
        (Kind::Service, Some(o)) => cluster.upsert_service(&from(o)),
        (Kind::Service, None) => cluster.remove_service(namespace, name),
        (Kind::Slice, Some(o)) => cluster.upsert_endpoint_slice(&from(o)),
        (Kind::Slice, None) => cluster.remove_endpoint_slice(namespace, name),
        (Kind::ServiceEntry, Some(o)) => cluster.upsert_service_entry(&from(o)),
        (Kind::ServiceEntry, None) => cluster.remove_service_entry(namespace, name),
        (Kind::WorkloadEntry, Some(o)) => cluster.upsert_workload_entry(&from(o)),
        (Kind::WorkloadEntry, None) => cluster.remove_workload_entry(namespace, name),
        (Kind::Authorization, Some(o)) => cluster.upsert_authorization_policy(&from(o)),
        (Kind::Authorization, None) => cluster.remove_authorization_policy(namespace, name),
        (Kind::Peer, Some(o)) => cluster.upsert_peer_authentication(&from(o)),
        (Kind::Peer, None) => cluster.remove_peer_authentication(namespace, name),
        (Kind::Class, Some(o)) => cluster.upsert_gateway_class(&from(o)),
        (Kind::Class, None) => cluster.remove_gateway_class(name),
        (Kind::Gateway, Some(o)) => cluster.upsert_gateway(&from(o)),
        (Kind::Gateway, None) => cluster.remove_gateway(namespace, name),
        (Kind::ListenerSet, Some(o)) => cluster.upsert_listener_set(&from(o)),
        (Kind::ListenerSet, None) => cluster.remove_listener_set(namespace, name),
        (Kind::HttpRoute, Some(o)) => cluster.upsert_http_route(&from(o)),
        (Kind::HttpRoute, None) => cluster.remove_http_route(namespace, name),
        (Kind::GrpcRoute, Some(o)) => cluster.upsert_grpc_route(&from(o)),
        (Kind::GrpcRoute, None) => cluster.remove_grpc_route(namespace, name),
        (Kind::TlsRoute, Some(o)) => cluster.upsert_tls_route(&from(o)),
        (Kind::TlsRoute, None) => cluster.remove_tls_route(namespace, name),
        (Kind::TcpRoute, Some(o)) => cluster.upsert_tcp_route(&from(o)),
        (Kind::TcpRoute, None) => cluster.remove_tcp_route(namespace, name),
        (Kind::Grant, Some(o)) => cluster.upsert_reference_grant(&from(o)),
        (Kind::Grant, None) => cluster.remove_reference_grant(namespace, name),
        (Kind::BackendTls, Some(o)) => cluster.upsert_backend_tls_policy(&from(o)),
        (Kind::BackendTls, None) => cluster.remove_backend_tls_policy(namespace, name),
        (Kind::Secret, Some(o)) => cluster.upsert_secret(&from(o)),
        (Kind::Secret, None) => cluster.remove_secret(namespace, name),
        (Kind::ConfigMap, Some(o)) => cluster.upsert_config_map(&from(o)),
        (Kind::ConfigMap, None) => cluster.remove_config_map(namespace, name),
    }
}

const NAMESPACES: [&str; 3] = ["a", "b", "istio-system"];

fn labels() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    let value = prop::option::of(prop::sample::select(vec!["x", "y"]));
    (value.clone(), value).prop_map(|(app, version)| {
        let pairs = [("app", app), ("version", version)];
        pairs
            .into_iter()
            .filter_map(|(k, v)| v.map(|v| (k, v)))
            .collect()
    })
}

fn meta(namespace: &str, name: &str, more: Value) -> Value {
    let mut meta = json!({"name": name, "namespace": namespace});
    for (key, value) in more.as_object().into_iter().flatten() {
        meta[key] = value.clone();
    }
    meta
}

fn created() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
}

fn waypoint() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!({})),
        1 => Just(json!({"istio.io/use-waypoint": "w"})),
        1 => Just(json!({"istio.io/use-waypoint": "none"})),
        1 => Just(json!({"istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "b"})),
        1 => Just(json!({"istio.io/use-waypoint": "w", "istio.io/ingress-use-waypoint": "true",
            "istio.io/use-waypoint-canary": "v"})),
    ]
}

fn namespace() -> impl Strategy<Value = (At, Value)> {
    let labels = (
        waypoint(),
        prop::option::of(prop::sample::select(vec!["n1", "n2"])),
        any::<bool>(),
    );
    let distribution = prop::sample::select(vec!["", "PreferClose", "PreferSameNode", "odd"]);
    (prop::sample::select(&NAMESPACES[..]), labels, distribution).prop_map(
        |(name, (mut labels, network, seen), distribution)| {
            if let Some(network) = network {
                labels["topology.istio.io/network"] = json!(network);
            }
            if seen {
                labels["seen"] = json!("yes");
            }
            let annotations = json!({"networking.istio.io/traffic-distribution": distribution});
            let meta = json!({"name": name, "labels": labels, "annotations": annotations});
            ((Kind::Namespace, "", name), json!({"metadata": meta}))
        },
    )
}

fn node() -> impl Strategy<Value = (At, Value)> {
    (
        prop::sample::select(vec!["n1", "n2"]),
        prop::sample::select(vec!["r1", "r2"]),
    )
        .prop_map(|(name, region)| {
            let labels = json!({"topology.kubernetes.io/region": region});
            (
                (Kind::Node, "", name),
                json!({"metadata": {"name": name, "labels": labels}}),
            )
        })
}

fn pod() -> impl Strategy<Value = (At, Value)> {
    let place = (
        prop::sample::select(&NAMESPACES[..]),
        prop::sample::select(vec!["p1", "p2", "p3"]),
    );
    let phase = prop::sample::select(vec!["Pending", "Running", "Succeeded"]);
    let ip = prop::option::weighted(0.9, 1u8..4);
    let node = prop::sample::select(vec!["", "n1", "n2"]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let labels = (labels(), waypoint()).prop_map(|(labels, waypoint)| {
        let mut all = json!(labels);
        for (key, value) in waypoint.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        all
    });
    (place, labels, phase, ip, node, flags).prop_map(
        |((namespace, name), labels, phase, ip, node, (ready, redirected, named))| {
            let annotations =
                if redirected { json!({"ambient.istio.io/redirection": "enabled"}) } else { json!({}) };
            let port = if named { json!([{"name": "web", "containerPort": 8080}]) } else { json!([]) };
            let ips = ip.map_or(json!([]), |ip| json!([{"ip": format!("10.0.0.{ip}")}]));
            let ready = if ready { "True" } else { "False" };
            let object = json!({
                "metadata": meta(namespace, name, json!({"labels": labels, "annotations": annotations})),
                "spec": {"nodeName": node, "containers": [{"name": "c", "ports": port}]},
                "status": {
                    "phase": phase,
                    "podIPs": ips,
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            });
            ((Kind::Pod, namespace, name), object)
        },
    )
}

fn service() -> impl Strategy<Value = (At, Value)> {
    let place = (
        prop::sample::select(&NAMESPACES[..2]),
        prop::sample::select(vec!["s1", "s2"]),
    );
    let kind = prop::sample::select(vec!["ClusterIP", "ClusterIP", "ExternalName"]);
    let target = prop::sample::select(vec![json!(8080), json!("web"), json!("missing")]);
    (place, labels(), kind, target, waypoint(), any::<bool>()).prop_map(
        |((namespace, name), selector, kind, target, labels, local)| {
            let object = json!({
                "metadata": meta(namespace, name, json!({"labels": labels})),
                "spec": {
                    "type": kind,
                    "selector": selector,
                    "clusterIP": "10.1.0.1",
                    "ports": [{"name": "http", "port": 80, "targetPort": target}],
                    "internalTrafficPolicy": if local { "Local" } else { "Cluster" },
                },
            });
            ((Kind::Service, namespace, name), object)
        },
    )
}

fn slice() -> impl Strategy<Value = (At, Value)> {
    let place = (
        prop::sample::select(&NAMESPACES[..2]),
        prop::sample::select(vec!["e1", "e2"]),
    );
    let service = prop::option::weighted(0.9, prop::sample::select(vec!["s1", "s2"]));
    let pods = prop::sample::subsequence(vec!["p1", "p2", "p3"], 0..3);
    let others = prop::collection::btree_set(1u8..4, 0..3);
    (place, service, pods, others).prop_map(|((namespace, name), service, pods, others)| {
        let labels = service.map_or(json!({}), |s| json!({"kubernetes.io/service-name": s}));
        let pods = pods.into_iter().map(
            |pod| json!({"addresses": ["10.0.0.9"], "targetRef": {"kind": "Pod", "name": pod}}),
        );
        let others = others
            .into_iter()
            .map(|ip| json!({"addresses": [format!("192.0.2.{ip}")]}));
        let object = json!({
            "metadata": meta(namespace, name, json!({"labels": labels})),
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 9090, "protocol": "TCP"}],
            "endpoints": pods.chain(others).collect::<Vec<_>>(),
        });
        ((Kind::Slice, namespace, name), object)
    })
}

fn service_entry() -> impl Strategy<Value = (At, Value)> {
    let place = (
        prop::sample::select(&NAMESPACES[..2]),
        prop::sample::select(vec!["se1", "se2"]),
    );
    let hosts = prop::sample::select(vec![
        vec!["example.com"],
        vec!["example.com", "example.org"],
        vec!["s1.a.svc.cluster.local"],
    ]);
    let resolution = prop::sample::select(vec!["NONE", "STATIC", "DNS"]);
    (place, hosts, resolution, labels(), created(), any::<bool>()).prop_map(
        |((namespace, name), hosts, resolution, selector, created, endpoints)| {
            let mut spec = json!({
                "hosts": hosts,
                "addresses": ["240.0.0.1"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": resolution,
            });
            if endpoints {
                spec["endpoints"] = json!([{"address": "192.0.2.1"}, {"address": "host.test"}]);
            } else if !selector.is_empty() {
                spec["workloadSelector"] = json!({"labels": selector});
            }
            let meta = meta(
                namespace,
                name,
                json!({"creationTimestamp": created, "labels": selector}),
            );
            (
                (Kind::ServiceEntry, namespace, name),
                json!({
                    "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                    "metadata": meta, "spec": spec,
                }),
            )
        },
    )
}

fn workload_entry() -> impl Strategy<Value = (At, Value)> {
    let place = (
        prop::sample::select(&NAMESPACES[..2]),
        prop::sample::select(vec!["w1", "w2"]),
    );
    (place, labels(), waypoint()).prop_map(|((namespace, name), labels, waypoint)| {
        let spec = json!({"address": "192.0.2.7", "labels": labels, "ports": {"http": 81}});
        (
            (Kind::WorkloadEntry, namespace, name),
            json!({
                "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
                "metadata": meta(namespace, name, json!({"labels": waypoint})), "spec": spec,
            }),
        )
    })
}

fn authorization() -> impl Strategy<Value = (At, Value)> {
    let place = (
        prop::sample::select(&NAMESPACES[..]),
        prop::sample::select(vec!["ap1", "ap2"]),
    );
    let spec = prop::sample::select(vec![
        json!({}),
        json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]}),
        json!({"action": "CUSTOM"}),
        json!({"targetRefs": [{"kind": "Service", "name": "s1"}]}),
        json!({"rules": [{"to": [{"operation": {"ports": ["http"]}}]}]}),
    ]);
    (place, prop::option::of(labels()), spec).prop_map(|((namespace, name), selector, mut spec)| {
        if let Some(labels) = selector {
            spec["selector"] = json!({"matchLabels": labels});
        }
        (
            (Kind::Authorization, namespace, name),
            json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": meta(namespace, name, json!({})), "spec": spec,
            }),
        )
    })
}

fn peer() -> impl Strategy<Value = (At, Value)> {
    let place = (
        prop::sample::select(&NAMESPACES[..]),
        prop::sample::select(vec!["pa1", "pa2"]),
    );
    let mode = prop::sample::select(vec!["UNSET", "PERMISSIVE", "STRICT", "DISABLE"]);
    let ports = prop::option::of((1u16..3, mode.clone()));
    (place, prop::option::of(labels()), mode, ports, created()).prop_map(
        |((namespace, name), selector, mode, ports, created)| {
            let mut spec = json!({"mtls": {"mode": mode}});
            if let Some(labels) = selector {
                spec["selector"] = json!({"matchLabels": labels});
            }
            if let Some((port, mode)) = ports {
                spec["portLevelMtls"] = json!({port.to_string(): {"mode": mode}});
            }
            ((Kind::Peer, namespace, name), json!({
                "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                "metadata": meta(namespace, name, json!({"creationTimestamp": created})), "spec": spec,
            }))
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let root = prop::sample::select(vec!["istio-system", "b"]);
    let domain = prop::sample::select(vec!["cluster.local", "other"]);
    (root, domain, prop::bool::weighted(0.3)).prop_map(|(root, domain, discovery)| {
        let selectors = if discovery {
            "discoverySelectors: [{matchLabels: {seen: 'yes'}}]"
        } else {
            "{}"
        };
        let mesh = tulle_api::mesh::MeshConfig::parse(selectors).unwrap();
        Settings {
            root_namespace: root.into(),
            trust_domain: domain.into(),
            discovery: mesh.discovery_selectors,
            ..Settings::default()
        }
    })
}

/// Anything that can happen.
pub(super) fn event() -> impl Strategy<Value = Event> {
    let object = prop_oneof![
        2 => namespace(),
        1 => node(),
        6 => pod(),
        3 => service(),
        2 => slice(),
        2 => service_entry(),
        1 => workload_entry(),
        2 => authorization(),
        2 => peer(),
        14 => super::gateway_objects::object(),
    ];
    let change = (object, prop::bool::weighted(0.75)).prop_map(|((at, object), present)| {
        Event::Object(at.0, at.1, at.2, present.then_some(object))
    });
    prop_oneof![30 => change, 1 => settings().prop_map(Event::Settings), 6 => Just(Event::Take)]
}
