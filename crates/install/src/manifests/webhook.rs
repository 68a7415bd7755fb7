//! The webhook that completes gateways which users deploy themselves.

use serde_json::{Value, json};
use tulle_api::contract::{CONTROL_PLANE, SYSTEM_NAMESPACE};

use super::metadata::ISTIOD;

/// Istio's name of the configuration.
pub(super) const NAME: &str = "istio-sidecar-injector";

/// MutatingWebhookConfiguration `istio-sidecar-injector`. The control plane adds the roots that the API server expects.
///
/// It is asked only about pods that carry the label and name the template `gateway`: when the control plane is away, no
/// other pod is held up.
pub(super) fn configuration() -> Value {
    let annotation = "inject.istio.io/templates";
    let names_gateway = format!(
        "has(object.metadata.annotations) && '{annotation}' in object.metadata.annotations && \
         object.metadata.annotations['{annotation}'].contains('gateway')"
    );
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": ISTIOD.cluster_metadata(NAME),
        "webhooks": [{
            "name": "object.sidecar-injector.istio.io",
            "clientConfig": { "service": {
                "name": CONTROL_PLANE, "namespace": SYSTEM_NAMESPACE, "path": "/inject", "port": 443,
            } },
            "rules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "scope": "Namespaced",
            }],
            "objectSelector": { "matchExpressions": [
                { "key": "sidecar.istio.io/inject", "operator": "In", "values": ["true"] },
            ] },
            "namespaceSelector": { "matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "NotIn",
                "values": ["kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE],
            }] },
            "matchConditions": [{ "name": "gateway", "expression": names_gateway }],
            // A pod with image: auto could not run anyway.
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "Never",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
        }],
    })
}
