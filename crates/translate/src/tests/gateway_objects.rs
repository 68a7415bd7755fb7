//! Objects of the Gateway API in the small world.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::objects::{At, Kind};

/// As much of a certificate as can be checked without reading it.
pub(super) const CERTIFICATE: &str =
    "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
/// Likewise.
pub(super) const PRIVATE_KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nMAMCAQE=\n-----END PRIVATE KEY-----\n";

const PLACES: [&str; 2] = ["a", "b"];

fn place(names: &'static [&'static str]) -> impl Strategy<Value = (&'static str, &'static str)> {
    (
        prop::sample::select(&PLACES[..]),
        prop::sample::select(names),
    )
}

fn created() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
}

/// Classes that are ours, and one that is not.
fn class() -> impl Strategy<Value = (At, Value)> {
    let name = prop::sample::select(vec!["istio", "istio-waypoint", "other"]);
    let controller = prop::sample::select(vec![
        "istio.io/gateway-controller",
        "istio.io/mesh-controller",
        "example.com/other",
    ]);
    let traffic = prop::sample::select(vec![json!({}), json!({"istio.io/waypoint-for": "all"})]);
    (name, controller, traffic).prop_map(|(name, controller, labels)| {
        let object = json!({
            "metadata": {"name": name, "labels": labels, "generation": 1},
            "spec": {"controllerName": controller},
        });
        ((Kind::Class, "", name), object)
    })
}

fn allowed() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({}),
        json!({"namespaces": {"from": "All"}}),
        json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"seen": "yes"}}}}),
        json!({"kinds": [{"kind": "GRPCRoute"}]}),
    ])
}

fn listener(name: &'static str) -> impl Strategy<Value = Value> {
    let tls = prop::sample::select(vec![
        json!({"certificateRefs": [{"name": "c1"}]}),
        json!({"certificateRefs": [{"name": "c1", "namespace": "b"}]}),
        json!({"mode": "Passthrough"}),
    ]);
    let protocol = prop::sample::select(vec!["HTTP", "HTTPS", "TLS", "TCP", "UDP"]);
    let hostname = prop::sample::select(vec!["", "*.example.com", "www.example.com"]);
    let port = prop::sample::select(vec![80, 443]);
    (protocol, tls, hostname, port, allowed()).prop_map(move |(protocol, tls, hostname, port, allowed)| {
        let mut listener = json!({
            "name": name, "port": port, "protocol": protocol, "hostname": hostname, "allowedRoutes": allowed,
        });
        if matches!(protocol, "HTTPS" | "TLS") {
            listener["tls"] = tls;
        }
        listener
    })
}

fn gateway() -> impl Strategy<Value = (At, Value)> {
    let listeners = (listener("l1"), listener("l2"), any::<bool>());
    let listeners = listeners.prop_map(|(first, second, both)| {
        if both {
            vec![first, second]
        } else {
            vec![first]
        }
    });
    let sets = prop::sample::select(vec![json!({}), json!({"namespaces": {"from": "All"}})]);
    let addresses = prop::sample::select(vec![
        json!([]),
        json!([]),
        json!([{"type": "Hostname", "value": "s1"}]),
        json!([{"type": "IPAddress", "value": "192.0.2.9"}]),
        json!([{"type": "odd", "value": "x"}]),
    ]);
    let parameters = prop::option::weighted(
        0.2,
        Just(json!({"group": "", "kind": "ConfigMap", "name": "m1"})),
    );
    let tls = prop::option::weighted(
        0.2,
        Just(
            json!({"frontend": {"default": {"validation": {"caCertificateRefs": [{"kind": "ConfigMap", "name": "m1"}]}}}}),
        ),
    );
    let class = prop::sample::select(vec!["istio", "istio", "other"]);
    (place(&["g"]), class, listeners, sets, addresses, parameters, tls).prop_map(
        |((namespace, name), class, listeners, sets, addresses, parameters, tls)| {
            let mut spec = json!({
                "gatewayClassName": class, "listeners": listeners, "allowedListeners": sets, "addresses": addresses,
            });
            if let Some(parameters) = parameters {
                spec["infrastructure"] = json!({"parametersRef": parameters});
            }
            if let Some(tls) = tls {
                spec["tls"] = tls;
            }
            let meta = json!({"name": name, "namespace": namespace, "uid": "u", "generation": 1});
            ((Kind::Gateway, namespace, name), json!({"metadata": meta, "spec": spec}))
        },
    )
}

