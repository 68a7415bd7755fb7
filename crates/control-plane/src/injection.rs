//! Gateways that users deploy themselves: a Deployment whose container says `image: auto` is completed when its pods are
//! made. What the user wrote stays; what is missing to be a proxy of this mesh is added.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tulle_api::contract::{
    ANNOTATION_SIDECAR_STATUS, CLASS_ISTIO, DATAPLANE_MODE_NONE, LABEL_CANONICAL_NAME,
    LABEL_CANONICAL_REVISION, LABEL_DATAPLANE_MODE, LABEL_REV,
};
use tulle_api::k8s_openapi::ByteString;
use tulle_api::k8s_openapi::api::core::v1::Pod;
use tulle_translate::{Class, Deployable};

use crate::deployer::{Plane, Template, proxy_pod};
use crate::pods::{ANNOTATION_TEMPLATES, TEMPLATE_GATEWAY, workload_name};

/// Name of the container that becomes the proxy.
const PROXY: &str = "istio-proxy";
/// Image of a container that is to be completed.
const AUTO: &str = "auto";

/// Why a review cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReviewError {
    /// Not what the API server sends.
    #[error("not an AdmissionReview of a pod: {0}")]
    Unreadable(String),
}

/// Answers one AdmissionReview. Pods that are no gateways to be completed are let through as they are.
pub(crate) fn review(
    body: &[u8],
    template: &Template,
    plane: &Plane,
) -> Result<Value, ReviewError> {
    let unreadable = |why: &str| ReviewError::Unreadable(why.to_owned());
    let review: Value =
        serde_json::from_slice(body).map_err(|why| ReviewError::Unreadable(why.to_string()))?;
    let request = review
        .get("request")
        .ok_or_else(|| unreadable("no request"))?;
    let uid = request["uid"]
        .as_str()
        .ok_or_else(|| unreadable("no uid"))?;
    let mut response = json!({ "uid": uid, "allowed": true });
    let namespace = request["namespace"].as_str().unwrap_or_default();
    match completed(&request["object"], namespace, template, plane) {
        Ok(None) => {}
        Ok(Some(patch)) => {
            let patch = serde_json::to_vec(&patch).map_err(|why| unreadable(&why.to_string()))?;
            response["patchType"] = "JSONPatch".into();
            // On the wire, bytes are base64.
            response["patch"] = serde_json::to_value(ByteString(patch))
                .map_err(|why| unreadable(&why.to_string()))?;
        }
        Err(warning) => response["warnings"] = json!([warning]),
    }
    Ok(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response,
    }))
}

/// A JSON patch that makes the pod a gateway; `None` if it is not to be one. The error is a warning for the user.
fn completed(
    object: &Value,
    namespace: &str,
    template: &Template,
    plane: &Plane,
) -> Result<Option<Value>, String> {
    let Ok(pod) = serde_json::from_value::<Pod>(object.clone()) else {
        return Ok(None);
    };
    let empty = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&empty);
    let templates = annotations.get(ANNOTATION_TEMPLATES);
    let is_gateway = templates.is_some_and(|templates| {
        let mut names = templates.split(',');
        names.any(|name| name.trim() == TEMPLATE_GATEWAY)
    });
    if !is_gateway {
        return Ok(None);
    }
    let containers = object["spec"]["containers"].as_array();
    let at = containers.and_then(|all| all.iter().position(|c| c["image"] == AUTO));
    let Some(at) = at else {
        return Err(format!(
            "the template {TEMPLATE_GATEWAY:?} completes the container {PROXY} with image: {AUTO}; this pod has none and stays \
             as it is"
        ));
    };
    if template.image.is_empty() {
        return Err(
            "no image of the proxy is known (PROXY_TEMPLATE of the control plane)".to_owned(),
        );
    }
    let gateway = deployable(&pod, namespace);
    let made = proxy_pod(&gateway, template, plane);
    let spec = completed_spec(&object["spec"], &made, at);
    let labels = defaults(
        &object["metadata"]["labels"],
        &[
            (LABEL_CANONICAL_NAME, &*gateway.name),
            (LABEL_CANONICAL_REVISION, "latest"),
            (LABEL_DATAPLANE_MODE, DATAPLANE_MODE_NONE),
        ],
    );
    let revision = match plane.revision.as_str() {
        "" => "default",
        revision => revision,
    };
    let status = json!({ "revision": revision, "containers": [PROXY] }).to_string();
    let annotations = defaults(
        &object["metadata"]["annotations"],
        &[
            (ANNOTATION_SIDECAR_STATUS, &status),
            (LABEL_REV, revision),
            ("prometheus.io/path", "/stats/prometheus"),
            ("prometheus.io/port", "15020"),
            ("prometheus.io/scrape", "true"),
        ],
    );
    Ok(Some(json!([
        { "op": "replace", "path": "/spec", "value": spec },
        { "op": "add", "path": "/metadata/labels", "value": labels },
        { "op": "add", "path": "/metadata/annotations", "value": annotations },
    ])))
}

