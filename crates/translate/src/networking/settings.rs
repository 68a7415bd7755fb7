//! What holds for every waypoint and gateway, from the mesh configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tulle_api::mesh::{self, ExtensionProvider, MeshConfig};
use tulle_policy::http::TextMatch;
use tulle_policy::settings::{
    AccessLogFormat, CheckBody, ExtAuthzGrpc, ExtAuthzHttp, Normalization, OpenTelemetry, OtlpHttp,
    Provider, ProxySettings, Upstream,
};

use super::names::duration;
use crate::cluster::{Cluster, Outputs, Value};
use crate::resource::{Audience, Resource};
use crate::settings::Settings;

/// Provider of access logs that is always there: the proxy's standard output.
pub(super) const STDOUT: &str = "envoy";
/// Provider of metrics that is always there.
const PROMETHEUS: &str = "prometheus";
/// For a check or an export, when the user does not say.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Answered when an authorizer does not answer.
const FORBIDDEN: u16 = 403;
/// Istio's default.
const RETRIES: u32 = 2;

impl Settings {
    /// Whether CUSTOM policies can name a provider.
    pub(crate) fn is_authorizer(&self, name: &str) -> bool {
        let provider = self
            .mesh
            .extension_providers
            .iter()
            .find(|provider| provider.name == name);
        provider
            .is_some_and(|p| p.envoy_ext_authz_http.is_some() || p.envoy_ext_authz_grpc.is_some())
    }

    /// Whether a provider is at a host name.
    pub(super) fn names_host(&self, hostname: &str) -> bool {
        self.mesh
            .extension_providers
            .iter()
            .filter_map(place)
            .any(|(service, _)| host(service) == hostname)
    }

    /// A principal in the mesh's trust domain, in all that mean the same.
    pub(super) fn in_all_trust_domains(&self, text: TextMatch) -> Vec<TextMatch> {
        let all: Vec<&str> = [&*self.trust_domain]
            .into_iter()
            .chain(self.mesh.trust_domain_aliases.iter().map(String::as_str))
            .collect();
        let moved = |value: &Arc<str>, make: fn(Arc<str>) -> TextMatch| {
            let (domain, rest) = value.split_once('/')?;
            // `cluster.local` is how users write "this mesh's".
            let ours = all.contains(&domain) || domain == tulle_api::contract::TRUST_DOMAIN;
            if !ours {
                return None;
            }
            let mut domains = all.clone();
            if !domains.contains(&domain) {
                domains.push(domain);
            }
            Some(
                domains
                    .into_iter()
                    .map(|domain| make(format!("{domain}/{rest}").into()))
                    .collect::<Vec<_>>(),
            )
        };
        let same = match &text {
            TextMatch::Exact(value) => moved(value, TextMatch::Exact),
            TextMatch::Prefix(value) => moved(value, TextMatch::Prefix),
            TextMatch::Suffix(_) | TextMatch::Present => None,
        };
        same.unwrap_or_else(|| vec![text])
    }
}

impl Cluster {
    /// The one resource.
    pub(super) fn proxy_settings(&self) -> Outputs {
        // Nobody is there to be told.
        if self.report_names().is_empty() {
            return Outputs::new();
        }
        let settings = &self.settings;
        let mesh = &settings.mesh;
        let mut providers: BTreeMap<Arc<str>, Provider> = BTreeMap::new();
        let stdout = Provider::File {
            path: "/dev/stdout".into(),
            format: None,
        };
        providers.insert(STDOUT.into(), stdout);
        providers.insert(PROMETHEUS.into(), Provider::Prometheus);
        for provider in mesh
            .extension_providers
            .iter()
            .filter(|provider| !provider.name.is_empty())
        {
            providers.insert(provider.name.as_str().into(), self.provider(provider));
        }
        let topology = mesh.default_config.gateway_topology.as_ref();
        let resource = ProxySettings {
            trust_domain: settings.trust_domain.clone(),
            trust_domain_aliases: mesh
                .trust_domain_aliases
                .iter()
                .map(|text| text.as_str().into())
                .collect(),
            root_namespace: settings.root_namespace.clone(),
            cluster_domain: settings.domain.clone(),
            normalization: normalization(mesh),
            trusted_proxies: topology.map_or(0, |topology| topology.num_trusted_proxies),
            providers,
            access_log: format(&mesh.access_log_format, mesh.access_log_encoding == "JSON"),
            default_retries: mesh
                .default_http_retry_policy
                .as_ref()
                .and_then(|r| r.attempts)
                .unwrap_or(RETRIES),
        };
        vec![Value::resource(
            Audience::Everyone,
            Resource::Settings(Box::new(resource)),
        )]
    }

