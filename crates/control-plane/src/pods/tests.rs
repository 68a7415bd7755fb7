use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tulle_api::k8s_openapi::api::core::v1::Pod;
use tulle_cluster::Key;

use super::{Pods, gateway};

fn pod(name: &str, uid: &str, account: &str, node: &str, phase: &str) -> Pod {
    let pod = json!({
        "metadata": { "name": name, "namespace": "default", "uid": uid },
        "spec": { "serviceAccountName": account, "nodeName": node, "containers": [] },
        "status": { "phase": phase },
    });
    serde_json::from_value(pod).unwrap()
}

#[test]
fn an_account_is_on_a_node_as_long_as_one_of_its_pods_is() {
    let pods = Pods::new();
    pods.upsert(&pod("a", "1", "sleep", "one", "Running"));
    pods.upsert(&pod("b", "2", "sleep", "one", "Running"));
    assert!(pods.runs("one", "default", "sleep"));
    assert!(!pods.runs("two", "default", "sleep"));
    assert!(!pods.runs("one", "other", "sleep"));
    pods.remove(&Key::new("default", "a"));
    assert!(pods.runs("one", "default", "sleep"));
    pods.upsert(&pod("b", "2", "sleep", "one", "Failed"));
    assert!(
        !pods.runs("one", "default", "sleep"),
        "a failed pod runs nothing"
    );
    pods.upsert(&pod("b", "3", "sleep", "two", "Pending"));
    assert!(pods.runs("two", "default", "sleep"));
    assert_eq!(&*pods.get(&Key::new("default", "b")).unwrap().uid, "3");
}

#[test]
fn a_pod_without_a_node_is_nowhere() {
    let pods = Pods::new();
    pods.upsert(&pod("a", "1", "sleep", "", "Pending"));
    assert!(!pods.runs("", "default", "sleep"));
}

#[tokio::test]
async fn a_pod_that_appears_is_waited_for_and_one_that_does_not_is_not_waited_for_long() {
    let pods = Pods::new();
    let writer = pods.clone();
    let wanted = |pods: &Pods| pods.runs("one", "default", "sleep").then_some(());
    let (found, ()) = tokio::join!(pods.wait(Duration::from_secs(10), wanted), async {
        tokio::task::yield_now().await;
        writer.upsert(&pod("x", "1", "other", "one", "Running"));
        tokio::task::yield_now().await;
        writer.upsert(&pod("a", "2", "sleep", "one", "Pending"));
    });
    assert!(found.is_some());
    let wanted = |pods: &Pods| pods.runs("two", "default", "sleep").then_some(());
    assert!(pods.wait(Duration::from_millis(20), wanted).await.is_none());
}

proptest! {
    /// After any history the answers are those of a table that looks at every pod.
    #[test]
    fn counting_equals_looking(history in proptest::collection::vec(
        (0..6u8, 0..3u8, 0..3u8, 0..4u8), 0..60)) {
        let pods = Pods::new();
        let mut plain = std::collections::BTreeMap::new();
        for (name, account, node, what) in history {
            let (name, account) = (format!("p{name}"), format!("a{account}"));
            let node = if node == 0 { String::new() } else { format!("n{node}") };
            if what == 0 {
                pods.remove(&Key::new("default", &name));
                plain.remove(&name);
            } else {
                let phase = if what == 1 { "Failed" } else { "Running" };
                pods.upsert(&pod(&name, "1", &account, &node, phase));
                plain.insert(name, (account, node, what == 1));
            }
        }
        for account in ["a0", "a1", "a2"] {
            for node in ["n1", "n2"] {
                let wanted = plain.values().any(|(a, n, failed)| a == account && n == node && !failed);
                prop_assert_eq!(pods.runs(node, "default", account), wanted);
            }
        }
        prop_assert_eq!(pods.len(), plain.len());
    }
}

fn labelled(labels: serde_json::Value, annotations: serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "name": "p-abc-xyz", "namespace": "ns", "uid": "u", "labels": labels, "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "ingress-abc", "uid": "r", "controller": true,
            }],
        },
        "spec": { "containers": [] },
    }))
    .unwrap()
}

#[test]
fn a_pod_speaks_for_the_gateway_of_its_own_namespace_only() {
    use serde_json::json;
    let none = json!({});
    let of = |labels, annotations| gateway(&labelled(labels, annotations), "ns");
    let labels = json!({ "gateway.networking.k8s.io/gateway-name": "waypoint" });
    assert_eq!(of(labels, none.clone()).as_deref(), Some("ns/waypoint"));
    let labels = json!({ "pod-template-hash": "abc" });
    let annotations = json!({ "inject.istio.io/templates": "sidecar, gateway" });
    assert_eq!(
        of(labels.clone(), annotations).as_deref(),
        Some("ns/ingress")
    );
    let annotations = json!({ "inject.istio.io/templates": "sidecar" });
    assert_eq!(of(labels.clone(), annotations), None);
    assert_eq!(of(labels, none), None);
}