fn waypoint() -> impl Strategy<Value = (At, Value)> {
    let traffic = prop::sample::select(vec![
        json!({}),
        json!({"istio.io/waypoint-for": "all"}),
        json!({"istio.io/waypoint-for": "workload", "tulle.mesh/waypoint-enforced": "true"}),
    ]);
    let reported = prop::option::of(prop::sample::select(vec![
        json!([{"type": "IPAddress", "value": "192.0.2.8"}]),
        json!([{"type": "Hostname", "value": "w.a.svc.cluster.local"}]),
    ]));
    let class = prop::sample::select(vec!["istio-waypoint", "istio-waypoint", "other"]);
    (place(&["w", "v"]), traffic, allowed(), reported, class).prop_map(
        |((namespace, name), labels, allowed, reported, class)| {
            let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE", "allowedRoutes": allowed});
            let mut object = json!({
                "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": "u"},
                "spec": {"gatewayClassName": class, "listeners": [listener]},
            });
            if let Some(addresses) = reported {
                object["status"] = json!({"addresses": addresses});
            }
            ((Kind::Gateway, namespace, name), object)
        },
    )
}

fn listener_set() -> impl Strategy<Value = (At, Value)> {
    let parent = prop::sample::select(vec![
        json!({"name": "g"}),
        json!({"name": "g", "namespace": "a"}),
    ]);
    (place(&["ls1", "ls2"]), parent, listener("l1"), created()).prop_map(
        |((namespace, name), parent, listener, created)| {
            let object = json!({
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
                "spec": {"parentRef": parent, "listeners": [listener]},
            });
            ((Kind::ListenerSet, namespace, name), object)
        },
    )
}

fn parent() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"name": "g"}),
        json!({"name": "g", "namespace": "a", "sectionName": "l2"}),
        json!({"name": "g", "namespace": "b", "port": 80}),
        json!({"kind": "ListenerSet", "name": "ls1", "namespace": "a"}),
        json!({"group": "", "kind": "Service", "name": "s1"}),
        json!({"group": "", "kind": "Service", "name": "s2", "namespace": "b", "port": 80}),
        json!({"group": "networking.istio.io", "kind": "ServiceEntry", "name": "se1"}),
        json!({"kind": "Elsewhere", "name": "g"}),
    ])
}

fn backend() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({"name": "s1", "port": 80}),
        json!({"name": "s2", "namespace": "b", "port": 80, "weight": 3}),
        json!({"name": "s1", "port": 81}),
        json!({"group": "networking.istio.io", "kind": "ServiceEntry", "name": "se1", "port": 80}),
        json!({"group": "networking.istio.io", "kind": "Hostname", "name": "example.com", "port": 80}),
        json!({"group": "example.com", "kind": "Bucket", "name": "x", "port": 80}),
    ])
}

fn route() -> impl Strategy<Value = (At, Value)> {
    let kind = prop::sample::select(vec![
        Kind::HttpRoute,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TcpRoute,
    ]);
    let filters = prop::sample::select(vec![
        json!([]),
        json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "s2", "port": 80}}}]),
        json!([{"type": "ExtensionRef", "extensionRef": {"group": "x", "kind": "X", "name": "x"}}]),
    ]);
    let hostnames = prop::sample::select(vec![
        json!([]),
        json!(["www.example.com"]),
        json!(["other.test"]),
    ]);
    let parents = prop::collection::vec(parent(), 1..3);
    let backends = prop::collection::vec(backend(), 0..3);
    (kind, place(&["r1", "r2"]), parents, backends, filters, hostnames, created()).prop_map(
        |(kind, (namespace, name), parents, backends, filters, hostnames, created)| {
            let mut rule = json!({"backendRefs": backends});
            if matches!(kind, Kind::HttpRoute | Kind::GrpcRoute) {
                rule["filters"] = filters;
            }
            let object = json!({
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created, "generation": 3},
                "spec": {"parentRefs": parents, "hostnames": hostnames, "rules": [rule]},
            });
            ((kind, namespace, name), object)
        },
    )
}

