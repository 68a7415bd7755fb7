//! What the container runtime says: environment and configuration.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;

/// The environment of a call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) command: String,
    pub(crate) netns: Option<String>,
    pub(crate) sandbox: String,
    /// `None` when it is not Kubernetes that calls.
    pub(crate) pod: Option<Pod>,
}

/// From CNI_ARGS.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
}

/// Our entry in the list of plugins, with what the runtime adds to it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Configuration {
    #[serde(rename = "prevResult")]
    pub(crate) previous: Option<Value>,
    #[serde(default = "default_socket")]
    pub(crate) socket: PathBuf,
    /// The node agent's own namespace is among them: it must start without itself.
    #[serde(default = "default_excluded")]
    exclude_namespaces: Vec<String>,
}

impl Call {
    pub(crate) fn from_lookup(get: impl Fn(&'static str) -> Option<String>) -> Self {
        let text = |name| get(name).filter(|value| !value.is_empty());
        Self {
            command: text("CNI_COMMAND").unwrap_or_default(),
            netns: text("CNI_NETNS"),
            sandbox: text("CNI_CONTAINERID").unwrap_or_default(),
            pod: text("CNI_ARGS").as_deref().and_then(Pod::from_arguments),
        }
    }
}

impl Pod {
    /// `IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c`
    fn from_arguments(text: &str) -> Option<Self> {
        let value = |wanted: &str| {
            let mut pairs = text.split(';').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(key, _)| *key == wanted)
                .map(|(_, value)| value.to_owned())
                .filter(|v| !v.is_empty())
        };
        Some(Self {
            namespace: value("K8S_POD_NAMESPACE")?,
            name: value("K8S_POD_NAME")?,
            uid: value("K8S_POD_UID"),
        })
    }
}

impl Configuration {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        serde_json::from_str(text).map_err(|error| Failure::malformed(&error))
    }

    pub(crate) fn excludes(&self, namespace: &str) -> bool {
        self.exclude_namespaces
            .iter()
            .any(|excluded| excluded == namespace)
    }
}

/// The pod's addresses in a result of CNI 0.3 or later, without their prefix lengths.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let ips = result.get("ips").and_then(Value::as_array);
    let texts = ips
        .into_iter()
        .flatten()
        .filter_map(|ip| ip.get("address")?.as_str());
    texts
        .map(|text| text.split('/').next().unwrap_or(text).to_owned())
        .collect()
}

fn default_socket() -> PathBuf {
    "/var/run/istio-cni/pluginevent.sock".into()
}

fn default_excluded() -> Vec<String> {
    vec!["istio-system".into(), "kube-system".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_in_the_arguments() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a-1;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=u";
        let pod = Pod {
            namespace: "shop".into(),
            name: "a-1".into(),
            uid: Some("u".into()),
        };
        assert_eq!(Pod::from_arguments(text), Some(pod));
        assert_eq!(Pod::from_arguments("IgnoreUnknown=1"), None);
    }

    #[test]
    fn addresses_lose_their_prefix_length() {
        let result = serde_json::json!({ "ips": [{ "address": "10.1.2.3/24" }, { "address": "fd00::3/64" }, {}] });
        assert_eq!(addresses(&result), ["10.1.2.3", "fd00::3"]);
        assert!(addresses(&Value::Null).is_empty());
    }
}
