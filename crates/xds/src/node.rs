//! Who a proxy says it is: the `Node` of its first discovery request.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tulle_proto::discovery::Node;

use crate::wire::SPLIT;

/// What kind of proxy it is: the first word of its id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyKind {
    /// A node proxy.
    #[default]
    Ztunnel,
    /// A waypoint.
    Waypoint,
    /// An ingress or egress gateway.
    Router,
}

impl ProxyKind {
    /// As Istio's node ids begin.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ztunnel => "ztunnel",
            Self::Waypoint => "waypoint",
            Self::Router => "router",
        }
    }
}

/// What a proxy tells about itself. Unverified: the server compares the namespace with the token's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeInfo {
    /// What it is.
    pub kind: ProxyKind,
    /// `INSTANCE_IP`: the pod's own address, or several, comma-separated.
    pub ip: String,
    /// `POD_NAME`.
    pub pod: String,
    /// `POD_NAMESPACE`.
    pub namespace: String,
    /// `NODE_NAME`.
    pub node: String,
    /// `CLUSTER_ID`.
    pub cluster_id: String,
    /// `ISTIO_META_*` as text and `ISTIO_METAJSON_*` as JSON, without their prefixes.
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl NodeInfo {
    /// Reads the environment that the DaemonSet sets. A METAJSON value that is no JSON is logged and left out.
    pub fn from_env(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut info = Self {
            ip: "1.1.1.1".to_owned(), // Upstream's word for "unknown": the id must hold an address.
            ..Self::default()
        };
        for (name, value) in vars {
            match name.as_str() {
                "INSTANCE_IP" => info.ip = value,
                "POD_NAME" => info.pod = value,
                "POD_NAMESPACE" => info.namespace = value,
                "NODE_NAME" => info.node = value,
                "CLUSTER_ID" => info.cluster_id = value,
                _ => info.metadata_variable(&name, value),
            }
        }
        info
    }

    fn metadata_variable(&mut self, name: &str, value: String) {
        if let Some(key) = name.strip_prefix("ISTIO_METAJSON_") {
            match serde_json::from_str(&value) {
                Ok(json) => {
                    self.extra.insert(key.to_owned(), json);
                }
                Err(error) => tracing::warn!(%name, %error, "not JSON; ignored"),
            }
        } else if let Some(key) = name.strip_prefix("ISTIO_META_") {
            self.extra.insert(key.to_owned(), value.into());
        }
    }

    pub(crate) fn to_wire(&self) -> Node {
        let text = |value: &str| Value {
            kind: Some(Kind::StringValue(value.to_owned())),
        };
        let mut fields: BTreeMap<String, Value> = self
            .extra
            .iter()
            .map(|(key, value)| (key.clone(), json(value)))
            .collect();
        fields.insert("NAME".to_owned(), text(&self.pod));
        fields.insert("NAMESPACE".to_owned(), text(&self.namespace));
        fields.insert("INSTANCE_IPS".to_owned(), text(&self.ip));
        fields.insert("NODE_NAME".to_owned(), text(&self.node));
        fields.insert(SPLIT.to_owned(), text("true"));
        fields
            .entry("ISTIO_VERSION".to_owned())
            .or_insert_with(|| text(env!("CARGO_PKG_VERSION")));
        if !self.cluster_id.is_empty() {
            fields.insert("CLUSTER_ID".to_owned(), text(&self.cluster_id));
        }
        let (ip, pod, namespace) = (&self.ip, &self.pod, &self.namespace);
        let kind = self.kind.as_str();
        Node {
            id: format!("{kind}~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
            cluster: String::new(),
            metadata: Some(Struct { fields }),
        }
    }
}

/// A text of a node's metadata.
pub(crate) fn metadata_text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(*flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(json).collect(),
        }),
        Json::Object(map) => Kind::StructValue(Struct {
            fields: map.iter().map(|(k, v)| (k.clone(), json(v))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests;
