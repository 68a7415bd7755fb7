//! The incremental result is what a computation from nothing gives, for Istio's kinds.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::world::{apply, bookinfo};
use crate::{Audience, Changes, Cluster, Resource, ResourceKey};

/// Objects that come and go; each depends on some of the others.
const OBJECTS: [(&str, &str, &str); 21] = [
    (
        "VirtualService",
        "reviews",
        "spec: {hosts: [reviews], http: [{route: [{destination: {host: ratings, subset: v1}}]}]}",
    ),
    (
        "VirtualService",
        "reviews",
        "spec: {hosts: [reviews], gateways: [g, mesh], http: [{delegate: {name: below}}]}",
    ),
    (
        "VirtualService",
        "below",
        "spec: {http: [{route: [{destination: {host: late}}]}]}",
    ),
    (
        "VirtualService",
        "wild",
        "spec: {hosts: ['*.default.svc.cluster.local'], http: [{route: [{destination: {host: late}}]}]}",
    ),
    (
        "DestinationRule",
        "ratings",
        "spec: {host: ratings, subsets: [{name: v1, labels: {version: v1}}]}",
    ),
    (
        "DestinationRule",
        "ratings",
        "spec: {host: '*.default.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}",
    ),
    (
        "DestinationRule",
        "late",
        "spec: {host: late, trafficPolicy: {tls: {mode: SIMPLE}}}",
    ),
    (
        "Gateway",
        "g",
        "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}]}",
    ),
    (
        "AuthorizationPolicy",
        "late",
        "spec: {targetRefs: [{kind: Service, group: '', name: late}]}",
    ),
    (
        "AuthorizationPolicy",
        "late",
        "spec: {selector: {matchLabels: {app: late}}, rules: [{}]}",
    ),
    (
        "RequestAuthentication",
        "late",
        "spec: {targetRefs: [{kind: Service, group: '', name: late}], jwtRules: [{issuer: x}]}",
    ),
    (
        "Telemetry",
        "late",
        "spec: {targetRefs: [{kind: Service, group: '', name: late}], accessLogging: [{providers: [{name: envoy}]}]}",
    ),
    (
        "Service",
        "late",
        "spec: {clusterIP: 10.96.0.50, selector: {app: late}, ports: [{name: http, port: 80}]}",
    ),
    (
        "Service",
        "ratings",
        "spec: {clusterIP: 10.96.0.2, selector: {app: ratings}, ports: [{name: http, port: 9080}]}",
    ),
    (
        "Pod",
        "ratings-v1-9-9",
        "metadata: {labels: {app: ratings, version: v1}}",
    ),
    (
        "ServiceEntry",
        "entry",
        "spec: {hosts: [late.default.svc.cluster.local, e.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
    ),
    (
        "Gateway",
        "g",
        "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: h, protocol: HTTPS}, tls: {mode: MUTUAL, credentialName: cred}, hosts: ['*']}]}",
    ),
    (
        "DestinationRule",
        "late",
        "spec: {host: late, trafficPolicy: {tls: {mode: MUTUAL, credentialName: cred}}}",
    ),
    (
        "Secret",
        "istio-system/cred",
        concat!(
            "data: {tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIENFUlRJRklDQV",
            "RFLS0tLS0K, tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIFBSSVZBV",
            "EUgS0VZLS0tLS0K}",
        ),
    ),
    (
        "Secret",
        "istio-system/cred",
        concat!(
            "data: {tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIENFUlRJRklDQV",
            "RFLS0tLS0K, tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIFBSSVZBV",
            "EUgS0VZLS0tLS0K, ca.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIENFU",
            "lRJRklDQVRFLS0tLS0K}",
        ),
    ),
    (
        "Secret",
        "default/cred",
        concat!(
            "data: {tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIENFUlRJRklDQV",
            "RFLS0tLS0K, tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIFBSSVZBV",
            "EUgS0VZLS0tLS0K, ca.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1BTUNBUUU9Ci0tLS0tRU5EIENFU",
            "lRJRklDQVRFLS0tLS0K}",
        ),
    ),
];

fn manifest((kind, name, spec): (&str, &str, &str)) -> String {
    if let Some((namespace, name)) = name.split_once('/') {
        return format!("kind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n{spec}");
    }
    match spec.strip_prefix("metadata: {") {
        Some(rest) => format!("kind: {kind}\nmetadata: {{name: {name}, {rest}"),
        None => format!("kind: {kind}\nmetadata: {{name: {name}}}\n{spec}"),
    }
}

