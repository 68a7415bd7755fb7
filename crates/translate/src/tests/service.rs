//! Services, slices and entries.

use serde_json::{Value, json};
use tulle_model::{AppProtocol, HealthPolicy, Mode, Scope, Service, ServiceKey};

use super::from;
use crate::{Changes, Cluster, Settings};

fn service(spec: Value, annotations: Value) -> Option<Service> {
    let mut cluster = Cluster::new(Settings::default());
    cluster.upsert_service(&from(json!({
        "metadata": {"name": "s", "namespace": "a", "annotations": annotations}, "spec": spec,
    })));
    cluster
        .take_changes()
        .services
        .pop()
        .and_then(|(_, service)| service)
}

fn entry(name: &str, created: &str, spec: Value) -> tulle_api::networking::ServiceEntry {
    from(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "a", "creationTimestamp": created},
        "spec": spec,
    }))
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-01-02T00:00:00Z";

#[test]
fn addresses_and_protocols() {
    let ports = json!([
        {"name": "http-web", "port": 80, "targetPort": "web"},
        {"name": "x", "port": 81, "appProtocol": "kubernetes.io/h2c"},
        {"name": "grpc", "port": 82},
        {"name": "https", "port": 83},
        {"name": "tcp-db", "port": 84},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"port": 85},
    ]);
    let spec =
        json!({"clusterIPs": ["10.1.0.1", "fd00::5"], "clusterIP": "10.1.0.1", "ports": ports});
    let service = service(spec, json!({})).unwrap();
    let addresses: Vec<String> = service
        .addresses
        .iter()
        .map(|a| a.range.to_string())
        .collect();
    assert_eq!(addresses, ["10.1.0.1/32", "fd00::5/128"]);
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|p| (p.service_port, p.target_port, p.protocol))
        .collect();
    assert_eq!(
        ports,
        [
            (80, 0, AppProtocol::Http11),
            (81, 81, AppProtocol::Http2),
            (82, 82, AppProtocol::Grpc),
            (83, 83, AppProtocol::Tls),
            (84, 84, AppProtocol::Tcp),
            (85, 85, AppProtocol::Unknown),
        ]
    );
    assert!(service.canonical);
    assert_eq!(service.key().as_str(), "a/s.a.svc.cluster.local");
}

#[test]
fn which_services_are_told() {
    assert_eq!(
        service(
            json!({"type": "ExternalName", "externalName": "x"}),
            json!({})
        ),
        None
    );
    let headless = service(
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({}),
    )
    .unwrap();
    assert!(headless.addresses.is_empty());
}

#[test]
fn where_traffic_stays() {
    let balancing = |spec: Value, annotations: Value| {
        let lb = service(spec, annotations).unwrap().load_balancing;
        (
            lb.mode,
            lb.preference.len(),
            lb.preference.last().copied(),
            lb.health,
        )
    };
    let healthy = HealthPolicy::OnlyHealthy;
    assert_eq!(
        balancing(json!({}), json!({})),
        (Mode::Standard, 0, None, healthy)
    );
    assert_eq!(
        balancing(json!({"internalTrafficPolicy": "Local"}), json!({})),
        (Mode::Strict, 1, Some(Scope::Node), healthy)
    );
    assert_eq!(
        balancing(json!({"trafficDistribution": "PreferClose"}), json!({})),
        (Mode::Failover, 3, Some(Scope::Zone), healthy)
    );
    let annotation = json!({"networking.istio.io/traffic-distribution": "prefersamenode"});
    assert_eq!(
        balancing(
            json!({"publishNotReadyAddresses": true}),
            annotation.clone()
        ),
        (Mode::Failover, 5, Some(Scope::Node), HealthPolicy::AllowAll)
    );
    let field = json!({"trafficDistribution": "PreferSameZone"});
    assert_eq!(
        balancing(field, annotation),
        (Mode::Failover, 3, Some(Scope::Zone), healthy)
    );
}

#[test]
fn a_namespace_passes_its_distribution_on() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.upsert_service(&from(
        json!({"metadata": {"name": "s", "namespace": "a"}, "spec": {}}),
    ));
    cluster.take_changes();
    cluster.upsert_namespace(&from(json!({"metadata": {
        "name": "a", "annotations": {"networking.istio.io/traffic-distribution": "PreferClose"},
    }})));
    let changes = cluster.take_changes();
    let service = changes.services[0].1.as_ref().unwrap();
    assert_eq!(service.load_balancing.mode, Mode::Failover);
}

