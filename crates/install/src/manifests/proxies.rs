//! What the control plane needs to know to deploy waypoints and gateways.

use serde_json::{Value, json};

use crate::values::{ProxyValues, Resources, Values};

/// The control plane's variable `PROXY_TEMPLATE`, as JSON.
pub(super) fn template(values: &Values) -> String {
    json!({
        "image": values.image,
        "imagePullPolicy": values.image_pull_policy,
        "imagePullSecrets": values.image_pull_secrets,
        "logLevel": values.log_level,
        "logAsJson": values.log_as_json,
        "clusterId": values.cluster_id,
        "clusterDomain": values.cluster_domain,
        "network": values.network,
        "waypoint": proxy(&values.waypoint),
        "gateway": proxy(&values.gateway),
    })
    .to_string()
}

fn proxy(values: &ProxyValues) -> Value {
    json!({
        "resources": resources(&values.resources),
        "env": values.env,
        "terminationGracePeriodSeconds": values.termination_grace_period_seconds,
    })
}

fn resources(resources: &Resources) -> Value {
    let mut table = serde_json::Map::new();
    for (name, quantities) in [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ] {
        if !quantities.is_empty() {
            table.insert(name.to_owned(), json!(quantities));
        }
    }
    Value::Object(table)
}
