//! What a request is counted under.

use std::sync::Arc;

use tulle_model::{Identity, Service, Workload};

use super::flags::Flags;
use crate::connections::Reporter;
use crate::edits::{MetricSet, TagEdits};

/// What a request is, to metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum RequestProtocol {
    Http,
    Grpc,
}

/// Whether a request came mutually authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestSecurity {
    /// In an HBONE tunnel.
    MutualTls,
    /// In clear.
    None,
    /// The reporter cannot tell (gateways).
    Unknown,
}

/// The two ends of a request, as the reporter knows them.
#[derive(Clone, Copy, Debug)]
pub struct RequestEnds<'a> {
    /// Who reports.
    pub reporter: Reporter,
    /// The client, when the mesh knows it.
    pub source: Option<&'a Arc<Workload>>,
    /// The client's identity, proved by TLS.
    pub source_principal: Option<&'a Identity>,
    /// The endpoint, when there is one that the mesh knows.
    pub destination: Option<&'a Arc<Workload>>,
    /// The endpoint's identity, when TLS proved it.
    pub destination_principal: Option<&'a Identity>,
    /// The service that was addressed.
    pub service: Option<&'a Arc<Service>>,
    /// Instead of a service's name: a host that is none (`PassthroughCluster`, `BlackHoleCluster`).
    pub special: Option<&'static str>,
    /// What it is.
    pub protocol: RequestProtocol,
    /// How it came.
    pub security: RequestSecurity,
    /// What users changed about the labels, and for which metrics.
    pub edits: Option<&'a Arc<TagEdits>>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome {
    /// HTTP status; 0 when there was no answer.
    pub code: u16,
    /// `grpc-status`, when there was one.
    pub grpc_status: Option<u32>,
    /// What happened on the way.
    pub flags: Flags,
}

/// The labels of one series, in value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RequestLabels {
    reporter: Reporter,
    source: Option<WorkloadLabels>,
    source_principal: Option<Identity>,
    destination: Option<WorkloadLabels>,
    destination_principal: Option<Identity>,
    service: Option<[Arc<str>; 3]>,
    special: Option<&'static str>,
    protocol: RequestProtocol,
    security: RequestSecurity,
    edits: Option<Arc<TagEdits>>,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct WorkloadLabels {
    workload: Arc<str>,
    namespace: Arc<str>,
    canonical_service: Arc<str>,
    canonical_revision: Arc<str>,
    cluster: Arc<str>,
}

impl From<&Arc<Workload>> for WorkloadLabels {
    fn from(workload: &Arc<Workload>) -> Self {
        Self {
            workload: workload.workload_name.clone(),
            namespace: workload.namespace.clone(),
            canonical_service: workload.canonical_name.clone(),
            canonical_revision: workload.canonical_revision.clone(),
            cluster: workload.cluster.clone(),
        }
    }
}

impl RequestLabels {
    pub(super) fn new(ends: &RequestEnds<'_>, outcome: Outcome) -> Self {
        Self {
            reporter: ends.reporter,
            source: ends.source.map(WorkloadLabels::from),
            source_principal: ends.source_principal.cloned(),
            destination: ends.destination.map(WorkloadLabels::from),
            destination_principal: ends.destination_principal.cloned(),
            service: ends
                .service
                .map(|s| [s.hostname.clone(), s.name.clone(), s.namespace.clone()]),
            special: ends.special,
            protocol: ends.protocol,
            security: ends.security,
            edits: ends.edits.cloned(),
            outcome,
        }
    }

    /// The series that takes what no longer fits.
    pub(super) fn overflow(reporter: Reporter) -> Self {
        Self {
            reporter,
            source: None,
            source_principal: None,
            destination: None,
            destination_principal: None,
            service: None,
            special: Some("overflow"),
            protocol: RequestProtocol::Http,
            security: RequestSecurity::Unknown,
            edits: None,
            outcome: Outcome::default(),
        }
    }

