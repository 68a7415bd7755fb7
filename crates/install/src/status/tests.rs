use serde_json::json;

use super::*;

fn pod(
    name: &str,
    node: &str,
    labels: serde_json::Value,
    redirection: Option<&str>,
    ready: bool,
) -> Pod {
    let namespace = if redirection.is_some() {
        "default"
    } else {
        "istio-system"
    };
    let ready = if ready { "True" } else { "False" };
    let mut object = json!({
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": { "nodeName": node, "containers": [] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
    });
    if let Some(value) = redirection {
        object["metadata"]["annotations"] = json!({ ANNOTATION_REDIRECTION: value });
    }
    serde_json::from_value(object).unwrap()
}

fn node(name: &str) -> Node {
    let object = json!({
        "metadata": { "name": name },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn pods_are_counted_where_they_run_and_dead_ends_are_named() {
    let ztunnel = json!({ "app": "ztunnel" });
    let pods = [
        pod("ztunnel-a", "a", ztunnel.clone(), None, true),
        pod("ztunnel-b", "b", ztunnel, None, false),
        pod(
            "agent-a",
            "a",
            json!({ "k8s-app": "istio-cni-node" }),
            None,
            true,
        ),
        pod("one", "a", json!({}), Some("enabled"), true),
        pod("two", "b", json!({}), Some("enabled"), true),
        pod("three", "b", json!({}), Some("pending"), true),
        // An application may use the label: only istio-system counts.
        pod(
            "app",
            "b",
            json!({ "app": "ztunnel" }),
            Some("enabled"),
            true,
        ),
    ];
    let nodes = ["a", "b"].map(|name| node_status(&node(name), &pods));
    let expected_a = NodeStatus {
        name: "a".into(),
        ready: true,
        agent: true,
        ztunnel: true,
        enrolled: 1,
        pending: 0,
    };
    let expected_b = NodeStatus {
        name: "b".into(),
        ready: true,
        agent: false,
        ztunnel: false,
        enrolled: 2,
        pending: 1,
    };
    assert_eq!(nodes, [expected_a, expected_b]);
    let problems = pod_problems(&nodes, &pods);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("node b: 3 pods"), "{problems:?}");
    assert!(problems[1].contains("default/three"), "{problems:?}");
}
