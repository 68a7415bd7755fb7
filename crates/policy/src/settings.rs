//! What holds for every waypoint and gateway of the mesh: from the mesh configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tulle_model::ServiceKey;

/// Name of the only resource of this kind on the wire.
pub const NAME: &str = "mesh";

/// For every proxy of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySettings {
    /// Of all identities.
    pub trust_domain: Arc<str>,
    /// Older ones that mean the same.
    #[serde(default)]
    pub trust_domain_aliases: Vec<Arc<str>>,
    /// Namespace whose policies concern the whole mesh.
    pub root_namespace: Arc<str>,
    /// DNS suffix of services.
    pub cluster_domain: Arc<str>,
    /// One form of paths for policies and backends.
    #[serde(default)]
    pub normalization: Normalization,
    /// Proxies before ours whose `x-forwarded-for` is believed (`gatewayTopology.numTrustedProxies`).
    #[serde(default)]
    pub trusted_proxies: u32,
    /// Whom policies and telemetry can name.
    #[serde(default)]
    pub providers: BTreeMap<Arc<str>, Provider>,
    /// Form of standard access-log lines.
    #[serde(default)]
    pub access_log: AccessLogFormat,
    /// Retries of routes that say nothing: attempts after the first.
    pub default_retries: u32,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            root_namespace: "istio-system".into(),
            cluster_domain: "cluster.local".into(),
            normalization: Normalization::default(),
            trusted_proxies: 0,
            providers: BTreeMap::new(),
            access_log: AccessLogFormat::default(),
            default_retries: 2,
        }
    }
}

/// `pathNormalization.normalization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Normalization {
    /// Paths stay as they are.
    None,
    /// Dot segments are resolved.
    #[default]
    Base,
    /// And slashes merged.
    MergeSlashes,
    /// And encoded slashes decoded first.
    DecodeAndMergeSlashes,
}

/// Form of standard access-log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AccessLogFormat {
    /// Istio's.
    #[default]
    Text,
    /// The same as JSON.
    Json,
    /// The user's text, with Envoy's `%COMMAND%`s.
    CustomText(Arc<str>),
    /// The user's JSON: names and texts with commands.
    CustomJson(BTreeMap<Arc<str>, Arc<str>>),
}

/// Somebody outside who is asked or told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Provider {
    /// Decides about requests, asked by HTTP.
    ExtAuthzHttp(ExtAuthzHttp),
    /// Decides about requests, asked by gRPC (`envoy.service.auth.v3.Authorization`).
    ExtAuthzGrpc(ExtAuthzGrpc),
    /// Receives spans or logs by OTLP.
    OpenTelemetry(OpenTelemetry),
    /// Standard output or a file.
    File {
        /// For example `/dev/stdout`.
        path: Arc<str>,
        /// Its form; `None` is the settings'.
        format: Option<AccessLogFormat>,
    },
    /// Metrics for Prometheus.
    Prometheus,
    /// Named in the mesh configuration, of a kind that has no effect here.
    Unsupported(Arc<str>),
}

/// Where a provider is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// The service that the name means; `None` when the mesh knows none of the name: it is resolved by DNS.
    pub service: Option<ServiceKey>,
    /// As it was written, without namespace.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// For one call.
    pub timeout: Duration,
}

/// See `envoyExtAuthzHttp`. Header names are in lower case; `*` at one end of an entry stands for the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtAuthzHttp {
    /// Where it is.
    pub upstream: Upstream,
    /// Before the path of the request.
    #[serde(default)]
    pub path_prefix: Arc<str>,
    /// Without an answer the request passes.
    #[serde(default)]
    pub fail_open: bool,
    /// Answered when there is no answer; 403 by default.
    pub status_on_error: u16,
    /// Headers of the request that the check carries, beside host, method, path and `authorization`.
    #[serde(default)]
    pub include_headers: Vec<Arc<str>>,
    /// Headers that are added to the check.
    #[serde(default)]
    pub add_headers: BTreeMap<Arc<str>, Arc<str>>,
    /// The check carries the body.
    #[serde(default)]
    pub body: Option<CheckBody>,
    /// Headers of the answer that replace those of the request when it is allowed.
    #[serde(default)]
    pub to_upstream: Vec<Arc<str>>,
    /// Headers of the answer that the client sees when it is denied.
    #[serde(default)]
    pub to_client_on_deny: Vec<Arc<str>>,
    /// Headers of the answer that are added to the response when it is allowed.
    #[serde(default)]
    pub to_client_on_allow: Vec<Arc<str>>,
}

/// See `envoyExtAuthzGrpc`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtAuthzGrpc {
    /// Where it is.
    pub upstream: Upstream,
    /// Without an answer the request passes.
    #[serde(default)]
    pub fail_open: bool,
    /// Answered when there is no answer; 403 by default.
    pub status_on_error: u16,
    /// The check carries the body.
    #[serde(default)]
    pub body: Option<CheckBody>,
}

/// How much of a body a check carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckBody {
    /// In bytes.
    pub max_bytes: u32,
    /// A longer body is cut; otherwise the request is answered with 413.
    #[serde(default)]
    pub partial: bool,
    /// Bytes instead of text (gRPC).
    #[serde(default)]
    pub raw: bool,
}

/// See `opentelemetry` and `envoyOtelAls`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenTelemetry {
    /// Where it is.
    pub upstream: Upstream,
    /// Longest tag value, in characters.
    #[serde(default)]
    pub longest_tag: Option<u32>,
    /// OTLP by HTTP at this path, with these headers, instead of gRPC.
    #[serde(default)]
    pub http: Option<OtlpHttp>,
    /// Further metadata or headers.
    #[serde(default)]
    pub headers: BTreeMap<Arc<str>, Arc<str>>,
    /// Body of log records, with Envoy's `%COMMAND%`s; `None` is Istio's line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_text: Option<Arc<str>>,
    /// Attributes of log records, with the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub log_labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// OTLP by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtlpHttp {
    /// For example `/v1/traces`.
    pub path: Arc<str>,
}
