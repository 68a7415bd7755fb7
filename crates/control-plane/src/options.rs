//! How the control plane is told where it is and what to do: istiod's environment names.

use std::path::PathBuf;

use tulle_api::contract;

use crate::deployer::Template;

/// istiod's own pages for people ("ControlZ") have this port.
const PORT_LOCAL: u16 = 9876;

/// Everything that is set from outside.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kubeconfig, for runs outside of a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// `POD_NAMESPACE`: where the control plane and its Secrets live.
    pub namespace: String,
    /// `POD_NAME`: tells replicas apart.
    pub pod_name: String,
    /// `CLUSTER_ID`: part of workload UIDs.
    pub cluster_id: String,
    /// `REVISION`.
    pub revision: String,
    /// `PILOT_CERT_PROVIDER`-independent: DNS suffix of the cluster (`DNS_DOMAIN`).
    pub domain: String,
    /// `CA_TRUSTED_NODE_ACCOUNTS`: `namespace/account` of those who may ask for certificates of
    /// pods on their own node.
    pub trusted_node_accounts: Vec<(String, String)>,
    /// `ISTIOD_CUSTOM_HOST`: more DNS names for the certificate on 15012.
    pub custom_hosts: Vec<String>,
    /// `PROXY_TEMPLATE`: how waypoints and gateways are deployed, as JSON. Without an image, they are not.
    pub template: Template,
    /// Where to listen.
    pub ports: Ports,
}

/// Ports; 0 lets the kernel choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Discovery and CA over TLS.
    pub xds: u16,
    /// Discovery in plaintext, for what is inside the cluster's own trust.
    pub xds_plain: u16,
    /// Metrics and version.
    pub metrics: u16,
    /// Readiness and metrics.
    pub debug: u16,
    /// Webhooks over TLS.
    pub webhook: u16,
    /// What neighbours must not see or change, on 127.0.0.1 only (`kubectl port-forward` reaches
    /// it): debug pages and log levels.
    pub local: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            xds: contract::PORT_XDS,
            xds_plain: contract::PORT_XDS_PLAIN,
            metrics: contract::PORT_CONTROL_PLANE_METRICS,
            debug: contract::PORT_DEBUG,
            webhook: contract::PORT_WEBHOOK,
            local: PORT_LOCAL,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            namespace: contract::SYSTEM_NAMESPACE.to_owned(),
            pod_name: contract::CONTROL_PLANE.to_owned(),
            cluster_id: contract::CLUSTER_ID.to_owned(),
            revision: "default".to_owned(),
            domain: contract::CLUSTER_DOMAIN.to_owned(),
            trusted_node_accounts: vec![(
                contract::SYSTEM_NAMESPACE.to_owned(),
                contract::ZTUNNEL.to_owned(),
            )],
            custom_hosts: Vec::new(),
            template: Template::default(),
            ports: Ports::default(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{name}={value:?} cannot be used: {why}")]
pub struct OptionsError {
    /// Name of the variable.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong, and what is expected.
    pub why: &'static str,
}

impl Options {
    /// Reads the environment through `get`; what is not set keeps its default.
    ///
    /// # Errors
    /// If a value cannot be used.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let set = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let replace = |field: &mut String, name: &str| {
            if let Some(value) = set(name) {
                *field = value.trim().to_owned();
            }
        };
        replace(&mut options.namespace, "POD_NAMESPACE");
        replace(&mut options.pod_name, "POD_NAME");
        replace(&mut options.cluster_id, "CLUSTER_ID");
        replace(&mut options.revision, "REVISION");
        replace(&mut options.domain, "DNS_DOMAIN");
        if let Some(value) = set("CA_TRUSTED_NODE_ACCOUNTS") {
            options.trusted_node_accounts = accounts(&value)?;
        }
        if let Some(value) = set("ISTIOD_CUSTOM_HOST") {
            options.custom_hosts = list(&value).map(str::to_owned).collect();
        }
        if let Some(value) = set("PROXY_TEMPLATE") {
            options.template = serde_json::from_str(&value).map_err(|_| OptionsError {
                name: "PROXY_TEMPLATE",
                value: value.chars().take(256).collect(),
                why: "JSON with image, resources and the like is expected, as `tulle install` writes it",
            })?;
        }
        Ok(options)
    }

    /// Names under which proxies reach port 15012.
    pub(crate) fn serving_names(&self) -> Vec<String> {
        let (service, namespace) = (contract::CONTROL_PLANE, &self.namespace);
        let mut services = vec![service.to_owned()];
        if self.revision != "default" {
            services.push(format!("{service}-{}", self.revision));
        }
        let mut names = Vec::new();
        for service in services {
            names.push(format!("{service}.{namespace}.svc"));
            names.push(format!("{service}.{namespace}"));
            names.push(format!("{service}.{namespace}.svc.{}", self.domain));
        }
        names.extend(self.custom_hosts.iter().cloned());
        names
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn accounts(value: &str) -> Result<Vec<(String, String)>, OptionsError> {
    list(value)
        .map(|account| match account.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok((namespace.to_owned(), name.to_owned()))
            }
            _ => Err(OptionsError {
                name: "CA_TRUSTED_NODE_ACCOUNTS",
                value: value.to_owned(),
                why: "a comma-separated list of <namespace>/<service account> is expected",
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests;
