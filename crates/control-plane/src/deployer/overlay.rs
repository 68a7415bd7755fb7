//! What users lay over the objects of a gateway: Kubernetes' strategic merge, for the five kinds that are made.
//!
//! Maps merge by key, lists of known kinds by the key that names their items, other lists are replaced; `null` and the
//! directives `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/<field>` mean what they mean to `kubectl patch`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::limits::{LONGEST_OVERLAY, OVERLAY_DEPTH};

/// Keys of a ConfigMap with overlays, and the kinds that they are for.
const KINDS: [(&str, &str); 5] = [
    ("deployment", "Deployment"),
    ("service", "Service"),
    ("serviceAccount", "ServiceAccount"),
    ("horizontalPodAutoscaler", "HorizontalPodAutoscaler"),
    ("podDisruptionBudget", "PodDisruptionBudget"),
];

/// Kinds that exist only when an overlay asks for them.
const ON_REQUEST: [&str; 2] = ["HorizontalPodAutoscaler", "PodDisruptionBudget"];

/// Lists whose items have a name, by the field that holds the list.
const NAMED: [(&str, &[&str]); 14] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("ports", &["containerPort", "port"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("imagePullSecrets", &["name"]),
    ("secrets", &["name"]),
    ("claims", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("ownerReferences", &["uid"]),
];

/// Metadata that only the deployer decides.
const FIXED: [&str; 9] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// Overlays that cannot be used. The objects stay as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OverlayError {
    /// A key that stands for no object.
    #[error(
        "key {0:?} stands for no object of a gateway; there are deployment, service, serviceAccount, \
         horizontalPodAutoscaler and podDisruptionBudget"
    )]
    Key(String),
    /// No YAML, or no map.
    #[error("{key}: {why}")]
    Unreadable {
        /// Which overlay.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
    /// It changes what ties the object to its Gateway.
    #[error("{key}: metadata.{field} is not to be changed")]
    Metadata {
        /// Which overlay.
        key: &'static str,
        /// What it changes.
        field: &'static str,
    },
}

/// The objects with `overlays` laid over them, one set after the other; without those that nobody asked for.
pub(crate) fn apply(
    objects: Vec<Value>,
    overlays: &[&BTreeMap<String, String>],
) -> Result<Vec<Value>, OverlayError> {
    for key in overlays.iter().flat_map(|overlay| overlay.keys()) {
        if !KINDS.iter().any(|(known, _)| known == key) {
            return Err(OverlayError::Key(key.chars().take(64).collect()));
        }
    }
    let mut result = Vec::with_capacity(objects.len());
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let Some((key, _)) = KINDS.into_iter().find(|(_, of)| *of == kind) else {
            continue;
        };
        let mut asked = !ON_REQUEST.contains(&kind.as_str());
        for overlay in overlays.iter().filter_map(|overlay| overlay.get(key)) {
            let patch = read(key, overlay)?;
            let before = object["metadata"].clone();
            merge_maps(&mut object, patch);
            let changed = |field: &&&str| before.get(**field) != object["metadata"].get(**field);
            if let Some(field) = FIXED.iter().find(changed) {
                return Err(OverlayError::Metadata { key, field });
            }
            asked = true;
        }
        if asked {
            result.push(object);
        }
    }
    Ok(result)
}

fn read(key: &'static str, text: &str) -> Result<Map<String, Value>, OverlayError> {
    let unreadable = |why: String| OverlayError::Unreadable { key, why };
    if text.len() > LONGEST_OVERLAY {
        return Err(unreadable(format!("longer than {LONGEST_OVERLAY} bytes")));
    }
    match serde_saphyr::from_str(text) {
        Ok(Value::Object(patch)) if depth(&patch) <= OVERLAY_DEPTH => Ok(patch),
        Ok(Value::Object(_)) => Err(unreadable("nested too deeply".to_owned())),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(unreadable("a part of the object is expected".to_owned())),
        Err(why) => Err(unreadable(why.to_string())),
    }
}

fn depth(map: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Object(map) => 1 + map.values().map(of).max().unwrap_or(0),
            Value::Array(items) => 1 + items.iter().map(of).max().unwrap_or(0),
            _ => 0,
        }
    }
    1 + map.values().map(of).max().unwrap_or(0)
}

fn merge_maps(into: &mut Value, mut patch: Map<String, Value>) {
    let directive = patch.remove("$patch");
    if directive.as_ref().and_then(Value::as_str) == Some("replace") {
        *into = Value::Object(patch);
        return;
    }
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Some(fields) = into.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(keep)) = patch.remove("$retainKeys") {
        fields.retain(|field, _| keep.iter().any(|kept| kept.as_str() == Some(field)));
    }
    for (field, value) in patch {
        if field.starts_with("$setElementOrder/") {
            continue;
        }
        if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), value) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        merge_field(fields, field, value);
    }
}

fn merge_field(fields: &mut Map<String, Value>, field: String, value: Value) {
    match value {
        Value::Null => {
            fields.remove(&field);
        }
        Value::Object(patch) => {
            if patch.get("$patch").and_then(Value::as_str) == Some("delete") {
                fields.remove(&field);
                return;
            }
            merge_maps(fields.entry(field).or_insert(Value::Null), patch);
        }
        Value::Array(items) => {
            let keys = NAMED.iter().find(|(list, _)| *list == field);
            let key = keys.and_then(|(_, keys)| {
                let has = |key: &&&str| items.iter().any(|item| item.get(**key).is_some());
                keys.iter().find(has).copied()
            });
            match (key, fields.get_mut(&field)) {
                (Some(key), Some(Value::Array(old))) => merge_named(old, items, key),
                (Some(key), _) => {
                    let mut new = Vec::new();
                    merge_named(&mut new, items, key);
                    fields.insert(field, Value::Array(new));
                }
                _ => {
                    fields.insert(field, Value::Array(items));
                }
            }
        }
        other => {
            fields.insert(field, other);
        }
    }
}

/// Items with a new name come first, as `kubectl patch` has them.
fn merge_named(old: &mut Vec<Value>, items: Vec<Value>, key: &str) {
    let directive = |item: &Value| {
        item.get("$patch")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    // `- $patch: replace` as an item of its own replaces the whole list.
    let replaces = |item: &Value| directive(item).as_deref() == Some("replace");
    if items
        .iter()
        .any(|item| replaces(item) && item.get(key).is_none())
    {
        *old = items.into_iter().filter(|item| !replaces(item)).collect();
        return;
    }
    let mut new: Vec<Value> = Vec::new();
    for item in items {
        let name = item.get(key).cloned();
        let is = |known: &Value| known.get(key) == name.as_ref();
        if directive(&item).as_deref() == Some("delete") {
            old.retain(|known| !is(known));
            new.retain(|known| !is(known));
            continue;
        }
        let Value::Object(patch) = item else {
            continue;
        };
        match old.iter_mut().chain(&mut new).find(|known| is(known)) {
            Some(known) => merge_maps(known, patch),
            None => {
                let mut made = Value::Null;
                merge_maps(&mut made, patch);
                new.push(made);
            }
        }
    }
    old.splice(0..0, new);
}

#[cfg(test)]
mod tests;
