//! A proxy's own Gateway.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::HostPattern;

/// What a waypoint or gateway listens on. Named `namespace/name` on the wire; sent to its own proxies only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Kubernetes name.
    pub name: Arc<str>,
    /// Waypoint or gateway.
    pub role: Role,
    /// Its listeners, those of ListenerSets included.
    pub listeners: Vec<Listener>,
    /// Name of the [`Certificate`] that is presented to TLS backends (`spec.tls.backend`).
    #[serde(default)]
    pub backend_certificate: Option<Arc<str>>,
    /// Applications behind a waypoint are told who the client is (`x-forwarded-client-cert`).
    #[serde(default)]
    pub client_identity: bool,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Role {
    /// In front of services, of workloads, or of both (`istio.io/waypoint-for`).
    Waypoint {
        /// Traffic that is addressed to a service.
        services: bool,
        /// Traffic that is addressed to a workload.
        workloads: bool,
    },
    /// Ingress or egress.
    Gateway,
}

/// One port and protocol, with a host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Name of the section, unique in its Gateway.
    pub name: Arc<str>,
    /// Where the proxy listens (the target port of its Service).
    pub port: u16,
    /// The port that clients use, when it is another one.
    pub service_port: u16,
    /// Only this host; `None` is any.
    pub hostname: Option<HostPattern>,
    /// What is spoken.
    pub protocol: Protocol,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Protocol {
    /// A waypoint's: CONNECT in mTLS.
    Hbone,
    /// HTTP/1.1 and HTTP/2 in clear.
    Http,
    /// HTTP over TLS that ends here.
    Https(Termination),
    /// Any bytes over TLS that ends here.
    Tls(Termination),
    /// TLS that ends elsewhere: routed by SNI.
    Passthrough,
    /// Any bytes.
    Tcp,
}

/// How TLS ends here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Termination {
    /// Names of [`Certificate`] resources; the first that fits the SNI serves.
    pub certificates: Vec<Arc<str>>,
    /// Whether clients must show a certificate.
    pub client: ClientValidation,
    /// The lowest version that is accepted.
    pub minimum: TlsVersion,
    /// The highest.
    pub maximum: TlsVersion,
}

/// Versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// Client certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ClientValidation {
    /// Not asked for.
    #[default]
    None,
    /// Asked for; verified if there is one; roots in PEM.
    Optional {
        /// PEM.
        roots: Arc<str>,
    },
    /// Must be there and verify.
    Required {
        /// PEM.
        roots: Arc<str>,
        /// One of these DNS or URI names must be in it; empty for any.
        names: Vec<Arc<str>>,
    },
    /// Asked for, not verified, passed on (`AllowInsecureFallback`).
    Unverified,
}

/// A certificate with its key, from a Secret. Sent only to proxies whose Gateway (or DestinationRule) names it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// `namespace/name` of the Secret.
    pub name: Arc<str>,
    /// Leaf first, PEM.
    pub chain: Arc<str>,
    /// PEM.
    pub key: Arc<str>,
    /// Roots in PEM, when the Secret has them (`ca.crt`).
    pub roots: Option<Arc<str>>,
}

impl std::fmt::Debug for Certificate {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