    fn provider(&self, provider: &ExtensionProvider) -> Provider {
        let upstream = |service: &str, port: u32, timeout: Option<&str>| {
            let hostname = host(service);
            Upstream {
                service: self
                    .service_of_host(hostname, &self.settings.root_namespace)
                    .map(|service| service.key.clone()),
                host: hostname.into(),
                port: u16::try_from(port).unwrap_or_default(),
                timeout: timeout
                    .and_then(duration)
                    .filter(|t| !t.is_zero())
                    .unwrap_or(TIMEOUT),
            }
        };
        if let Some(http) = &provider.envoy_ext_authz_http {
            return Provider::ExtAuthzHttp(ext_authz_http(
                http,
                upstream(&http.service, http.port, http.timeout.as_deref()),
            ));
        }
        if let Some(grpc) = &provider.envoy_ext_authz_grpc {
            return Provider::ExtAuthzGrpc(ExtAuthzGrpc {
                upstream: upstream(&grpc.service, grpc.port, grpc.timeout.as_deref()),
                fail_open: grpc.fail_open,
                status_on_error: status(&grpc.status_on_error),
                body: grpc.include_request_body_in_check.map(body),
            });
        }
        if let Some(otel) = provider
            .opentelemetry
            .as_ref()
            .or(provider.envoy_otel_als.as_ref())
        {
            let timeout = match (&otel.http, &otel.grpc) {
                (Some(http), _) => http.timeout.as_deref(),
                (None, Some(grpc)) => grpc.timeout.as_deref(),
                (None, None) => None,
            };
            let headers = otel.http.iter().flat_map(|http| &http.headers);
            let metadata = otel.grpc.iter().flat_map(|grpc| &grpc.initial_metadata);
            return Provider::OpenTelemetry(OpenTelemetry {
                upstream: upstream(&otel.service, otel.port, timeout),
                longest_tag: otel.max_tag_length,
                http: otel.http.as_ref().map(|http| OtlpHttp {
                    path: http.path.as_str().into(),
                }),
                headers: headers
                    .chain(metadata)
                    .map(|h| (h.name.to_ascii_lowercase().into(), h.value.as_str().into()))
                    .collect(),
                log_text: otel
                    .log_format
                    .as_ref()
                    .and_then(|format| Some(format.text.as_deref()?.into())),
                log_labels: otel.log_format.as_ref().map(labels).unwrap_or_default(),
            });
        }
        if let Some(file) = &provider.envoy_file_access_log {
            let path = if file.path.is_empty() {
                "/dev/stdout"
            } else {
                &file.path
            };
            return Provider::File {
                path: path.into(),
                format: file.log_format.as_ref().and_then(log_format),
            };
        }
        if provider.prometheus.is_some() {
            return Provider::Prometheus;
        }
        let kinds: Vec<&str> = provider.other.keys().map(String::as_str).collect();
        Provider::Unsupported(kinds.join(", ").into())
    }
}

/// Service and port of a provider.
fn place(provider: &ExtensionProvider) -> Option<(&str, u32)> {
    let http = provider
        .envoy_ext_authz_http
        .as_ref()
        .map(|p| (p.service.as_str(), p.port));
    let grpc = provider
        .envoy_ext_authz_grpc
        .as_ref()
        .map(|p| (p.service.as_str(), p.port));
    let otel = provider
        .opentelemetry
        .as_ref()
        .or(provider.envoy_otel_als.as_ref());
    http.or(grpc).or(otel.map(|p| (p.service.as_str(), p.port)))
}

/// `namespace/host` names the namespace only to tell services of one name apart.
fn host(service: &str) -> &str {
    service.split_once('/').map_or(service, |(_, host)| host)
}

fn ext_authz_http(http: &mesh::ExtAuthzHttp, upstream: Upstream) -> ExtAuthzHttp {
    let names = |texts: &[String]| -> Vec<Arc<str>> {
        texts
            .iter()
            .map(|text| text.to_ascii_lowercase().into())
            .collect()
    };
    let included = if http.include_request_headers_in_check.is_empty() {
        &http.include_headers_in_check
    } else {
        &http.include_request_headers_in_check
    };
    let added = http.include_additional_headers_in_check.iter();
    ExtAuthzHttp {
        upstream,
        path_prefix: http.path_prefix.as_str().into(),
        fail_open: http.fail_open,
        status_on_error: status(&http.status_on_error),
        include_headers: names(included),
        add_headers: added
            .map(|(name, value)| (name.to_ascii_lowercase().into(), value.as_str().into()))
            .collect(),
        body: http.include_request_body_in_check.map(body),
        to_upstream: names(&http.headers_to_upstream_on_allow),
        to_client_on_deny: names(&http.headers_to_downstream_on_deny),
        to_client_on_allow: names(&http.headers_to_downstream_on_allow),
    }
}

fn status(text: &str) -> u16 {
    text.parse()
        .ok()
        .filter(|status| (200..600).contains(status))
        .unwrap_or(FORBIDDEN)
}

fn body(body: mesh::CheckBody) -> CheckBody {
    CheckBody {
        max_bytes: body.max_request_bytes,
        partial: body.allow_partial_message,
        raw: body.pack_as_bytes,
    }
}

fn normalization(mesh: &MeshConfig) -> Normalization {
    match mesh.path_normalization.normalization.as_str() {
        "NONE" => Normalization::None,
        "MERGE_SLASHES" => Normalization::MergeSlashes,
        "DECODE_AND_MERGE_SLASHES" => Normalization::DecodeAndMergeSlashes,
        _ => Normalization::Base,
    }
}

/// A custom JSON form is a JSON object of texts.
fn format(text: &str, json: bool) -> AccessLogFormat {
    match (text.is_empty(), json) {
        (true, false) => AccessLogFormat::Text,
        (true, true) => AccessLogFormat::Json,
        (false, false) => AccessLogFormat::CustomText(text.into()),
        (false, true) => match serde_json::from_str::<BTreeMap<Arc<str>, Arc<str>>>(text) {
            Ok(fields) => AccessLogFormat::CustomJson(fields),
            Err(_) => AccessLogFormat::Json,
        },
    }
}

fn log_format(format: &mesh::LogFormat) -> Option<AccessLogFormat> {
    if let Some(text) = &format.text {
        return Some(AccessLogFormat::CustomText(text.as_str().into()));
    }
    format.labels.as_ref()?;
    Some(AccessLogFormat::CustomJson(labels(format)))
}

/// Names and texts.
fn labels(format: &mesh::LogFormat) -> BTreeMap<Arc<str>, Arc<str>> {
    let field = |(name, value): (&String, &serde_json::Value)| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (Arc::from(name.as_str()), Arc::from(value))
    };
    format.labels.iter().flatten().map(field).collect()
}