/// What the proxy has to be told: it is a gateway that bears the name of its Deployment.
fn deployable(pod: &Pod, namespace: &str) -> Deployable {
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let name: Arc<str> = match workload_name(pod, labels) {
        name if name.is_empty() => pod
            .metadata
            .generate_name
            .clone()
            .unwrap_or_default()
            .into(),
        name => name.into(),
    };
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.as_deref());
    let labels = labels
        .iter()
        .map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    Deployable {
        namespace: namespace.into(),
        name: name.clone(),
        uid: "".into(),
        class_name: CLASS_ISTIO.into(),
        class: Class::Gateway,
        workload_name: name,
        service_account: account.unwrap_or("default").into(),
        service_type: None,
        ports: Vec::new(),
        addresses: Vec::new(),
        labels: labels.collect(),
        annotations: BTreeMap::new(),
        parameters: None,
        revision: None,
        controller_version: None,
        captured: false,
    }
}

/// The user's pod, with the proxy's container laid under the one that says `auto`, and volumes that it needs.
fn completed_spec(users: &Value, made: &Value, at: usize) -> Value {
    let mut spec = users.clone();
    let proxy = &made["containers"][0];
    let container = &mut spec["containers"][at];
    let of_user = container.clone();
    container["image"] = proxy["image"].clone();
    let fields = [
        "imagePullPolicy",
        "command",
        "args",
        "resources",
        "startupProbe",
        "readinessProbe",
        "securityContext",
    ];
    for field in fields {
        // The API server fills in a policy for the image `auto`, and an empty table of resources.
        let unset = field == "imagePullPolicy" || is_empty(&of_user[field]);
        if unset && !proxy[field].is_null() {
            container[field] = proxy[field].clone();
        }
    }
    add_missing(container, "env", &proxy["env"], "name");
    add_missing(container, "ports", &proxy["ports"], "containerPort");
    add_missing(
        container,
        "volumeMounts",
        &proxy["volumeMounts"],
        "mountPath",
    );
    add_missing(&mut spec, "volumes", &made["volumes"], "name");
    add_missing(
        &mut spec,
        "imagePullSecrets",
        &made["imagePullSecrets"],
        "name",
    );
    if is_empty(&users["securityContext"]) {
        spec["securityContext"] = made["securityContext"].clone();
    }
    spec
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Items whose name the list does not have yet.
fn add_missing(to: &mut Value, field: &str, items: &Value, key: &str) {
    let Some(items) = items.as_array() else {
        return;
    };
    let mut all = to[field].as_array().cloned().unwrap_or_default();
    for item in items {
        if !all.iter().any(|known| known[key] == item[key]) {
            all.push(item.clone());
        }
    }
    to[field] = Value::Array(all);
}

/// The user's entries, and these where they have none.
fn defaults(users: &Value, ours: &[(&str, &str)]) -> Value {
    let mut all = users.as_object().cloned().unwrap_or_default();
    for (name, value) in ours {
        all.entry(*name).or_insert_with(|| (*value).into());
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests;
