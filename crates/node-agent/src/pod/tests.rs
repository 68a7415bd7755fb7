use super::*;

use serde_json::{Value, json};

fn pod(changes: Value) -> PodFacts {
    let mut object = json!({
        "metadata": { "name": "a-1", "namespace": "shop", "uid": "u1", "labels": {}, "annotations": {} },
        "spec": { "containers": [], "serviceAccountName": "a" },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
    });
    merge(&mut object, changes);
    PodFacts::of(&serde_json::from_value(object).unwrap()).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn labelled(value: &str) -> Value {
    json!({ "metadata": { "labels": { LABEL_DATAPLANE_MODE: value } } })
}

fn in_namespace(label: Option<&str>) -> NamespaceFacts {
    NamespaceFacts {
        mode: Mode::of(label),
        unenroll: false,
    }
}

#[test]
fn eligibility_is_istios_table() {
    let excluded = BTreeSet::from(["kube-system".to_owned()]);
    let ambient = in_namespace(Some("ambient"));
    let plain = in_namespace(None);
    let sidecar = json!({ "metadata": { "annotations": { ANNOTATION_SIDECAR_STATUS: "{}" } } });
    let host = json!({ "spec": { "hostNetwork": true } });
    let system = json!({ "metadata": { "namespace": "kube-system" } });
    let cases = [
        (pod(json!({})), ambient, true),
        (pod(json!({})), plain, false),
        (pod(json!({})), in_namespace(Some("none")), false),
        (pod(json!({})), in_namespace(Some("sidecar")), false),
        (pod(labelled("ambient")), plain, true),
        (pod(labelled("none")), ambient, false),
        (pod(labelled("something")), ambient, true),
        (pod(sidecar), ambient, false),
        (pod(host), ambient, false),
        (pod(system), ambient, false),
    ];
    for (number, (pod, namespace, expected)) in cases.into_iter().enumerate() {
        assert_eq!(
            pod.eligible(namespace, &excluded),
            expected,
            "case {number}: {pod:?}"
        );
    }
}

#[test]
fn facts_are_read_from_the_object() {
    let facts =
        pod(json!({ "metadata": { "annotations": { ANNOTATION_REDIRECTION: "enabled" } } }));
    assert_eq!(facts.key, Key::new("shop", "a-1"));
    assert_eq!(
        facts.addresses,
        [
            "10.0.0.1".parse::<IpAddr>().unwrap(),
            "fd00::1".parse().unwrap()
        ]
    );
    assert!(facts.annotated && !facts.finished);
    assert!(pod(json!({ "status": { "phase": "Succeeded" } })).finished);
    assert_eq!(
        pod(json!({ "spec": { "serviceAccountName": null } })).service_account,
        "default"
    );
}

#[test]
fn a_pod_chooses_its_redirect() {
    let annotated =
        |name: &str, value: &str| pod(json!({ "metadata": { "annotations": { name: value } } }));
    assert!(
        annotated(ANNOTATION_DNS_CAPTURE, "true")
            .redirect(true, false)
            .dns
    );
    let nonsense = annotated(ANNOTATION_DNS_CAPTURE, "perhaps");
    assert!(nonsense.redirect(true, true).dns && !nonsense.redirect(true, false).dns);
    assert!(!pod(json!({})).redirect(true, false).dns);
    assert!(
        !annotated(ANNOTATION_DNS_CAPTURE, "false")
            .redirect(true, true)
            .dns
    );
    assert!(pod(json!({})).redirect(true, true).dns);
    assert!(
        annotated(ANNOTATION_BYPASS_INBOUND, "true")
            .redirect(true, false)
            .ingress_bypass
    );
    assert_eq!(
        annotated(ANNOTATION_REROUTE_INTERFACES, "k6t-a, k6t-b")
            .redirect(true, false)
            .virtual_interfaces,
        ["k6t-a", "k6t-b"]
    );
}

#[test]
fn the_mesh_is_told_to_let_go_by_an_annotation() {
    let namespace = |value: &str| {
        let object = json!({ "metadata": { "name": "istio-system", "annotations": { ANNOTATION_UNENROLL: value } } });
        NamespaceFacts::of(&serde_json::from_value(object).unwrap())
    };
    assert!(namespace("true").unenroll);
    assert!(!namespace("false").unenroll);
}

#[test]
fn a_static_pod_is_known_to_the_runtime_by_its_hash() {
    let hash = "d41d8cd98f00b204e9800998ecf8427e";
    let mirror = pod(json!({ "metadata": { "annotations": { ANNOTATION_STATIC_UID: hash } } }));
    assert_eq!(
        (mirror.uid.as_str(), mirror.runtime_uid.as_str()),
        ("u1", hash)
    );
    assert_eq!(pod(json!({})).runtime_uid, "u1");
    let other = "8f14e45f-ceea-467f-a0e6-7c2d1f3b9a55";
    let posing = pod(json!({ "metadata": { "annotations": { ANNOTATION_STATIC_UID: other } } }));
    assert_eq!(posing.runtime_uid, "u1");
}
