//! What of a pod and its namespace decides whether it is enrolled.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use tulle_api::contract::{
    ANNOTATION_BYPASS_INBOUND, ANNOTATION_DNS_CAPTURE, ANNOTATION_REDIRECTION,
    ANNOTATION_REROUTE_INTERFACES, ANNOTATION_SIDECAR_STATUS, ANNOTATION_UNENROLL,
    DATAPLANE_MODE_AMBIENT, DATAPLANE_MODE_NONE, LABEL_DATAPLANE_MODE, REDIRECTION_ENABLED,
};
use tulle_cluster::Key;
use tulle_linux::Redirect;

/// On mirrors of static pods, by the kubelet: the UID that it and the container runtime use.
const ANNOTATION_STATIC_UID: &str = "kubernetes.io/config.hash";

/// The part of a pod that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    /// Namespace and name.
    pub(crate) key: Key,
    /// UID of this incarnation.
    pub(crate) uid: String,
    /// UID under which the container runtime knows it: another one for static pods, whose object is a mirror.
    pub(crate) runtime_uid: String,
    /// Service account, never empty.
    pub(crate) service_account: String,
    /// Addresses from the status or from the CNI result; empty before the pod has any.
    pub(crate) addresses: Vec<IpAddr>,
    /// Shares the node's network.
    pub(crate) host_network: bool,
    /// Succeeded or Failed: its containers have ended for good.
    pub(crate) finished: bool,
    /// Carries the annotation that says it is enrolled.
    pub(crate) annotated: bool,
    mode: Mode,
    sidecar: bool,
    ingress_bypass: bool,
    dns: Option<bool>,
    virtual_interfaces: Vec<String>,
}

/// What a dataplane-mode label says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No label, or a value that is not ours.
    #[default]
    Unset,
    /// Ambient.
    Ambient,
    /// Explicitly nobody.
    None,
}

/// The part of a namespace that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamespaceFacts {
    /// Its label.
    pub(crate) mode: Mode,
    /// Carries [`ANNOTATION_UNENROLL`]; counts on the mesh's own namespace only.
    pub(crate) unenroll: bool,
}

/// Whether it is an MD5 sum as the kubelet writes it. Never the UID of an ordinary pod, which has dashes: whoever may annotate
/// a pod must not get another one enrolled under its identity.
fn is_hash(uid: &str) -> bool {
    uid.len() == 32 && uid.bytes().all(|b| b.is_ascii_hexdigit())
}

impl PodFacts {
    /// `None` for an object without name or UID, which the API server never sends.
    #[must_use]
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let key = Key::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let annotation = |name: &str| {
            meta.annotations
                .as_ref()
                .and_then(|all| all.get(name))
                .map(String::as_str)
        };
        let label = |name: &str| {
            meta.labels
                .as_ref()
                .and_then(|all| all.get(name))
                .map(String::as_str)
        };
        let account = spec
            .and_then(|s| s.service_account_name.as_deref())
            .filter(|name| !name.is_empty());
        Some(Self {
            key,
            uid: meta.uid.clone()?,
            runtime_uid: annotation(ANNOTATION_STATIC_UID)
                .filter(|uid| is_hash(uid))
                .map(str::to_owned)
                .or_else(|| meta.uid.clone())?,
            service_account: account.unwrap_or("default").to_owned(),
            addresses: status.map(addresses).unwrap_or_default(),
            host_network: spec.and_then(|s| s.host_network).unwrap_or(false),
            finished: matches!(
                status.and_then(|s| s.phase.as_deref()),
                Some("Succeeded" | "Failed")
            ),
            annotated: annotation(ANNOTATION_REDIRECTION) == Some(REDIRECTION_ENABLED),
            mode: Mode::of(label(LABEL_DATAPLANE_MODE)),
            sidecar: annotation(ANNOTATION_SIDECAR_STATUS).is_some_and(|value| !value.is_empty()),
            ingress_bypass: annotation(ANNOTATION_BYPASS_INBOUND) == Some("true"),
            dns: annotation(ANNOTATION_DNS_CAPTURE).and_then(|value| value.parse().ok()),
            virtual_interfaces: annotation(ANNOTATION_REROUTE_INTERFACES)
                .map(list)
                .unwrap_or_default(),
        })
    }

    /// Istio's rule: labelled itself, or in a labelled namespace and not opted out; with a network of its own, without a
    /// sidecar, outside the excluded namespaces.
    #[must_use]
    pub(crate) fn eligible(&self, namespace: NamespaceFacts, excluded: &BTreeSet<String>) -> bool {
        let labelled = match self.mode {
            Mode::Ambient => true,
            Mode::None => false,
            Mode::Unset => namespace.mode == Mode::Ambient,
        };
        labelled && !self.host_network && !self.sidecar && !excluded.contains(&*self.key.namespace)
    }

    /// What is captured in this pod, given what the mesh serves.
    #[must_use]
    pub(crate) fn redirect(&self, ipv6: bool, dns: bool) -> Redirect {
        Redirect {
            ipv6,
            // A pod's own word counts, both ways: the node proxy serves every pod that asks.
            dns: self.dns.unwrap_or(dns),
            ingress_bypass: self.ingress_bypass,
            virtual_interfaces: self.virtual_interfaces.clone(),
        }
    }
}

impl NamespaceFacts {
    /// From the object.
    #[must_use]
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let meta = &namespace.metadata;
        let label = meta
            .labels
            .as_ref()
            .and_then(|all| all.get(LABEL_DATAPLANE_MODE));
        let unenroll = meta
            .annotations
            .as_ref()
            .and_then(|all| all.get(ANNOTATION_UNENROLL));
        Self {
            mode: Mode::of(label.map(String::as_str)),
            unenroll: unenroll.is_some_and(|value| value == "true"),
        }
    }
}

impl Mode {
    fn of(label: Option<&str>) -> Self {
        match label {
            Some(DATAPLANE_MODE_AMBIENT) => Self::Ambient,
            Some(DATAPLANE_MODE_NONE) => Self::None,
            _ => Self::Unset,
        }
    }
}

fn addresses(status: &k8s_openapi::api::core::v1::PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut found: Vec<IpAddr> = all
        .chain(status.pod_ip.as_deref())
        .filter_map(|ip| ip.parse().ok())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
