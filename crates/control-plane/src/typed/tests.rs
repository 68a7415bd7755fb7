use serde_json::{Value, json};
use tulle_api::security::Action;
use tulle_cluster::kube::api::DynamicObject;

use super::{authorization_policy, peer_authentication};

fn object(spec: Value) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "a", "namespace": "default", "generation": 3 },
        "status": { "conditions": "nonsense" },
    });
    if !spec.is_null() {
        object["spec"] = spec;
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_good_policy_is_read_as_it_is() {
    let policy = authorization_policy(object(json!({
        "action": "DENY", "selector": { "matchLabels": { "app": "x" } },
    })));
    assert_eq!(policy.spec.action, Some(Action::Deny));
    assert_eq!(policy.metadata.generation, Some(3));
    assert!(policy.spec.unknown.is_empty());
    assert_eq!(policy.spec.selector.unwrap().match_labels["app"], "x");
}

#[test]
fn no_spec_is_an_empty_spec() {
    let policy = authorization_policy(object(Value::Null));
    assert!(policy.spec.unknown.is_empty() && policy.spec.rules.is_none());
}

#[test]
fn what_cannot_be_read_stays_a_policy_that_says_so() {
    let policy = authorization_policy(object(json!({
        "action": "DENY", "selector": { "matchLabels": { "app": "x" } }, "rules": "all",
    })));
    assert_eq!(policy.metadata.name.as_deref(), Some("a"));
    assert_eq!(policy.spec.action, Some(Action::Deny));
    assert_eq!(policy.spec.selector.unwrap().match_labels["app"], "x");
    assert_eq!(policy.spec.unknown.len(), 1);

    let peer = peer_authentication(object(
        json!({ "selector": 7, "mtls": { "mode": "DISABLE" } }),
    ));
    assert!(peer.spec.selector.is_none() && !peer.spec.unknown.is_empty());
}
