//! Pods, field by field.

use serde_json::{Value, json};
use tulle_model::{Health, Interner, Port, Tunnel, Workload};

use super::from;
use crate::{Cluster, Settings, pod_facts};

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "web-7d9f8b6c5-abcde",
            "generateName": "web-7d9f8b6c5-",
            "namespace": "default",
            "labels": {"app": "web", "version": "v1", "pod-template-hash": "7d9f8b6c5"},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9f8b6c5", "uid": "u", "controller": true}],
        },
        "spec": {
            "nodeName": "node-1",
            "serviceAccountName": "web",
            "containers": [{"name": "c", "ports": [
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                {"name": "http", "containerPort": 8080},
            ]}],
        },
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    change(&mut pod);
    pod
}

fn told(pod: Value) -> Option<Workload> {
    let mut cluster = Cluster::new(Settings::default());
    cluster.upsert_node(&from(json!({"metadata": {"name": "node-1", "labels": {
        "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z", "topology.istio.io/subzone": "s",
    }}})));
    cluster.upsert_namespace(&from(json!({"metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": "net"}}})));
    cluster.upsert_service(&from(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "None", "ports": [
            {"name": "http", "port": 80, "targetPort": "http"},
            {"name": "gone", "port": 81, "targetPort": "gone"},
            {"name": "udp", "port": 82, "targetPort": "dns"},
            {"name": "number", "port": 83, "targetPort": 9000},
            {"name": "same", "port": 84},
        ]},
    })));
    cluster.upsert_pod(&from(pod));
    cluster
        .take_changes()
        .workloads
        .pop()
        .and_then(|(_, workload)| workload)
}

/// Any workload.
pub(super) fn workload() -> Workload {
    told(pod(|_| {})).unwrap()
}

#[test]
fn every_field() {
    let workload = workload();
    assert_eq!(
        &*workload.uid,
        "Kubernetes//Pod/default/web-7d9f8b6c5-abcde"
    );
    assert_eq!(&*workload.name, "web-7d9f8b6c5-abcde");
    assert_eq!(
        workload.identity().to_string(),
        "spiffe://cluster.local/ns/default/sa/web"
    );
    assert_eq!(
        (&*workload.node, &*workload.cluster, &*workload.network),
        ("node-1", "Kubernetes", "net")
    );
    assert_eq!(
        workload.addresses,
        [
            "10.0.0.1".parse::<std::net::IpAddr>().unwrap(),
            "fd00::1".parse().unwrap()
        ]
    );
    assert_eq!(
        (workload.tunnel, workload.native_tunnel),
        (Tunnel::Hbone, false)
    );
    assert_eq!(workload.health, Health::Healthy);
    assert!(!workload.host_network);
    assert_eq!(
        (&*workload.canonical_name, &*workload.canonical_revision),
        ("web", "v1")
    );
    assert_eq!(
        (&*workload.workload_name, workload.kind.as_str()),
        ("web", "pod")
    );
    let locality = &workload.locality;
    assert_eq!(
        (&*locality.region, &*locality.zone, &*locality.subzone),
        ("r", "z", "s")
    );
    let [(service, ports)] = &workload.services[..] else {
        panic!("{:?}", workload.services)
    };
    assert_eq!(service.as_str(), "default/web.default.svc.cluster.local");
    let port = |p: &Port| (p.service_port, p.target_port);
    // Ports that do not resolve are left out.
    assert_eq!(
        ports.iter().map(port).collect::<Vec<_>>(),
        [(80, 8080), (83, 9000), (84, 84)]
    );
    assert_eq!(workload.capacity, 1);
}

