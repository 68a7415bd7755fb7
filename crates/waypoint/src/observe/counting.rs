//! In which series something is counted, as users want its labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_policy::expression::Attributes;
use tulle_policy::observe::{Metric, Metrics};
use tulle_telemetry::{MetricSet, TagEdits};

use crate::state::Snapshot;

/// In which series something is counted.
#[derive(Debug, PartialEq)]
pub(crate) enum Counting {
    /// As it is.
    Plain,
    /// Once for each of these; none counts nothing.
    Edited(Vec<Arc<TagEdits>>),
}

/// Metrics of requests.
pub(super) const REQUESTS: [(Metric, MetricSet); 6] = [
    (Metric::RequestCount, MetricSet::REQUEST_COUNT),
    (Metric::RequestDuration, MetricSet::REQUEST_DURATION),
    (Metric::RequestSize, MetricSet::REQUEST_SIZE),
    (Metric::ResponseSize, MetricSet::RESPONSE_SIZE),
    (Metric::GrpcRequestMessages, MetricSet::GRPC_REQUESTS),
    (Metric::GrpcResponseMessages, MetricSet::GRPC_RESPONSES),
];
/// Metrics of connections.
pub(super) const CONNECTIONS: [(Metric, MetricSet); 4] = [
    (Metric::TcpOpenedConnections, MetricSet::TCP_OPENED),
    (Metric::TcpClosedConnections, MetricSet::TCP_CLOSED),
    (Metric::TcpSentBytes, MetricSet::TCP_SENT),
    (Metric::TcpReceivedBytes, MetricSet::TCP_RECEIVED),
];

type Tags = BTreeMap<Arc<str>, Option<Arc<str>>>;

/// What users changed about `of`, evaluated.
pub(super) fn counting(
    metrics: &Metrics,
    of: &[(Metric, MetricSet)],
    snapshot: &Snapshot,
    seen: &dyn Attributes,
) -> Counting {
    static AS_THEY_ARE: Tags = Tags::new();
    if metrics.disabled {
        return Counting::Edited(Vec::new());
    }
    let changes = |metric: &Metric| {
        let changed = metrics.overrides.get(metric);
        changed.filter(|c| c.disabled || !c.tags.is_empty())
    };
    if of.iter().all(|(metric, _)| changes(metric).is_none()) {
        return Counting::Plain;
    }
    // Metrics with the same changes share a series.
    let mut groups: Vec<(&Tags, MetricSet)> = Vec::new();
    for (metric, set) in of {
        let tags = match changes(metric) {
            Some(changed) if changed.disabled => continue,
            Some(changed) => &changed.tags,
            None => &AS_THEY_ARE,
        };
        match groups.iter_mut().find(|(known, _)| *known == tags) {
            Some((_, all)) => *all = all.with(*set),
            None => groups.push((tags, *set)),
        }
    }
    let edits = groups
        .into_iter()
        .map(|(tags, metrics)| Arc::new(edits(tags, metrics, snapshot, seen)));
    Counting::Edited(edits.collect())
}

fn edits(tags: &Tags, metrics: MetricSet, snapshot: &Snapshot, seen: &dyn Attributes) -> TagEdits {
    let mut edits = TagEdits {
        metrics,
        ..TagEdits::default()
    };
    for (tag, value) in tags {
        match value {
            None => edits.remove.push(tag.clone()),
            Some(expression) => {
                let found = snapshot.expressions.get(expression);
                let value = found.and_then(|e| e.value(seen));
                let text = value.map_or_else(|| "unknown".to_owned(), |v| v.to_string());
                edits.upsert.push((tag.clone(), text.into()));
            }
        }
    }
    edits
}

#[cfg(test)]
mod tests;
