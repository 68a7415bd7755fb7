//! What a connection is counted under.

use std::sync::Arc;

use tulle_model::{Identity, Service, Workload};

use crate::edits::{MetricSet, TagEdits};

/// Which side of a connection reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// The client's node proxy.
    Source,
    /// The server's node proxy.
    Destination,
    /// A waypoint: one report covers both sides.
    Waypoint,
}

impl Reporter {
    /// Value of the label `reporter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
        }
    }

    /// Value of `direction` in the access log.
    pub fn direction(self) -> &'static str {
        match self {
            Self::Source => "outbound",
            Self::Destination | Self::Waypoint => "inbound",
        }
    }
}

/// Whether a connection is mutually authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecurityPolicy {
    /// Plain TCP.
    Unknown,
    /// An HBONE tunnel.
    MutualTls,
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResponseFlags {
    /// An authorization policy.
    Denied,
    /// The next hop cannot be reached.
    Connect,
    /// The TLS handshake.
    TlsFailure,
    /// The HTTP/2 handshake.
    Http2Handshake,
    /// Connecting timed out as it does when a NetworkPolicy drops port 15008.
    NetworkPolicy,
    /// No certificate, or the wrong one.
    Identity,
    /// The peer's certificate was revoked.
    Revoked,
}

impl ResponseFlags {
    pub(super) const ALL: [Self; 7] = [
        Self::Denied,
        Self::Connect,
        Self::TlsFailure,
        Self::Http2Handshake,
        Self::NetworkPolicy,
        Self::Identity,
        Self::Revoked,
    ];

    /// Value of the label `response_flags`; success is `-`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::Http2Handshake => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::Identity => "IDENTITY_ERROR",
            Self::Revoked => "CERT_REVOKED",
        }
    }
}

/// The two ends of a connection, as the reporter knows them.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionEnds<'a> {
    /// Who reports.
    pub reporter: Reporter,
    /// The client, when the mesh knows it.
    pub source: Option<&'a Arc<Workload>>,
    /// The client's identity, proved by TLS.
    pub source_principal: Option<&'a Identity>,
    /// The server, when the mesh knows it.
    pub destination: Option<&'a Arc<Workload>>,
    /// The service that was addressed.
    pub service: Option<&'a Arc<Service>>,
    /// How it travels.
    pub security: SecurityPolicy,
}

/// The labels of one series, in value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionLabels {
    reporter: Reporter,
    source: Option<WorkloadLabels>,
    source_principal: Option<Identity>,
    destination: Option<WorkloadLabels>,
    service: Option<ServiceLabels>,
    security: SecurityPolicy,
    edits: Option<Arc<TagEdits>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct WorkloadLabels {
    workload: Arc<str>,
    canonical_service: Arc<str>,
    canonical_revision: Arc<str>,
    identity: Identity,
    cluster: Arc<str>,
    region: Arc<str>,
    zone: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ServiceLabels {
    hostname: Arc<str>,
    name: Arc<str>,
    namespace: Arc<str>,
}

impl From<&ConnectionEnds<'_>> for ConnectionLabels {
    fn from(ends: &ConnectionEnds<'_>) -> Self {
        Self {
            reporter: ends.reporter,
            source: ends.source.map(|w| WorkloadLabels::from(&**w)),
            source_principal: ends.source_principal.cloned(),
            destination: ends.destination.map(|w| WorkloadLabels::from(&**w)),
            service: ends.service.map(|s| ServiceLabels {
                hostname: s.hostname.clone(),
                name: s.name.clone(),
                namespace: s.namespace.clone(),
            }),
            security: ends.security,
            edits: None,
        }
    }
}

impl From<&Workload> for WorkloadLabels {
    fn from(workload: &Workload) -> Self {
        Self {
            workload: workload.workload_name.clone(),
            canonical_service: workload.canonical_name.clone(),
            canonical_revision: workload.canonical_revision.clone(),
            identity: workload.identity(),
            cluster: workload.cluster.clone(),
            region: workload.locality.region.clone(),
            zone: workload.locality.zone.clone(),
        }
    }
}

impl ConnectionLabels {
    /// The series that takes what no longer fits.
    pub(super) fn overflow(reporter: Reporter) -> Self {
        Self {
            reporter,
            source: None,
            source_principal: None,
            destination: None,
            service: None,
            security: SecurityPolicy::Unknown,
            edits: None,
        }
    }

