//! Istio's objects, typed one by one. One that cannot be read must not hide the others, and must
//! not count as absent: a policy that is there and not understood fails closed.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tulle_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::security::{AuthorizationPolicy, PeerAuthentication};
use tulle_api::selector::WorkloadSelector;
use tulle_cluster::kube::api::DynamicObject;

/// The field under which the reason is kept; the translation refuses unknown fields.
const UNREADABLE: &str = "(unreadable)";

/// The object as its type. A missing `spec` is an empty one. Nothing is decided by what was decided before: there is no
/// status.
pub(crate) fn typed<K: DeserializeOwned>(mut object: DynamicObject) -> Result<K, String> {
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    with_status(object)
}

/// Likewise, with what the object's status says: for types that read a part of it on purpose.
pub(crate) fn with_status<K: DeserializeOwned>(object: DynamicObject) -> Result<K, String> {
    let mut data = object.data;
    if let Some(fields) = data.as_object_mut() {
        let metadata = serde_json::to_value(&object.metadata).map_err(|e| e.to_string())?;
        fields.insert("metadata".to_owned(), metadata);
        fields.entry("spec").or_insert_with(|| json!({}));
        if let Some(types) = object.types {
            fields.insert("apiVersion".to_owned(), types.api_version.into());
            fields.insert("kind".to_owned(), types.kind.into());
        }
    }
    serde_path(data)
}

fn serde_path<K: DeserializeOwned>(data: Value) -> Result<K, String> {
    serde_json::from_value(data).map_err(|error| error.to_string())
}

/// As written, or, when unreadable, with what can be read and an unknown field that says why.
pub(crate) fn authorization_policy(object: DynamicObject) -> AuthorizationPolicy {
    let (metadata, spec) = remember(&object);
    typed(object).unwrap_or_else(|why| {
        let mut policy = AuthorizationPolicy::new("", Default::default());
        policy.metadata = metadata;
        policy.spec.selector = selector(&spec);
        // DENY refuses what it selects. An unreadable ALLOW allows nothing.
        policy.spec.action = spec
            .get("action")
            .cloned()
            .and_then(|a| serde_json::from_value(a).ok());
        policy
            .spec
            .unknown
            .insert(UNREADABLE.to_owned(), why.into());
        policy
    })
}

/// As written, or, when unreadable, STRICT for what it selects.
pub(crate) fn peer_authentication(object: DynamicObject) -> PeerAuthentication {
    let (metadata, spec) = remember(&object);
    typed(object).unwrap_or_else(|why| {
        let mut policy = PeerAuthentication::new("", Default::default());
        policy.metadata = metadata;
        policy.spec.selector = selector(&spec);
        policy
            .spec
            .unknown
            .insert(UNREADABLE.to_owned(), why.into());
        policy
    })
}

fn remember(object: &DynamicObject) -> (ObjectMeta, Value) {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    (object.metadata.clone(), spec)
}

/// A selector that is unreadable itself selects the whole namespace.
fn selector(spec: &Value) -> Option<WorkloadSelector> {
    spec.get("selector")
        .cloned()
        .and_then(|selector| serde_json::from_value(selector).ok())
}

#[cfg(test)]
mod tests;
