//! What users change about metrics (the Telemetry API): which are shown at all, and under which labels.

use std::sync::Arc;

/// Some of Istio's standard metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetricSet(u16);

#[expect(missing_docs, reason = "the names are Istio's")]
impl MetricSet {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self((1 << 10) - 1);
    pub const REQUEST_COUNT: Self = Self(1);
    pub const REQUEST_DURATION: Self = Self(1 << 1);
    pub const REQUEST_SIZE: Self = Self(1 << 2);
    pub const RESPONSE_SIZE: Self = Self(1 << 3);
    pub const TCP_OPENED: Self = Self(1 << 4);
    pub const TCP_CLOSED: Self = Self(1 << 5);
    pub const TCP_SENT: Self = Self(1 << 6);
    pub const TCP_RECEIVED: Self = Self(1 << 7);
    pub const GRPC_REQUESTS: Self = Self(1 << 8);
    pub const GRPC_RESPONSES: Self = Self(1 << 9);

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of the other are in it.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Default for MetricSet {
    fn default() -> Self {
        Self::ALL
    }
}

/// Changes of the labels of some metrics. What is counted under other changes, or not at all, is not in the set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagEdits {
    /// Where they count.
    pub metrics: MetricSet,
    /// Added, or another value.
    pub upsert: Vec<(Arc<str>, Arc<str>)>,
    /// Left out.
    pub remove: Vec<Arc<str>>,
}

impl TagEdits {
    /// Where changes count that somebody made, or nobody.
    pub(crate) fn shown(edits: Option<&Arc<Self>>) -> MetricSet {
        edits.map_or(MetricSet::ALL, |edits| edits.metrics)
    }

    pub(crate) fn apply<'a>(&'a self, labels: &mut Vec<(&'a str, &'a str)>) {
        labels.retain(|(name, _)| !self.remove.iter().any(|gone| **gone == **name));
        for (name, value) in &self.upsert {
            match labels.iter_mut().find(|(known, _)| **known == **name) {
                Some((_, old)) => *old = value,
                None => labels.push((name, value)),
            }
        }
    }
}
