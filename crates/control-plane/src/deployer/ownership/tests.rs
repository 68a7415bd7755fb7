use serde_json::json;

use super::super::tests::waypoint;
use super::*;

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_gateway_of_another_revision_or_of_a_newer_controller_is_not_ours() {
    let with = |revision: Option<&str>, version: Option<&str>| Deployable {
        revision: revision.map(Into::into),
        controller_version: version.map(Into::into),
        ..waypoint()
    };
    for (revision, version, ours, expected) in [
        (None, None, "default", true),
        (None, None, "", true),
        (Some("default"), None, "default", true),
        (None, None, "canary", false),
        (Some("canary"), None, "canary", true),
        (Some("canary"), None, "default", false),
        (None, Some("5"), "default", true),
        (None, Some("1"), "default", true),
        (None, Some("6"), "default", false),
        (None, Some("next"), "default", false),
    ] {
        let wanted = with(revision, version);
        assert_eq!(
            versions_agree(&wanted, ours),
            expected,
            "{revision:?} {version:?} {ours}"
        );
    }
}

#[test]
fn only_what_was_made_for_this_gateway_may_be_removed() {
    let with = |labels: Value, uid: &str| {
        object(json!({ "metadata": {
            "name": "w", "labels": labels,
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Gateway", "name": "w", "uid": uid }],
        } }))
    };
    let managed = json!({ "gateway.istio.io/managed": "istio.io-mesh-controller" });
    assert!(is_of(&with(managed.clone(), "1"), "1"));
    assert!(!is_of(&with(managed, "2"), "1"));
    assert!(!is_of(&with(json!({}), "1"), "1"));
}

#[test]
fn a_fingerprint_sees_what_users_write_and_not_what_kubernetes_writes() {
    let base = || {
        json!({
            "metadata": { "name": "w", "labels": { "a": "1" }, "annotations": { "b": "2" } },
            "spec": { "replicas": 1, "template": { "x": 1 } },
        })
    };
    let of = |value: Value| fingerprint(&object(value));
    let same = |pointer: &str, value: Value| {
        let mut changed = base();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[field] = value;
        of(changed) == of(base())
    };
    assert!(same("/spec/replicas", json!(7)));
    assert!(same("/status", json!({ "replicas": 1 })));
    let revision = json!({ "b": "2", "deployment.kubernetes.io/revision": "1" });
    assert!(same("/metadata/annotations", revision));
    assert!(!same("/spec/template", json!({ "x": 2 })));
    assert!(!same("/metadata/labels", json!({})));
    assert!(!same("/metadata/annotations", json!({ "b": "3" })));
}