    /// The same, changed as users ask.
    pub(super) fn edited(mut self, edits: Arc<TagEdits>) -> Self {
        self.edits = Some(edits);
        self
    }

    pub(super) fn reporter(&self) -> Reporter {
        self.reporter
    }

    /// The metrics that show it.
    pub(super) fn shown(&self) -> MetricSet {
        TagEdits::shown(self.edits.as_ref())
    }

    /// Name and value of each label, in the contract's order, edits applied.
    pub(super) fn encode<'a>(
        &'a self,
        text: &'a PrincipalText,
        flags: &'a str,
    ) -> Vec<(&'a str, &'a str)> {
        let source = self.source.as_ref();
        let destination = self.destination.as_ref();
        let service = self.service.as_ref();
        let mut labels: Vec<(&str, &str)> = vec![
            ("reporter", self.reporter.as_str()),
            ("source_workload", or_unknown(source.map(|w| &w.workload))),
            (
                "source_canonical_service",
                or_unknown(source.map(|w| &w.canonical_service)),
            ),
            (
                "source_canonical_revision",
                or_unknown(source.map(|w| &w.canonical_revision)),
            ),
            (
                "source_workload_namespace",
                or_unknown(source.map(|w| &w.identity.namespace)),
            ),
            (
                "source_principal",
                text.source.as_deref().unwrap_or(UNKNOWN),
            ),
            (
                "source_app",
                or_unknown(source.map(|w| &w.canonical_service)),
            ),
            (
                "source_version",
                or_unknown(source.map(|w| &w.canonical_revision)),
            ),
            ("source_cluster", or_unknown(source.map(|w| &w.cluster))),
            (
                "destination_service",
                or_unknown(service.map(|s| &s.hostname)),
            ),
            (
                "destination_service_namespace",
                or_unknown(service.map(|s| &s.namespace)),
            ),
            (
                "destination_service_name",
                or_unknown(service.map(|s| &s.name)),
            ),
            (
                "destination_workload",
                or_unknown(destination.map(|w| &w.workload)),
            ),
            (
                "destination_canonical_service",
                or_unknown(destination.map(|w| &w.canonical_service)),
            ),
            (
                "destination_canonical_revision",
                or_unknown(destination.map(|w| &w.canonical_revision)),
            ),
            (
                "destination_workload_namespace",
                or_unknown(destination.map(|w| &w.identity.namespace)),
            ),
            (
                "destination_principal",
                text.destination.as_deref().unwrap_or(UNKNOWN),
            ),
            (
                "destination_app",
                or_unknown(destination.map(|w| &w.canonical_service)),
            ),
            (
                "destination_version",
                or_unknown(destination.map(|w| &w.canonical_revision)),
            ),
            (
                "destination_cluster",
                or_unknown(destination.map(|w| &w.cluster)),
            ),
            ("request_protocol", "tcp"),
            ("response_flags", flags),
            ("connection_security_policy", self.security_text()),
        ];
        if source.is_some() || destination.is_some() {
            labels.extend([
                ("source_region", or_unknown(source.map(|w| &w.region))),
                ("source_zone", or_unknown(source.map(|w| &w.zone))),
                (
                    "destination_region",
                    or_unknown(destination.map(|w| &w.region)),
                ),
                ("destination_zone", or_unknown(destination.map(|w| &w.zone))),
            ]);
        }
        if let Some(edits) = &self.edits {
            edits.apply(&mut labels);
        }
        labels
    }

    fn security_text(&self) -> &'static str {
        match self.security {
            SecurityPolicy::Unknown => UNKNOWN,
            SecurityPolicy::MutualTls => "mutual_tls",
        }
    }
}

/// The identities of a series as text, made once per scrape.
pub(super) struct PrincipalText {
    source: Option<String>,
    destination: Option<String>,
}

impl PrincipalText {
    pub(super) fn of(labels: &ConnectionLabels) -> Self {
        Self {
            source: labels.source_principal.as_ref().map(ToString::to_string),
            destination: labels.destination.as_ref().map(|w| w.identity.to_string()),
        }
    }
}

const UNKNOWN: &str = "unknown";

fn or_unknown(value: Option<&Arc<str>>) -> &str {
    match value {
        Some(text) if !text.is_empty() => text,
        _ => UNKNOWN,
    }
}
