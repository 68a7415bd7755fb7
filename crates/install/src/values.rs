//! What may be chosen at installation. Names are those of Istio's charts where they have the value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tulle_api::contract::{CLUSTER_DOMAIN, CLUSTER_ID, TRUST_DOMAIN};

/// All values, with the defaults of the profile `ambient`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Values {
    /// The one image of all parts, e.g. `registry.example/tulle:0.1.0`.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; Kubernetes' own default if empty.
    pub image_pull_policy: String,
    /// Names of Secrets of `istio-system` that open the image's registry.
    pub image_pull_secrets: Vec<String>,
    /// Log level of all parts, in the syntax of `RUST_LOG`.
    pub log_level: String,
    /// One JSON object per log line instead of text.
    pub log_as_json: bool,
    /// Name of the cluster in metrics and logs.
    pub cluster_id: String,
    /// DNS suffix of the cluster.
    pub cluster_domain: String,
    /// Network of the cluster, for meshes of several networks.
    pub network: String,
    /// Mesh configuration; `trustDomain` and `rootNamespace` are filled in if missing.
    pub mesh_config: Map<String, Value>,
    /// The control plane (Deployment istiod).
    pub pilot: PilotValues,
    /// The node agent (DaemonSet istio-cni-node).
    pub cni: CniValues,
    /// The node proxy (DaemonSet ztunnel).
    pub ztunnel: ZtunnelValues,
    /// Waypoints, which the control plane deploys.
    pub waypoint: ProxyValues,
    /// Gateways of class `istio`, likewise, and those with `image: auto`.
    pub gateway: ProxyValues,
}

/// Values of the control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PilotValues {
    /// CPU and memory.
    pub resources: Resources,
    /// More environment variables.
    pub env: BTreeMap<String, String>,
}

/// Values of the node agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CniValues {
    /// Where the container runtime looks for CNI programs, on the node.
    pub cni_bin_dir: String,
    /// Where the container runtime looks for CNI configuration, on the node.
    pub cni_conf_dir: String,
    /// Where the container runtime keeps network namespaces, on the node.
    pub cni_netns_dir: String,
    /// Namespaces whose pods are never enrolled.
    pub exclude_namespaces: Vec<String>,
    /// Redirect IPv6 as well. Off only for nodes whose kernel has none.
    pub ipv6: bool,
    /// Enrolled pods ask their node proxy for names: of ServiceEntries, too. Off, or per pod by annotation.
    pub dns_capture: bool,
    /// A ResourceQuota that permits node-critical pods outside kube-system (GKE refuses them without).
    pub resource_quota: bool,
    /// CPU and memory.
    pub resources: Resources,
    /// More environment variables.
    pub env: BTreeMap<String, String>,
}

/// Values of the node proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ZtunnelValues {
    /// How long a ztunnel that stops lets connections go on, in seconds.
    pub termination_grace_period_seconds: i64,
    /// CPU and memory.
    pub resources: Resources,
    /// More environment variables.
    pub env: BTreeMap<String, String>,
}

/// Values of layer 7 proxies; each Gateway may have its own by `infrastructure.parametersRef`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxyValues {
    /// How long a proxy that stops lets requests go on, in seconds.
    pub termination_grace_period_seconds: i64,
    /// CPU and memory.
    pub resources: Resources,
    /// More environment variables.
    pub env: BTreeMap<String, String>,
}

/// Requests and limits, in Kubernetes' quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// What the scheduler reserves: `cpu`, `memory`.
    pub requests: BTreeMap<String, String>,
    /// What the kernel enforces.
    pub limits: BTreeMap<String, String>,
}

impl Resources {
    fn requests(cpu: &str, memory: &str) -> Self {
        let requests = [("cpu", cpu), ("memory", memory)];
        Resources {
            requests: requests
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            limits: BTreeMap::new(),
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Values {
            image: format!("docker.io/tulle/tulle:{}", env!("CARGO_PKG_VERSION")),
            image_pull_policy: "IfNotPresent".to_owned(),
            image_pull_secrets: Vec::new(),
            log_level: "info".to_owned(),
            log_as_json: false,
            cluster_id: CLUSTER_ID.to_owned(),
            cluster_domain: CLUSTER_DOMAIN.to_owned(),
            network: String::new(),
            mesh_config: Map::new(),
            pilot: PilotValues::default(),
            cni: CniValues::default(),
            ztunnel: ZtunnelValues::default(),
            waypoint: ProxyValues::default(),
            gateway: ProxyValues::default(),
        }
    }
}

impl Default for PilotValues {
    fn default() -> Self {
        PilotValues {
            resources: Resources::requests("50m", "64Mi"),
            env: BTreeMap::new(),
        }
    }
}

impl Default for CniValues {
    fn default() -> Self {
        CniValues {
            cni_bin_dir: "/opt/cni/bin".to_owned(),
            cni_conf_dir: "/etc/cni/net.d".to_owned(),
            cni_netns_dir: "/var/run/netns".to_owned(),
            exclude_namespaces: vec!["kube-system".to_owned()],
            ipv6: true,
            dns_capture: true,
            resource_quota: false,
            resources: Resources::requests("20m", "32Mi"),
            env: BTreeMap::new(),
        }
    }
}

impl Default for ZtunnelValues {
    fn default() -> Self {
        ZtunnelValues {
            termination_grace_period_seconds: 30,
            resources: Resources::requests("50m", "48Mi"),
            env: BTreeMap::new(),
        }
    }
}

impl Default for ProxyValues {
    fn default() -> Self {
        let limits = [("cpu", "2"), ("memory", "1Gi")];
        ProxyValues {
            termination_grace_period_seconds: 30,
            resources: Resources {
                limits: limits
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                ..Resources::requests("50m", "64Mi")
            },
            env: BTreeMap::new(),
        }
    }
}

/// A value that cannot be set so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SetError {
    /// Not `path=value`.
    #[error("--set {0:?}: write path=value, e.g. --set cni.cniBinDir=/opt/cni/bin")]
    Form(String),
    /// The path goes through something that has no parts.
    #[error("--set {path}: {part:?} has no parts to set")]
    NoParts {
        /// The whole path.
        path: String,
        /// The part that is no table.
        part: String,
    },
    /// The result does not fit, e.g. an unknown name or a wrong type.
    #[error(
        "the values do not fit: {0}. `tulle manifest values` prints all names with their defaults"
    )]
    Misfit(String),
    /// A value that Kubernetes would refuse or misunderstand.
    #[error("{path}: {value:?} will not do: {why}")]
    Unusable {
        /// Where.
        path: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        why: &'static str,
    },
}

