//! The mesh configuration: ConfigMap `istio`, key `mesh`.

mod providers;

pub use providers::{
    CheckBody, DefaultConfig, DefaultProviders, DefaultRetries, Empty, ExtAuthzGrpc, ExtAuthzHttp,
    ExtensionProvider, FileAccessLog, LogFormat, OpenTelemetry, OtlpGrpc, OtlpHttp,
    PathNormalization, ProviderHeader, Topology, TracingConfig,
};

use serde::Deserialize;

/// What of Istio's MeshConfig this project heeds; other fields are left alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Trust domain of all identities.
    pub trust_domain: String,
    /// Older trust domains whose identities mean the same.
    pub trust_domain_aliases: Vec<String>,
    /// Namespace whose policies concern the whole mesh.
    pub root_namespace: String,
    /// Namespaces that the control plane looks at; any selector may match, none means all.
    pub discovery_selectors: Vec<DiscoverySelector>,
    /// Whom policies and telemetry can name.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Whom telemetry uses when it names nobody.
    pub default_providers: DefaultProviders,
    /// Settings of all proxies.
    pub default_config: DefaultConfig,
    /// One form of paths for policies and backends.
    pub path_normalization: PathNormalization,
    /// Where access logs go; empty is nowhere.
    pub access_log_file: String,
    /// Their form; empty is the standard one.
    pub access_log_format: String,
    /// `TEXT` or `JSON`.
    pub access_log_encoding: String,
    /// Retries of routes that say nothing.
    pub default_http_retry_policy: Option<DefaultRetries>,
}

/// Kubernetes' label selector, on namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiscoverySelector {
    /// Exact labels.
    pub match_labels: std::collections::BTreeMap<String, String>,
    /// Conditions.
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SelectorRequirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: SelectorOperator,
    /// With what.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum SelectorOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// The mesh configuration is not usable; what was in force stays.
#[derive(Debug)]
pub struct MeshConfigError(String);

impl std::fmt::Display for MeshConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ConfigMap istio, key mesh: {}; correct it with kubectl -n istio-system edit configmap istio",
            self.0
        )
    }
}

impl std::error::Error for MeshConfigError {}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            trust_domain: crate::contract::TRUST_DOMAIN.to_owned(),
            trust_domain_aliases: Vec::new(),
            root_namespace: crate::contract::SYSTEM_NAMESPACE.to_owned(),
            discovery_selectors: Vec::new(),
            extension_providers: Vec::new(),
            default_providers: DefaultProviders::default(),
            default_config: DefaultConfig::default(),
            path_normalization: PathNormalization::default(),
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: String::new(),
            default_http_retry_policy: None,
        }
    }
}

impl MeshConfig {
    /// Parses the text of key `mesh` (YAML or JSON). An empty text gives the defaults.
    pub fn parse(text: &str) -> Result<Self, MeshConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut config: Self =
            serde_saphyr::from_str(text).map_err(|error| MeshConfigError(error.to_string()))?;
        // Istio's rule: certificates cannot hold an `@`.
        config.trust_domain = config.trust_domain.replace('@', ".");
        if config.trust_domain.is_empty() {
            config.trust_domain = Self::default().trust_domain;
        }
        if config.root_namespace.is_empty() {
            config.root_namespace = Self::default().root_namespace;
        }
        Ok(config)
    }

    /// Whether the control plane looks at a namespace with these labels.
    pub fn discovers(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.discovery_selectors.is_empty()
            || self
                .discovery_selectors
                .iter()
                .any(|selector| selector.selects(|key| labels.get(key).map(String::as_str)))
    }
}

impl DiscoverySelector {
    /// Whether it selects something whose labels this looks up.
    pub fn selects<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| label(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| {
                let value = label(&requirement.key);
                let listed = value.is_some_and(|v| requirement.values.iter().any(|r| r == v));
                match requirement.operator {
                    SelectorOperator::In => listed,
                    SelectorOperator::NotIn => !listed,
                    SelectorOperator::Exists => value.is_some(),
                    SelectorOperator::DoesNotExist => value.is_none(),
                }
            })
    }
}