#[test]
fn hand_written_endpoints() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.upsert_service(&from(json!({
        "metadata": {"name": "s", "namespace": "a"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    })));
    cluster.upsert_pod(&from(json!({
        "metadata": {"name": "p", "namespace": "a"}, "status": {"podIP": "10.0.0.1"},
    })));
    cluster.upsert_endpoint_slice(&from(json!({
        "metadata": {"name": "e", "namespace": "a", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 9090, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["192.0.2.1"]},
            {"addresses": ["192.0.2.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "p", "namespace": "a"}},
        ],
    })));
    let workloads = cluster.take_changes().workloads;
    let find = |uid: &str| {
        workloads
            .iter()
            .find(|(u, _)| **u == *uid)
            .unwrap()
            .1
            .as_ref()
            .unwrap()
    };
    let first = find("Kubernetes/discovery.k8s.io/EndpointSlice/a/e/192.0.2.1");
    assert_eq!(first.services[0].1[0].target_port, 9090);
    assert!(first.host_network, "its address may be anyone's");
    assert_eq!(
        first.health,
        tulle_model::Health::Healthy,
        "no condition counts as ready"
    );
    let second = find("Kubernetes/discovery.k8s.io/EndpointSlice/a/e/192.0.2.2");
    assert_eq!(second.health, tulle_model::Health::Unhealthy);
    // The pod belongs to the service through the slice, with the service's own ports.
    let pod = find("Kubernetes//Pod/a/p");
    assert_eq!(pod.services[0].0.as_str(), "a/s.a.svc.cluster.local");
    assert_eq!(workloads.len(), 3);
}

fn of_host<'a>(changes: &'a Changes, host: &str) -> Option<&'a Service> {
    let key = ServiceKey::new("a", host);
    changes
        .services
        .iter()
        .rev()
        .find(|(k, _)| *k == key)
        .and_then(|(_, s)| s.as_ref())
}

#[test]
fn entries_make_services_and_workloads() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.upsert_service_entry(&entry("se", OLD, json!({
        "hosts": ["one.test", "two.test"],
        "addresses": ["240.0.0.1", "10.9.0.7/16"],
        "ports": [{"number": 443, "name": "tls", "protocol": "TLS", "targetPort": 8443}, {"number": 80, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "192.0.2.1", "ports": {"http": 8080}, "weight": 5, "locality": "r/z", "serviceAccount": "sa"}],
        "subjectAltNames": ["spiffe://x/ns/y/sa/z"],
    })));
    let changes = cluster.take_changes();
    let service = of_host(&changes, "two.test").unwrap();
    assert_eq!(service.addresses[1].range.to_string(), "10.9.0.0/16");
    assert_eq!(
        (service.ports[0].target_port, service.ports[1].target_port),
        (8443, 80)
    );
    assert_eq!(&*service.subject_alt_names[0], "spiffe://x/ns/y/sa/z");
    assert_eq!(service.load_balancing.mode, Mode::Standard);
    let (uid, workload) = &changes.workloads[0];
    assert_eq!(
        &**uid,
        "Kubernetes/networking.istio.io/ServiceEntry/a/se/192.0.2.1"
    );
    let workload = workload.as_ref().unwrap();
    assert_eq!((workload.capacity, workload.services.len()), (5, 2));
    assert_eq!(workload.services[0].1[0].target_port, 8443);
    assert_eq!(
        workload.services[0].1[1].target_port, 8080,
        "the endpoint's own port of that name"
    );
    assert_eq!(
        (&*workload.locality.region, &*workload.locality.zone),
        ("r", "z")
    );

    cluster.upsert_service_entry(&entry(
        "se",
        OLD,
        json!({
            "hosts": ["one.test"], "ports": [{"number": 80, "name": "http"}], "resolution": "DNS",
        }),
    ));
    let changes = cluster.take_changes();
    assert_eq!(of_host(&changes, "two.test"), None);
    let workload = changes
        .workloads
        .iter()
        .find_map(|(_, w)| w.as_ref())
        .unwrap();
    assert_eq!(
        (&*workload.hostname, workload.addresses.len()),
        ("one.test", 0),
        "its own endpoint"
    );

    cluster.upsert_service_entry(&entry(
        "se",
        OLD,
        json!({"hosts": ["one.test"], "addresses": ["10.9.0.0/16"]}),
    ));
    let changes = cluster.take_changes();
    let balancing = &of_host(&changes, "one.test").unwrap().load_balancing;
    assert_eq!(
        (balancing.mode, balancing.health),
        (Mode::Passthrough, HealthPolicy::AllowAll)
    );
}