fn grant() -> impl Strategy<Value = (At, Value)> {
    let kind = prop::sample::select(vec!["HTTPRoute", "Gateway", "TLSRoute", "ListenerSet"]);
    let to = prop::sample::select(vec![json!({"kind": "Service"}), json!({"kind": "Secret"})]);
    let from = prop::sample::select(&PLACES[..]);
    (place(&["g1", "g2"]), kind, from, to).prop_map(|((namespace, name), kind, from, to)| {
        let from = json!({"group": "gateway.networking.k8s.io", "kind": kind, "namespace": from});
        let object = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"from": [from], "to": [to]},
        });
        ((Kind::Grant, namespace, name), object)
    })
}

fn backend_tls() -> impl Strategy<Value = (At, Value)> {
    let section = prop::sample::select(vec![json!(null), json!("http")]);
    let roots = prop::sample::select(vec![
        json!({"caCertificateRefs": [{"kind": "ConfigMap", "name": "m1"}]}),
        json!({"wellKnownCACertificates": "System"}),
    ]);
    (place(&["t1", "t2"]), section, roots, created()).prop_map(
        |((namespace, name), section, mut validation, created)| {
            validation["hostname"] = json!("backend.example");
            let target =
                json!({"group": "", "kind": "Service", "name": "s1", "sectionName": section});
            let object = json!({
                "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
                "spec": {"targetRefs": [target], "validation": validation},
            });
            ((Kind::BackendTls, namespace, name), object)
        },
    )
}

/// A Secret with a certificate, or with something else under its name.
pub(super) fn secret_of(namespace: &str, name: &str, chain: &str) -> Value {
    let bytes = |text: &str| {
        serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap()
    };
    json!({
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": bytes(chain), "tls.key": bytes(PRIVATE_KEY)},
    })
}

fn secret() -> impl Strategy<Value = (At, Value)> {
    (place(&["c1"]), any::<bool>()).prop_map(|((namespace, name), good)| {
        let chain = if good { CERTIFICATE } else { "Hello world" };
        (
            (Kind::Secret, namespace, name),
            secret_of(namespace, name, chain),
        )
    })
}

fn config_map() -> impl Strategy<Value = (At, Value)> {
    (place(&["m1"]), any::<bool>()).prop_map(|((namespace, name), good)| {
        let data = if good {
            json!({"ca.crt": CERTIFICATE})
        } else {
            json!({})
        };
        let object = json!({"metadata": {"name": name, "namespace": namespace}, "data": data});
        ((Kind::ConfigMap, namespace, name), object)
    })
}

/// Services and pods of Gateways, as the deployer makes them.
fn deployed() -> impl Strategy<Value = (At, Value)> {
    let service = (place(&["w", "v", "g-istio"]), any::<bool>(), any::<bool>()).prop_map(
        |((namespace, name), balanced, given)| {
            let mut object = json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": "10.1.0.7", "ports": [{"name": "http", "port": 80}]},
            });
            if balanced {
                object["spec"]["type"] = json!("LoadBalancer");
            }
            if given {
                object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
            }
            ((Kind::Service, namespace, name), object)
        },
    );
    let gateway = prop::sample::select(vec!["w", "v", "g"]);
    let pod = (place(&["p1", "p4"]), gateway, any::<bool>()).prop_map(
        |((namespace, name), gateway, ready)| {
            let labels = json!({"gateway.networking.k8s.io/gateway-name": gateway});
            let ready = if ready { "True" } else { "False" };
            let object = json!({
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {"containers": []},
                "status": {
                    "phase": "Running",
                    "podIPs": [{"ip": "10.0.0.4"}],
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            });
            ((Kind::Pod, namespace, name), object)
        },
    );
    prop_oneof![service, pod]
}

/// Any of them.
pub(super) fn object() -> impl Strategy<Value = (At, Value)> {
    prop_oneof![
        1 => class(),
        3 => gateway(),
        3 => waypoint(),
        2 => listener_set(),
        6 => route(),
        1 => grant(),
        2 => backend_tls(),
        2 => secret(),
        1 => config_map(),
        3 => deployed(),
    ]
}
