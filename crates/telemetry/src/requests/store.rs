//! What a scrape reads.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::labels::{RequestLabels, Texts};
use super::series::{BOUNDS, Distribution, RequestSeries};
use super::shard::RequestShard;
use crate::edits::MetricSet;
use crate::limits::SERIES_IDLE;
use crate::registry::{Encoder, Registry};

/// The request metrics of a process: makes shards, and adds them up for a scrape.
#[derive(Clone, Debug, Default)]
pub struct RequestMetrics {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    shards: Mutex<Vec<Arc<ShardStore>>>,
    /// What shards counted before they forgot a series: another shard may still count it, and a sum must not shrink.
    retired: Mutex<BTreeMap<Arc<RequestLabels>, (RequestSeries, Instant)>>,
    overflowed: AtomicU64,
}

/// The scraper's view of one shard. Locked when a series comes or goes and at a scrape, never to count.
#[derive(Debug)]
pub(super) struct ShardStore {
    all: Arc<Inner>,
    series: Mutex<BTreeMap<Arc<RequestLabels>, Arc<RequestSeries>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShardStore {
    pub(super) fn add(&self, labels: Arc<RequestLabels>, series: Arc<RequestSeries>) {
        lock(&self.series).insert(labels, series);
    }

    pub(super) fn overflowed(&self) {
        self.all.overflowed.fetch_add(1, Relaxed);
    }

    pub(super) fn retire(&self, gone: &[Arc<RequestLabels>]) {
        // One lock after the other, in the order of a scrape.
        let mut retired = lock(&self.all.retired);
        let mut series = lock(&self.series);
        for labels in gone {
            let Some(old) = series.remove(labels) else {
                continue;
            };
            let (sum, at) = retired
                .entry(labels.clone())
                .or_insert_with(|| (RequestSeries::default(), Instant::now()));
            sum.add(&old);
            *at = Instant::now();
        }
    }
}

impl RequestMetrics {
    /// Adds the request families to `registry`.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self::default();
        let reader = metrics.clone();
        registry.collector(move |out| reader.encode(out));
        metrics
    }

    /// A shard for one worker.
    pub fn shard(&self) -> RequestShard {
        let store = Arc::new(ShardStore {
            all: self.inner.clone(),
            series: Mutex::default(),
        });
        lock(&self.inner.shards).push(store.clone());
        RequestShard::new(store)
    }

    fn encode(&self, out: &mut Encoder) {
        let sums = self.sums();
        let texts: Vec<Texts> = sums.keys().map(|labels| labels.texts()).collect();
        let rows: Vec<Row<'_>> = sums
            .iter()
            .zip(&texts)
            .map(|((labels, series), texts)| Row {
                labels: labels.encode(texts),
                series,
                shown: labels.shown(),
                grpc: labels.is_grpc(),
            })
            .collect();
        let of = |metric: MetricSet| grouped(rows.iter().filter(move |row| row.shown.has(metric)));
        let grpc = |metric: MetricSet| {
            grouped(
                rows.iter()
                    .filter(move |row| row.grpc && row.shown.has(metric)),
            )
        };
        counter(
            out,
            ("istio_requests", "Requests"),
            of(MetricSet::REQUEST_COUNT),
            |s| &s.requests,
        );
        histogram(
            out,
            (
                "istio_request_duration_milliseconds",
                "Duration of requests",
            ),
            of(MetricSet::REQUEST_DURATION),
            |s| &s.duration,
        );
        histogram(
            out,
            ("istio_request_bytes", "Sizes of requests"),
            of(MetricSet::REQUEST_SIZE),
            |s| &s.request_bytes,
        );
        histogram(
            out,
            ("istio_response_bytes", "Sizes of responses"),
            of(MetricSet::RESPONSE_SIZE),
            |s| &s.response_bytes,
        );
        counter(
            out,
            ("istio_request_messages", "gRPC messages from clients"),
            grpc(MetricSet::GRPC_REQUESTS),
            |s| &s.request_messages,
        );
        counter(
            out,
            ("istio_response_messages", "gRPC messages from servers"),
            grpc(MetricSet::GRPC_RESPONSES),
            |s| &s.response_messages,
        );
        let name = "tulle_request_series_overflowed";
        out.describe(name, "counter", "Requests counted in the overflow series");
        let overflowed = self.inner.overflowed.load(Relaxed);
        out.sample(name, "_total", &[], overflowed as f64);
    }

    /// The sum over all shards; drops what no shard has counted for long.
    fn sums(&self) -> BTreeMap<Arc<RequestLabels>, RequestSeries> {
        let mut retired = lock(&self.inner.retired);
        let shards = lock(&self.inner.shards);
        let mut sums: BTreeMap<Arc<RequestLabels>, RequestSeries> = BTreeMap::new();
        for shard in shards.iter() {
            for (labels, series) in lock(&shard.series).iter() {
                sums.entry(labels.clone()).or_default().add(series);
            }
        }
        let live: HashSet<Arc<RequestLabels>> = sums.keys().cloned().collect();
        retired.retain(|labels, (_, at)| live.contains(labels) || at.elapsed() < SERIES_IDLE);
        for (labels, (old, _)) in retired.iter() {
            sums.entry(labels.clone()).or_default().add(old);
        }
        sums
    }
}

struct Row<'a> {
    labels: Vec<(&'a str, &'a str)>,
    series: &'a RequestSeries,
    shown: MetricSet,
    grpc: bool,
}

/// Series by their labels as they are shown: of two that differ only in a label that users took away, one is left.
type Grouped<'r> = BTreeMap<&'r [(&'r str, &'r str)], Vec<&'r RequestSeries>>;

fn grouped<'r>(rows: impl Iterator<Item = &'r Row<'r>>) -> Grouped<'r> {
    let mut grouped = Grouped::new();
    for row in rows {
        grouped.entry(&row.labels).or_default().push(row.series);
    }
    grouped
}

/// Name and what it counts.
type Family = (&'static str, &'static str);

fn counter(
    out: &mut Encoder,
    (name, help): Family,
    rows: Grouped<'_>,
    value: fn(&RequestSeries) -> &AtomicU64,
) {
    if rows.is_empty() {
        return;
    }
    out.describe(name, "counter", help);
    for (labels, series) in rows {
        let sum: u64 = series.iter().map(|s| value(s).load(Relaxed)).sum();
        out.sample(name, "_total", labels, sum as f64);
    }
}

fn histogram(
    out: &mut Encoder,
    (name, help): Family,
    rows: Grouped<'_>,
    of: fn(&RequestSeries) -> &Distribution,
) {
    if rows.is_empty() {
        return;
    }
    out.describe(name, "histogram", help);
    let bounds = BOUNDS.map(|bound| bound.to_string());
    for (labels, series) in rows {
        let sum = Distribution::default();
        series.iter().for_each(|s| sum.add(of(s)));
        let (below, count, sum) = sum.read();
        let mut labels = labels.to_vec();
        for (bound, below) in bounds.iter().zip(below) {
            labels.push(("le", bound));
            out.sample(name, "_bucket", &labels, below as f64);
            labels.pop();
        }
        labels.push(("le", "+Inf"));
        out.sample(name, "_bucket", &labels, count as f64);
        labels.pop();
        out.sample(name, "_sum", &labels, sum);
        out.sample(name, "_count", &labels, count as f64);
    }
}