#[test]
fn one_host_is_one_service() {
    let mut cluster = Cluster::new(Settings::default());
    let host = "s.a.svc.cluster.local";
    let spec = |address: &str| json!({"hosts": [host], "addresses": [address], "resolution": "STATIC", "endpoints": [{"address": "192.0.2.1"}]});
    cluster.upsert_service_entry(&entry("new", NEW, spec("240.0.0.2")));
    cluster.upsert_service_entry(&entry("old", OLD, spec("240.0.0.1")));
    let changes = cluster.take_changes();
    assert_eq!(
        &*of_host(&changes, host).unwrap().name,
        "old",
        "the oldest entry"
    );
    assert_eq!(
        changes.workloads.len(),
        1,
        "the other's endpoints count for nothing"
    );
    cluster.upsert_service(&from(
        json!({"metadata": {"name": "s", "namespace": "a"}, "spec": {}}),
    ));
    let changes = cluster.take_changes();
    assert_eq!(&*of_host(&changes, host).unwrap().name, "s", "the Service");
    assert_eq!(
        changes.workloads,
        [(
            "Kubernetes/networking.istio.io/ServiceEntry/a/old/192.0.2.1".into(),
            None
        )]
    );
}

#[test]
fn workload_entries_join_by_label() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.upsert_service_entry(&entry(
        "se",
        OLD,
        json!({
            "hosts": ["vm.test"], "ports": [{"number": 80, "name": "http"}], "resolution": "STATIC",
            "workloadSelector": {"labels": {"app": "vm"}},
        }),
    ));
    cluster.upsert_workload_entry(&from(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "vm", "namespace": "a"},
        "spec": {"address": "192.0.2.9", "labels": {"app": "vm"}, "serviceAccount": "vm"},
    })));
    let changes = cluster.take_changes();
    let (uid, workload) = &changes.workloads[0];
    assert_eq!(&**uid, "Kubernetes/networking.istio.io/WorkloadEntry/a/vm");
    assert_eq!(
        workload.as_ref().unwrap().services[0].0.as_str(),
        "a/vm.test"
    );
}

#[test]
fn a_waypoint_that_is_asked_for_is_told_not_to_be_there() {
    let mut cluster = Cluster::new(Settings::default());
    let named = |labels: Value| {
        from(
            json!({"metadata": {"name": "s", "namespace": "a", "generation": 2, "labels": labels}, "spec": {}}),
        )
    };
    cluster.upsert_service(&named(json!({"istio.io/use-waypoint": "w"})));
    let changes = cluster.take_changes();
    let condition = &changes.conditions[0].1[0];
    assert_eq!(
        (condition.kind, condition.reason),
        ("istio.io/WaypointBound", "WaypointIsNotReady")
    );
    assert!(
        condition.message.contains("a/w") && !condition.status,
        "{}",
        condition.message
    );
    assert!(
        changes.services[0].1.as_ref().unwrap().waypoint.is_none(),
        "traffic keeps L4"
    );
    cluster.upsert_service(&named(json!({})));
    assert_eq!(cluster.take_changes().conditions[0].1, [], "taken off");
    let namespace = json!({"metadata": {"name": "a", "labels": {"istio.io/use-waypoint": "n", "istio.io/use-waypoint-namespace": "b"}}});
    cluster.upsert_namespace(&from(namespace));
    let changes = cluster.take_changes();
    assert!(
        changes.conditions[0].1[0].message.contains("b/n"),
        "inherited"
    );
    cluster.upsert_service(&named(json!({"istio.io/use-waypoint": "none"})));
    assert_eq!(cluster.take_changes().conditions[0].1, []);
}
