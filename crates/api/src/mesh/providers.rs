//! Extension providers of the mesh configuration, and who is used by default.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Somebody outside whom policies and telemetry can name. One of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct ExtensionProvider {
    pub name: String,
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    pub opentelemetry: Option<OpenTelemetry>,
    pub envoy_otel_als: Option<OpenTelemetry>,
    pub envoy_file_access_log: Option<FileAccessLog>,
    pub prometheus: Option<Empty>,
    /// Other kinds, which have no effect here.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// Nothing to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Empty {}

/// Decides about requests, by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct ExtAuthzHttp {
    pub service: String,
    pub port: u32,
    pub timeout: Option<String>,
    pub path_prefix: String,
    pub fail_open: bool,
    pub status_on_error: String,
    pub include_request_headers_in_check: Vec<String>,
    /// Older spelling.
    pub include_headers_in_check: Vec<String>,
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    pub include_request_body_in_check: Option<CheckBody>,
    pub headers_to_upstream_on_allow: Vec<String>,
    pub headers_to_downstream_on_deny: Vec<String>,
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// Decides about requests, by gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct ExtAuthzGrpc {
    pub service: String,
    pub port: u32,
    pub timeout: Option<String>,
    pub fail_open: bool,
    pub status_on_error: String,
    pub include_request_body_in_check: Option<CheckBody>,
}

/// How much of the body a check carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct CheckBody {
    pub max_request_bytes: u32,
    pub allow_partial_message: bool,
    pub pack_as_bytes: bool,
}

/// Receives spans or access logs by OTLP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct OpenTelemetry {
    pub service: String,
    pub port: u32,
    pub max_tag_length: Option<u32>,
    pub http: Option<OtlpHttp>,
    pub grpc: Option<OtlpGrpc>,
    /// Of access logs.
    pub log_format: Option<LogFormat>,
    /// Other fields, of which the user is told.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// OTLP by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct OtlpHttp {
    pub path: String,
    pub timeout: Option<String>,
    pub headers: Vec<ProviderHeader>,
}

/// OTLP by gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct OtlpGrpc {
    pub timeout: Option<String>,
    pub initial_metadata: Vec<ProviderHeader>,
}

/// A header for a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct ProviderHeader {
    pub name: String,
    pub value: String,
}

/// Access log lines in a file, or standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct FileAccessLog {
    pub path: String,
    pub log_format: Option<LogFormat>,
}

/// Form of access log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct LogFormat {
    pub text: Option<String>,
    pub labels: Option<BTreeMap<String, serde_json::Value>>,
}

/// Providers that are used when a Telemetry names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct DefaultProviders {
    pub tracing: Vec<String>,
    pub metrics: Vec<String>,
    pub access_logging: Vec<String>,
}

/// Settings of all proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct DefaultConfig {
    pub tracing: Option<TracingConfig>,
    pub gateway_topology: Option<Topology>,
}

/// Tracing of all proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct TracingConfig {
    /// Percent.
    pub sampling: Option<serde_json::Number>,
    pub max_path_tag_length: Option<u32>,
}

/// What stands before gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct Topology {
    pub num_trusted_proxies: u32,
}

/// One form of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct PathNormalization {
    pub normalization: String,
}

/// Retries of routes that say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are Istio's, explained in its reference"
)]
pub struct DefaultRetries {
    pub attempts: Option<u32>,
}
