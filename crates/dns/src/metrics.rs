//! What is counted, in Istio's names.

use std::time::Duration;

use tulle_model::Workload;
use tulle_telemetry::{CounterFamily, HistogramFamily, Registry};

use crate::message::Asked;
use crate::network::Transport;

const LABELS: &[&str] = &[
    "request_query_type",
    "request_protocol",
    "source_canonical_service",
    "source_canonical_revision",
];
const BOUNDS: &[f64] = &[0.0005, 0.001, 0.01, 0.1, 1.0, 5.0];

/// Of all servers of a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: CounterFamily,
    forwarded: CounterFamily,
    failures: CounterFamily,
    durations: HistogramFamily,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counter("istio_dns_requests", "DNS queries", LABELS),
            forwarded: registry.counter(
                "istio_dns_upstream_requests",
                "DNS queries that were forwarded",
                LABELS,
            ),
            failures: registry.counter(
                "istio_dns_upstream_failures",
                "DNS queries that could not be forwarded",
                LABELS,
            ),
            durations: registry.histogram(
                "istio_dns_upstream_request_duration_seconds",
                "How long resolvers take to answer",
                LABELS,
                BOUNDS,
            ),
        }
    }

    pub(crate) fn request(&self, labels: Labels<'_>) {
        self.requests.with(&labels.0).inc();
    }

    pub(crate) fn forwarded(&self, labels: Labels<'_>, took: Duration, failed: bool) {
        self.forwarded.with(&labels.0).inc();
        if failed {
            self.failures.with(&labels.0).inc();
        }
        self.durations.with(&labels.0).observe(took.as_secs_f64());
    }
}

/// Values in the order of [`LABELS`].
#[derive(Clone, Copy)]
pub(crate) struct Labels<'a>([&'a str; 4]);

impl<'a> Labels<'a> {
    pub(crate) fn of(asked: &Asked, transport: Transport, client: Option<&'a Workload>) -> Self {
        let or_unknown =
            |text: Option<&'a str>| text.filter(|t| !t.is_empty()).unwrap_or("unknown");
        Self([
            asked.type_label(),
            transport.as_str(),
            or_unknown(client.map(|c| &*c.canonical_name)),
            or_unknown(client.map(|c| &*c.canonical_revision)),
        ])
    }
}
