use serde_json::json;

use super::super::tests::{plane, waypoint};
use super::*;

fn map(namespace: &str, name: &str, labels: serde_json::Value, created: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": namespace, "labels": labels, "creationTimestamp": created,
        },
        "data": { "deployment": name },
    }))
    .unwrap()
}

fn key(wanted: &Deployable) -> GatewayKey {
    (wanted.namespace.clone(), wanted.name.clone())
}

/// All that wait, in order.
fn waiting(deployments: &Deployments) -> Vec<String> {
    let mut state = deployments.lock();
    std::iter::from_fn(|| state.pop())
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect()
}

#[test]
fn a_gateway_waits_once_and_its_newest_wish_counts() {
    let deployments = Deployments::new(plane());
    deployments.submit(key(&waypoint()), Some(waypoint()));
    let mut newer = waypoint();
    newer.uid = "uid-2".into();
    deployments.submit(key(&newer), Some(newer.clone()));
    assert_eq!(waiting(&deployments), ["shop/waypoint"]);
    assert_eq!(deployments.get(&key(&newer)).unwrap().uid, newer.uid);
    deployments.submit(key(&newer), None);
    assert!(deployments.get(&key(&newer)).is_none());
    assert_eq!(waiting(&deployments), ["shop/waypoint"]);
}

#[test]
fn parameters_and_class_defaults_concern_those_that_use_them() {
    let deployments = Deployments::new(plane());
    let mut with = waypoint();
    with.name = "with".into();
    with.parameters = Some("options".into());
    for wanted in [waypoint(), with] {
        deployments.submit(key(&wanted), Some(wanted));
    }
    waiting(&deployments);
    deployments.config_map(&Ok(map(
        "shop",
        "unrelated",
        json!({}),
        "2026-01-01T00:00:00Z",
    )));
    assert!(waiting(&deployments).is_empty());
    deployments.config_map(&Ok(map(
        "shop",
        "options",
        json!({}),
        "2026-01-01T00:00:00Z",
    )));
    assert_eq!(waiting(&deployments), ["shop/with"]);
    // Of this class, and only in the control plane's namespace; the oldest counts.
    let labels = json!({ "gateway.istio.io/defaults-for-class": "istio-waypoint" });
    deployments.config_map(&Ok(map(
        "shop",
        "stray",
        labels.clone(),
        "2020-01-01T00:00:00Z",
    )));
    assert_eq!(deployments.class_defaults("istio-waypoint"), None);
    waiting(&deployments);
    deployments.config_map(&Ok(map(
        "istio-system",
        "new",
        labels.clone(),
        "2026-01-02T00:00:00Z",
    )));
    deployments.config_map(&Ok(map(
        "istio-system",
        "old",
        labels,
        "2026-01-01T00:00:00Z",
    )));
    assert_eq!(waiting(&deployments).len(), 2);
    let (name, overlays) = deployments.class_defaults("istio-waypoint").unwrap();
    assert_eq!(name, "istio-system/old");
    assert_eq!(overlays["deployment"], "old");
    assert_eq!(deployments.class_defaults("istio"), None);
    deployments.config_map(&Err(Key::new("istio-system", "old")));
    assert_eq!(waiting(&deployments).len(), 2);
    assert_eq!(
        deployments.class_defaults("istio-waypoint").unwrap().0,
        "istio-system/new"
    );
}

#[test]
fn a_new_trust_domain_concerns_everybody() {
    let deployments = Deployments::new(plane());
    deployments.submit(key(&waypoint()), Some(waypoint()));
    waiting(&deployments);
    deployments.trust_domain("cluster.local");
    assert!(waiting(&deployments).is_empty());
    deployments.trust_domain("example.org");
    assert_eq!(waiting(&deployments), ["shop/waypoint"]);
    assert_eq!(deployments.plane().trust_domain, "example.org");
}