    /// The metrics that show it.
    pub(super) fn shown(&self) -> MetricSet {
        TagEdits::shown(self.edits.as_ref())
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.protocol == RequestProtocol::Grpc
    }

    /// Texts that labels are made of, once per scrape.
    pub(super) fn texts(&self) -> Texts {
        let name = |identity: &Option<Identity>| match identity {
            Some(identity) => identity.to_string(),
            None => UNKNOWN.to_owned(),
        };
        Texts {
            source_principal: name(&self.source_principal),
            destination_principal: name(&self.destination_principal),
            code: self.outcome.code.to_string(),
            grpc: match (self.protocol, self.outcome.grpc_status) {
                (RequestProtocol::Grpc, Some(status)) => status.to_string(),
                _ => String::new(),
            },
            flags: self.outcome.flags.to_string(),
        }
    }

    /// Name and value of each label, in the contract's order, edits applied.
    pub(super) fn encode<'a>(&'a self, texts: &'a Texts) -> Vec<(&'a str, &'a str)> {
        let mut labels: Vec<(&str, &str)> = Vec::with_capacity(28);
        labels.push(("reporter", self.reporter.as_str()));
        push_workload(
            &mut labels,
            SOURCE,
            self.source.as_ref(),
            &texts.source_principal,
        );
        push_workload(
            &mut labels,
            DESTINATION,
            self.destination.as_ref(),
            &texts.destination_principal,
        );
        let [hostname, name, namespace] = match (&self.service, self.special) {
            (Some([hostname, name, namespace]), _) => [&**hostname, &**name, &**namespace],
            (None, Some(special)) => [special, special, UNKNOWN],
            (None, None) => [UNKNOWN; 3],
        };
        labels.extend([
            ("destination_service", hostname),
            ("destination_service_name", name),
            ("destination_service_namespace", namespace),
            ("request_protocol", self.protocol_text()),
            ("response_code", &texts.code),
            ("grpc_response_status", &texts.grpc),
            ("response_flags", &texts.flags),
            ("connection_security_policy", self.security_text()),
        ]);
        if let Some(edits) = &self.edits {
            edits.apply(&mut labels);
        }
        labels
    }

    fn protocol_text(&self) -> &'static str {
        match self.protocol {
            RequestProtocol::Http => "http",
            RequestProtocol::Grpc => "grpc",
        }
    }

    fn security_text(&self) -> &'static str {
        match self.security {
            RequestSecurity::MutualTls => "mutual_tls",
            RequestSecurity::None => "none",
            RequestSecurity::Unknown => UNKNOWN,
        }
    }
}

/// Values that are not text in [`RequestLabels`].
pub(super) struct Texts {
    source_principal: String,
    destination_principal: String,
    code: String,
    grpc: String,
    flags: String,
}

const SOURCE: [&str; 8] = [
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
];
const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
];

fn push_workload<'a>(
    labels: &mut Vec<(&'a str, &'a str)>,
    names: [&'static str; 8],
    workload: Option<&'a WorkloadLabels>,
    principal: &'a str,
) {
    let service = or(workload.map(|w| &w.canonical_service), UNKNOWN);
    let revision = or(workload.map(|w| &w.canonical_revision), "latest");
    let values = [
        or(workload.map(|w| &w.workload), UNKNOWN),
        service,
        revision,
        or(workload.map(|w| &w.namespace), UNKNOWN),
        principal,
        service,
        if workload.is_some() {
            revision
        } else {
            UNKNOWN
        },
        or(workload.map(|w| &w.cluster), UNKNOWN),
    ];
    labels.extend(names.into_iter().zip(values));
}

const UNKNOWN: &str = "unknown";

fn or<'a>(value: Option<&'a Arc<str>>, otherwise: &'static str) -> &'a str {
    match value {
        Some(text) if !text.is_empty() => text,
        _ => otherwise,
    }
}
