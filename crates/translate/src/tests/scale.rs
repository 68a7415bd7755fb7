//! 10,000 pods in 500 services, and 5,000 routes at one gateway.

use std::time::Instant;

use serde_json::{Value, json};

use super::from;
use crate::{Cluster, Settings};

fn pod(index: usize, ready: &str) -> k8s_openapi::api::core::v1::Pod {
    let (service, high, low) = (index % 500, index / 250, index % 250);
    let object: Value = json!({
        "metadata": {
            "name": format!("app-{service}-7d9f8b6c5-{index:05}"),
            "namespace": format!("ns-{}", service % 10),
            "labels": {"app": format!("app-{service}"), "pod-template-hash": "7d9f8b6c5"},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
        },
        "spec": {"nodeName": format!("node-{}", index % 100), "serviceAccountName": "default", "containers": []},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": format!("10.{}.{high}.{low}", 1 + high / 250)}],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    });
    from(object)
}

#[test]
fn one_pod_of_ten_thousand_changes_one_workload() {
    let mut cluster = Cluster::new(Settings::default());
    for index in 0..500 {
        cluster.upsert_service(&from(json!({
            "metadata": {"name": format!("app-{index}"), "namespace": format!("ns-{}", index % 10)},
            "spec": {"selector": {"app": format!("app-{index}")}, "clusterIP": format!("10.96.{}.{}", index / 250, index % 250),
                     "ports": [{"port": 80, "targetPort": 8080}]},
        })));
    }
    for index in 0..10_000 {
        cluster.upsert_pod(&pod(index, "True"));
    }
    let changes = cluster.take_changes();
    assert_eq!(
        (changes.workloads.len(), changes.services.len()),
        (10_000, 500)
    );
    let one_each = |w: &tulle_model::Workload| w.services.len() == 1;
    assert!(
        changes
            .workloads
            .iter()
            .all(|(_, w)| w.as_ref().is_some_and(one_each))
    );
    drop(changes);

    // A resync changes nothing; a pod that turns unready changes itself. All in far less time than looking at
    // every pod for every pod would take.
    let start = Instant::now();
    for index in 0..10_000 {
        cluster.upsert_pod(&pod(index, "True"));
    }
    assert!(cluster.take_changes().is_empty());
    for index in 0..1_000 {
        cluster.upsert_pod(&pod(index, "False"));
        assert_eq!(cluster.take_changes().workloads.len(), 1);
    }
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
    assert!(cluster.node_has("node-7", "ns-7", "default"));
    assert!(!cluster.node_has("node-7", "ns-7", "other"));
    assert!(
        !cluster.node_has("node-7", "ns-6", "default"),
        "node 7 runs apps 7, 107, ... only"
    );
}

#[test]
fn one_route_of_thousands_is_one_message() {
    let mut cluster = Cluster::new(Settings::default());
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
    cluster.upsert_gateway(&from(json!({
        "metadata": {"name": "g", "namespace": "infra", "uid": "u"},
        "spec": {"gatewayClassName": "istio", "listeners": [listener]},
    })));
    cluster.upsert_service(&from(json!({
        "metadata": {"name": "s", "namespace": "infra"},
        "spec": {"clusterIP": "10.1.0.1", "ports": [{"name": "http", "port": 80}]},
    })));
    let route = |index: usize, weight: u32| {
        from(json!({
            "metadata": {"name": format!("r{index}"), "namespace": "infra"},
            "spec": {
                "parentRefs": [{"name": "g"}],
                "hostnames": [format!("h{index}.test")],
                "rules": [{"backendRefs": [{"name": "s", "port": 80, "weight": weight}]}],
            },
        }))
    };
    for index in 0..5_000 {
        cluster.upsert_http_route(&route(index, 1));
    }
    let routes = |changes: &crate::Changes| {
        let of_routes = changes.resources.iter();
        of_routes
            .filter(|(key, _)| key.type_url.ends_with("HttpRoute"))
            .count()
    };
    assert_eq!(routes(&cluster.take_changes()), 5_000);
    let start = Instant::now();
    for index in 0..20 {
        cluster.upsert_http_route(&route(index, 2));
        let changes = cluster.take_changes();
        assert_eq!((changes.resources.len(), routes(&changes)), (1, 1));
        assert!(
            changes.statuses.is_empty(),
            "nothing that a user is told changed"
        );
    }
    // Far from it even without optimisation.
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
}