impl Values {
    /// The values with `overlay`'s (parsed from a values file) laid over them.
    pub fn merged(&self, overlay: Value) -> Result<Values, SetError> {
        let mut all = self.to_json()?;
        merge(&mut all, overlay);
        Values::from_json(all)
    }

    /// The values after `--set path=value` for each of `settings`, in order. Values are read as JSON where they are
    /// valid JSON and the place is no text; lists may be written `{a,b}`.
    pub fn with(&self, settings: &[String]) -> Result<Values, SetError> {
        let mut all = self.to_json()?;
        for setting in settings {
            set(&mut all, setting)?;
        }
        Values::from_json(all)
    }

    /// The trust domain in force.
    pub fn trust_domain(&self) -> &str {
        self.mesh_config
            .get("trustDomain")
            .and_then(Value::as_str)
            .unwrap_or(TRUST_DOMAIN)
    }

    /// Refuses what Kubernetes would only refuse later, or worse, accept.
    pub fn check(&self) -> Result<(), SetError> {
        let unusable = |path, value: &str, why| {
            Err(SetError::Unusable {
                path,
                value: value.to_owned(),
                why,
            })
        };
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return unusable("image", &self.image, "an image reference is needed");
        }
        if !["", "Always", "IfNotPresent", "Never"].contains(&self.image_pull_policy.as_str()) {
            let why = "it is one of Always, IfNotPresent, Never";
            return unusable("imagePullPolicy", &self.image_pull_policy, why);
        }
        for (path, directory) in [
            ("cni.cniBinDir", &self.cni.cni_bin_dir),
            ("cni.cniConfDir", &self.cni.cni_conf_dir),
            ("cni.cniNetnsDir", &self.cni.cni_netns_dir),
        ] {
            if !directory.starts_with('/') || directory.split('/').any(|part| part == "..") {
                return unusable(path, directory, "it is an absolute path on the node");
            }
        }
        let trust_domain = self.trust_domain();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
        if trust_domain.is_empty() || !trust_domain.chars().all(fits) {
            let why = "a trust domain has lower-case letters, digits, '-', '.' and '_'";
            return unusable("meshConfig.trustDomain", trust_domain, why);
        }
        if self.cluster_id.is_empty() {
            return unusable("clusterId", "", "metrics and certificate requests carry it");
        }
        for (path, seconds) in [
            (
                "ztunnel.terminationGracePeriodSeconds",
                self.ztunnel.termination_grace_period_seconds,
            ),
            (
                "waypoint.terminationGracePeriodSeconds",
                self.waypoint.termination_grace_period_seconds,
            ),
            (
                "gateway.terminationGracePeriodSeconds",
                self.gateway.termination_grace_period_seconds,
            ),
        ] {
            if seconds < 1 {
                return unusable(path, &seconds.to_string(), "at least one second");
            }
        }
        Ok(())
    }

    fn to_json(&self) -> Result<Value, SetError> {
        serde_json::to_value(self).map_err(|error| SetError::Misfit(error.to_string()))
    }

    fn from_json(value: Value) -> Result<Values, SetError> {
        let values: Values =
            serde_json::from_value(value).map_err(|error| SetError::Misfit(error.to_string()))?;
        values.check()?;
        Ok(values)
    }
}

fn merge(base: &mut Value, overlay: Value) {
    match (base, overlay) {
        (Value::Object(base), Value::Object(overlay)) => {
            for (name, value) in overlay {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, overlay) => *base = overlay,
    }
}

fn set(all: &mut Value, setting: &str) -> Result<(), SetError> {
    let form = || SetError::Form(setting.to_owned());
    let (path, text) = setting.split_once('=').ok_or_else(form)?;
    if path.is_empty() || path.split('.').any(str::is_empty) {
        return Err(form());
    }
    let mut place = all;
    for part in path.split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Object(table) => table.entry(part).or_insert(Value::Null),
            _ => {
                return Err(SetError::NoParts {
                    path: path.to_owned(),
                    part: part.to_owned(),
                });
            }
        };
    }
    // Mesh configuration has values of all types; everything else that is not there yet is a text.
    let typed = path.starts_with("meshConfig.") || !place.is_null();
    *place = if typed {
        read(text, place)
    } else {
        text.into()
    };
    Ok(())
}

/// Text stays text where the place holds text; else it is JSON if it is valid JSON.
fn read(text: &str, place: &Value) -> Value {
    let list = text
        .strip_prefix('{')
        .and_then(|inner| inner.strip_suffix('}'));
    match (place, list) {
        (Value::String(_), _) => text.into(),
        (Value::Array(_), Some(list)) => list
            .split(',')
            .filter(|item| !item.is_empty())
            .map(Value::from)
            .collect(),
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

#[cfg(test)]
mod tests;
