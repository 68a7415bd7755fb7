//! Whose objects are whose: ours, another revision's, the user's.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;
use tulle_api::contract::LABEL_GATEWAY_MANAGED;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::kube::api::DynamicObject;
use tulle_translate::Deployable;

/// Istio's number for this way of owning what belongs to a Gateway; the larger one wins.
const CONTROLLER_VERSION: u32 = 5;
/// Selector label of Deployments that Istio made before 1.24. A selector cannot be changed.
const LEGACY_NAME_LABEL: &str = "istio.io/gateway-name";
/// Annotations that Kubernetes' own controllers write on their objects.
const KUBERNETES: &str = "deployment.kubernetes.io/";

/// Whether this control plane is the one that handles a Gateway: same revision, and no newer kind of controller owns it.
pub(super) fn versions_agree(wanted: &Deployable, revision: &str) -> bool {
    let ours = if revision.is_empty() {
        "default"
    } else {
        revision
    };
    let revision_is_ours = match wanted.revision.as_deref() {
        None | Some("") => ours == "default",
        Some(theirs) => theirs == ours,
    };
    let version_is_ours = match wanted.controller_version.as_deref() {
        None => true,
        // A scheme that we do not know is a newer one.
        Some(text) => text
            .parse::<u32>()
            .is_ok_and(|owner| owner <= CONTROLLER_VERSION),
    };
    revision_is_ours && version_is_ours
}

/// An object that exists may be changed if it was made for a Gateway. Others may be the user's, by the same name.
pub(super) fn may_manage(now: &DynamicObject) -> bool {
    now.labels().contains_key(LABEL_GATEWAY_MANAGED)
}

/// Whether it was made for the Gateway with this UID.
pub(super) fn is_of(now: &DynamicObject, uid: &str) -> bool {
    may_manage(now) && now.owner_references().iter().any(|owner| owner.uid == uid)
}

/// Takes over from the object that exists what must not change: its selector, and the version that was looked at.
pub(super) fn keep(object: &mut Value, now: &DynamicObject) {
    if let Some(version) = now.resource_version() {
        object["metadata"]["resourceVersion"] = version.into();
    }
    let selector = now.data.pointer("/spec/selector/matchLabels");
    let legacy = selector.and_then(|labels| labels.get(LEGACY_NAME_LABEL)?.as_str());
    if let (Some("Deployment"), Some(name)) = (object["kind"].as_str(), legacy) {
        let selector = now.data.pointer("/spec/selector").cloned();
        let name = name.to_owned();
        object["spec"]["selector"] = selector.unwrap_or(Value::Null);
        object["spec"]["template"]["metadata"]["labels"][LEGACY_NAME_LABEL] = name.into();
    }
}

/// Of what users and we write; not of status, nor of what scalers and Kubernetes' own controllers write.
pub(super) fn fingerprint(object: &DynamicObject) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.labels().hash(&mut hasher);
    let annotations = object.annotations().iter();
    for annotation in annotations.filter(|(name, _)| !name.starts_with(KUBERNETES)) {
        annotation.hash(&mut hasher);
    }
    for owner in object.owner_references() {
        owner.uid.hash(&mut hasher);
    }
    if let Some(Value::Object(spec)) = object.data.get("spec") {
        for (field, value) in spec.iter().filter(|(field, _)| *field != "replicas") {
            field.hash(&mut hasher);
            value.to_string().hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