#[test]
fn ready_means_ready_and_staying() {
    let health = |change: fn(&mut Value)| told(pod(change)).unwrap().health;
    assert_eq!(
        health(|p| p["status"]["conditions"][0]["status"] = json!("False")),
        Health::Unhealthy
    );
    assert_eq!(
        health(|p| p["status"]["conditions"] = json!([])),
        Health::Unhealthy
    );
    assert_eq!(
        health(|p| p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
        Health::Unhealthy
    );
}

#[test]
fn which_pods_are_workloads() {
    assert!(
        told(pod(|p| p["status"]["phase"] = json!("Pending"))).is_some(),
        "has an address"
    );
    assert_eq!(
        told(pod(|p| p["status"]["phase"] = json!("Succeeded"))),
        None
    );
    assert_eq!(told(pod(|p| p["status"]["phase"] = json!("Failed"))), None);
    assert_eq!(
        told(pod(|p| p["status"] = json!({"phase": "Pending"}))),
        None
    );
    assert_eq!(
        told(pod(|p| p["status"]["podIPs"] = json!([{"ip": "rubbish"}]))),
        None
    );
    let one = told(pod(|p| {
        p["status"]["podIPs"] = json!([]);
        p["status"]["podIP"] = json!("10.0.0.2");
    }));
    assert_eq!(
        one.unwrap().addresses,
        ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]
    );
    assert!(
        told(pod(|p| p["spec"]["hostNetwork"] = json!(true)))
            .unwrap()
            .host_network
    );
}

#[test]
fn the_tunnel_follows_the_annotation_not_the_label() {
    let tunnel = |change: fn(&mut Value)| {
        let workload = told(pod(change)).unwrap();
        (workload.tunnel, workload.native_tunnel)
    };
    assert_eq!(
        tunnel(
            |p| p["metadata"]["annotations"] = json!({"ambient.istio.io/redirection": "pending"})
        ),
        (Tunnel::None, false)
    );
    assert_eq!(
        tunnel(|p| {
            p["metadata"]["annotations"] = json!({});
            p["metadata"]["labels"]["istio.io/dataplane-mode"] = json!("ambient");
        }),
        (Tunnel::None, false)
    );
    assert_eq!(
        tunnel(|p| {
            p["metadata"]["annotations"] = json!({});
            p["metadata"]["labels"]["networking.istio.io/tunnel"] = json!("tcp, http");
        }),
        (Tunnel::Hbone, true)
    );
}

#[test]
fn who_owns_a_pod() {
    let owner = |change: &dyn Fn(&mut Value)| {
        let pod = pod(|p| change(p));
        pod_facts(&from(pod), &mut Interner::default())
            .unwrap()
            .workload_name
            .to_string()
    };
    let kind = |kind: &str, name: &str| {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        owner(&move |p| {
            p["metadata"]["ownerReferences"][0]["kind"] = json!(kind);
            p["metadata"]["ownerReferences"][0]["name"] = json!(name);
        })
    };
    assert_eq!(kind("ReplicaSet", "web-7d9f8b6c5"), "web");
    assert_eq!(
        kind("ReplicaSet", "web-other"),
        "web-other",
        "not made by a Deployment"
    );
    assert_eq!(kind("Job", "backup-29103840"), "backup");
    assert_eq!(kind("Job", "backup-1"), "backup-1");
    assert_eq!(kind("DaemonSet", "agent"), "agent");
    assert_eq!(
        owner(&|p| p["metadata"]["generateName"] = json!("")),
        "web-7d9f8b6c5-abcde"
    );
    assert_eq!(
        owner(&|p| p["metadata"]["ownerReferences"] = json!([])),
        "web-7d9f8b6c5-abcde"
    );
    assert_eq!(
        owner(&|p| p["metadata"]["labels"]["service.istio.io/workload-name"] = json!("named")),
        "named"
    );
}

#[test]
fn canonical_names_prefer_istios_labels() {
    let names = |labels: Value| {
        let workload = told(pod(|p| p["metadata"]["labels"] = labels)).unwrap();
        (
            workload.canonical_name.to_string(),
            workload.canonical_revision.to_string(),
        )
    };
    let expect = |name: &str, revision: &str| (name.to_owned(), revision.to_owned());
    assert_eq!(names(json!({})), expect("web-7d9f8b6c5", "latest"));
    assert_eq!(
        names(
            json!({"app": "a", "app.kubernetes.io/name": "b", "version": "1", "app.kubernetes.io/version": "2"})
        ),
        expect("b", "2")
    );
    assert_eq!(
        names(
            json!({"app": "a", "service.istio.io/canonical-name": "c", "service.istio.io/canonical-revision": "3"})
        ),
        expect("c", "3")
    );
}