fn remove(cluster: &mut Cluster, kind: &str, name: &str) {
    match kind {
        "VirtualService" => cluster.remove_virtual_service("default", name),
        "DestinationRule" => cluster.remove_destination_rule("default", name),
        "Gateway" => cluster.remove_istio_gateway("default", name),
        "AuthorizationPolicy" => cluster.remove_authorization_policy("default", name),
        "RequestAuthentication" => cluster.remove_request_authentication("default", name),
        "Telemetry" => cluster.remove_telemetry("default", name),
        "Service" => cluster.remove_service("default", name),
        "ServiceEntry" => cluster.remove_service_entry("default", name),
        "Pod" => cluster.remove_pod("default", name),
        "Secret" => {
            let (namespace, name) = name.split_once('/').unwrap();
            cluster.remove_secret(namespace, name);
        }
        other => panic!("{other}"),
    }
}

type Known = BTreeMap<ResourceKey, (Audience, Resource)>;

fn hear(known: &mut Known, changes: Changes) {
    for (key, resource) in changes.resources {
        match resource {
            Some(resource) => drop(known.insert(key, resource)),
            None => assert!(
                known.remove(&key).is_some(),
                "told that something unknown is gone: {key:?}"
            ),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Put(usize),
    Remove(usize),
    /// Namespace label of the waypoint, on or off.
    Waypoint(bool),
    /// The gateway's pod.
    GatewayPod(bool),
    Take,
}

fn event() -> impl Strategy<Value = Event> {
    let object = 0..OBJECTS.len();
    prop_oneof![
        6 => object.clone().prop_map(Event::Put),
        3 => object.prop_map(Event::Remove),
        1 => any::<bool>().prop_map(Event::Waypoint),
        1 => any::<bool>().prop_map(Event::GatewayPod),
        3 => Just(Event::Take),
    ]
}

const GATEWAY_POD: &str = r#"
kind: Pod
metadata:
  name: istio-ingressgateway-5d4-x
  generateName: istio-ingressgateway-5d4-
  namespace: istio-system
  labels: {app: istio-ingressgateway, istio: ingressgateway, pod-template-hash: 5d4}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: istio-ingressgateway-5d4, uid: u, controller: true}]
"#;

fn waypoint(cluster: &mut Cluster, on: bool) {
    let labels = if on {
        "istio.io/use-waypoint: waypoint"
    } else {
        ""
    };
    apply(
        cluster,
        &format!("kind: Namespace\nmetadata: {{name: default, labels: {{{labels}}}}}"),
    );
}

fn gateway_pod(cluster: &mut Cluster, on: bool) {
    if on {
        apply(cluster, GATEWAY_POD);
    } else {
        cluster.remove_pod("istio-system", "istio-ingressgateway-5d4-x");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn incremental_equals_from_nothing(events in prop::collection::vec(event(), 1..40)) {
        let mut cluster = bookinfo();
        let mut known = Known::new();
        let start = cluster.snapshot();
        hear(&mut known, start);
        let mut world: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let (mut labelled, mut pod) = (true, true);
        for event in events.into_iter().chain([Event::Take]) {
            match event {
                Event::Put(at) => {
                    let (kind, name, _) = OBJECTS[at];
                    world.insert((kind, name), at);
                    apply(&mut cluster, &manifest(OBJECTS[at]));
                }
                Event::Remove(at) => {
                    let (kind, name, _) = OBJECTS[at];
                    world.remove(&(kind, name));
                    remove(&mut cluster, kind, name);
                }
                Event::Waypoint(on) => {
                    labelled = on;
                    waypoint(&mut cluster, on);
                }
                Event::GatewayPod(on) => {
                    pod = on;
                    gateway_pod(&mut cluster, on);
                }
                Event::Take => {
                    let changes = cluster.take_changes();
                    hear(&mut known, changes);
                }
            }
        }
        let mut fresh = bookinfo();
        let removed = OBJECTS.iter().any(|(kind, name, _)| (*kind, *name) == ("Service", "ratings") && !world.contains_key(&("Service", "ratings")));
        // Bookinfo has this one; whether it is still there is what the cluster under test says.
        let there = cluster.snapshot().services.iter().any(|(key, _)| key.hostname() == "ratings.default.svc.cluster.local");
        if removed && !there {
            fresh.remove_service("default", "ratings");
        }
        for at in world.values() {
            apply(&mut fresh, &manifest(OBJECTS[*at]));
        }
        waypoint(&mut fresh, labelled);
        gateway_pod(&mut fresh, pod);
        fresh.take_changes();
        let mut expected = Known::new();
        hear(&mut expected, fresh.snapshot());
        prop_assert_eq!(known.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, found) in &known {
            prop_assert_eq!(found, &expected[key]);
        }
    }
}
