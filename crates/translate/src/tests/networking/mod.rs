//! Istio's own kinds: what waypoints and gateways are told of manifests as Istio's tasks have them.
//!
//! Each test gives manifests to a small Bookinfo, and compares resources, their receivers and conditions with a file in `golden`.
//! `UPDATE_GOLDEN=1 cargo test -p tulle-translate networking` writes the files anew; read the difference before you keep it.

mod addresses;
mod destinations;
mod incremental;
mod policies;
mod routes;
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Audience, Changes, Cluster, ObjectKind};

/// Everything for layer 7 that a cluster has to tell, and conditions of Istio's kinds.
fn told(cluster: &mut Cluster) -> Value {
    cluster.take_changes();
    let all = cluster.snapshot();
    told_of(&all)
}

fn told_of(all: &Changes) -> Value {
    let mut resources = BTreeMap::new();
    for (key, resource) in &all.resources {
        let Some((audience, resource)) = resource else {
            continue;
        };
        let kind = key.type_url.rsplit('.').next().unwrap();
        if matches!(kind, "Telemetry" | "ProxySettings" | "Gateway")
            && !key.name.contains("ingressgateway")
        {
            continue;
        }
        let receivers = match audience {
            Audience::Everyone => json!("everyone"),
            Audience::Gateways(names) => json!(names),
        };
        let mut body = serde_json::to_value(resource).unwrap();
        prune(&mut body);
        resources.insert(
            format!("{kind} {}", key.name),
            json!({ "to": receivers, "body": body }),
        );
    }
    let mut conditions = BTreeMap::new();
    for (object, list) in &all.conditions {
        if object.kind == ObjectKind::Service {
            continue;
        }
        let list: Vec<String> = list
            .iter()
            .map(|c| format!("{}={} {}: {}", c.kind, c.status, c.reason, c.message))
            .collect();
        if !list.is_empty() {
            conditions.insert(
                format!("{:?} {}/{}", object.kind, object.namespace, object.name),
                list,
            );
        }
    }
    json!({ "resources": resources, "conditions": conditions })
}

/// Without what says nothing, to be read by people.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| !(value.is_null() || *value == json!([]) || *value == json!({})));
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// Compares with a file, or writes it.
fn golden(name: &str, found: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/tests/networking/golden")
        .join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(found).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs", path.display());
}
