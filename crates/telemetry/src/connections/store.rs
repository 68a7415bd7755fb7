//! What a scrape reads.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::labels::{ConnectionLabels, PrincipalText, Reporter, ResponseFlags};
use super::shard::{ConnectionSeries, Shard, Sockets};
use crate::edits::MetricSet;
use crate::limits::SERIES_IDLE;
use crate::registry::{Encoder, Registry};

/// The connection metrics of a process: makes shards, and adds them up for a scrape.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    shards: Mutex<Vec<Arc<ShardStore>>>,
    retired: Mutex<BTreeMap<Arc<ConnectionLabels>, Retired>>,
    overflowed: AtomicU64,
}

/// The scraper's view of one shard. Locked when a series comes or goes and at a scrape, never to count.
#[derive(Debug)]
pub(super) struct ShardStore {
    all: Arc<Inner>,
    series: Mutex<BTreeMap<Arc<ConnectionLabels>, Arc<ConnectionSeries>>>,
    sockets: Sockets,
}

/// What shards counted before they forgot a series: another shard may still count it, and a sum must not shrink.
#[derive(Debug)]
struct Retired {
    totals: Totals,
    at: Instant,
}

#[derive(Clone, Debug, Default)]
struct Totals {
    opened: u64,
    closed: u64,
    received: u64,
    sent: u64,
    failed: [u64; ResponseFlags::ALL.len()],
}

impl Totals {
    fn add(&mut self, series: &ConnectionSeries) {
        self.opened += series.opened.load(Relaxed);
        self.closed += series.closed.load(Relaxed);
        self.received += series.received.load(Relaxed);
        self.sent += series.sent.load(Relaxed);
        for (sum, counter) in self.failed.iter_mut().zip(&series.failed) {
            *sum += counter.load(Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ShardStore {
    pub(super) fn add(&self, labels: Arc<ConnectionLabels>, series: Arc<ConnectionSeries>) {
        lock(&self.series).insert(labels, series);
    }

    pub(super) fn sockets(&self, reporter: Reporter) -> &AtomicI64 {
        self.sockets.of(reporter)
    }

    pub(super) fn overflowed(&self) {
        self.all.overflowed.fetch_add(1, Relaxed);
    }

    pub(super) fn retire(&self, gone: &[Arc<ConnectionLabels>]) {
        // One lock after the other, in the order of a scrape.
        let mut retired = lock(&self.all.retired);
        let mut series = lock(&self.series);
        for labels in gone {
            let Some(old) = series.remove(labels) else {
                continue;
            };
            let entry = retired.entry(labels.clone()).or_insert_with(|| Retired {
                totals: Totals::default(),
                at: Instant::now(),
            });
            entry.totals.add(&old);
            entry.at = Instant::now();
        }
    }
}

impl ConnectionMetrics {
    /// Adds the connection families to `registry`.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self::default();
        let reader = metrics.clone();
        registry.collector(move |out| reader.encode(out));
        metrics
    }

    /// A shard for one worker.
    pub fn shard(&self) -> Shard {
        let store = Arc::new(ShardStore {
            all: self.inner.clone(),
            series: Mutex::default(),
            sockets: Sockets::default(),
        });
        lock(&self.inner.shards).push(store.clone());
        Shard::new(store)
    }

    fn encode(&self, out: &mut Encoder) {
        let sums = self.sums();
        let texts: Vec<PrincipalText> = sums.keys().map(|l| PrincipalText::of(l)).collect();
        let rows = Rows(
            sums.iter()
                .zip(&texts)
                .map(|((l, t), text)| (&**l, t, text))
                .collect(),
        );
        let family = |out: &mut Encoder, name: &str, help: &str, values: Values<'_>| {
            out.describe(name, "counter", help);
            for (labels, value) in values {
                out.sample(name, "_total", &labels, value as f64);
            }
        };
        let opened = rows.values(MetricSet::TCP_OPENED, |t| t.opened);
        family(
            out,
            "istio_tcp_connections_opened",
            "TCP connections opened",
            opened,
        );
        let mut closed = rows.values(MetricSet::TCP_CLOSED, |t| t.closed);
        closed.extend(rows.failures());
        family(
            out,
            "istio_tcp_connections_closed",
            "TCP connections closed",
            closed,
        );
        family(
            out,
            "istio_tcp_connections_failed",
            "TCP connections that failed, or were refused or cut",
            rows.failures(),
        );
        family(
            out,
            "istio_tcp_received_bytes",
            "Bytes from client to server",
            rows.values(MetricSet::TCP_RECEIVED, |t| t.received),
        );
        family(
            out,
            "istio_tcp_sent_bytes",
            "Bytes from server to client",
            rows.values(MetricSet::TCP_SENT, |t| t.sent),
        );
        self.encode_sockets(out);
        let name = "tulle_connection_series_overflowed";
        out.describe(
            name,
            "counter",
            "Connections counted in the overflow series",
        );
        let overflowed = self.inner.overflowed.load(Relaxed);
        out.sample(name, "_total", &[], overflowed as f64);
    }

    fn encode_sockets(&self, out: &mut Encoder) {
        let name = "istio_tcp_sockets_open";
        out.describe(name, "gauge", "Open TCP sockets");
        for reporter in [Reporter::Source, Reporter::Destination, Reporter::Waypoint] {
            let open: i64 = lock(&self.inner.shards)
                .iter()
                .map(|s| s.sockets(reporter).load(Relaxed))
                .sum();
            if reporter == Reporter::Waypoint && open == 0 {
                // Not a waypoint.
                continue;
            }
            out.sample(name, "", &[("reporter", reporter.as_str())], open as f64);
        }
    }

    /// The sum over all shards; drops what no shard has counted for long.
    fn sums(&self) -> BTreeMap<Arc<ConnectionLabels>, Totals> {
        let mut retired = lock(&self.inner.retired);
        let shards = lock(&self.inner.shards);
        let mut sums: BTreeMap<Arc<ConnectionLabels>, Totals> = BTreeMap::new();
        for shard in shards.iter() {
            for (labels, series) in lock(&shard.series).iter() {
                sums.entry(labels.clone()).or_default().add(series);
            }
        }
        let live: HashSet<Arc<ConnectionLabels>> = sums.keys().cloned().collect();
        retired.retain(|labels, old| live.contains(labels) || old.at.elapsed() < SERIES_IDLE);
        for (labels, old) in retired.iter() {
            let sum = sums.entry(labels.clone()).or_default();
            sum.opened += old.totals.opened;
            sum.closed += old.totals.closed;
            sum.received += old.totals.received;
            sum.sent += old.totals.sent;
            for (a, b) in sum.failed.iter_mut().zip(old.totals.failed) {
                *a += b;
            }
        }
        sums
    }
}

/// What a scrape shows of each series.
struct Rows<'a>(Vec<(&'a ConnectionLabels, &'a Totals, &'a PrincipalText)>);

/// By labels as they are shown: of two series that differ only in a label that users took away, one is left.
type Values<'a> = BTreeMap<Vec<(&'a str, &'a str)>, u64>;

impl<'a> Rows<'a> {
    fn values(&self, metric: MetricSet, value: fn(&Totals) -> u64) -> Values<'a> {
        let mut values = Values::new();
        for (labels, totals, text) in &self.0 {
            if labels.shown().has(metric) {
                *values.entry(labels.encode(text, "-")).or_default() += value(totals);
            }
        }
        values
    }

    /// By flag. They are shown where closed connections are.
    fn failures(&self) -> Values<'a> {
        let mut values = Values::new();
        let shown = self.0.iter();
        for (labels, totals, text) in shown.filter(|(l, ..)| l.shown().has(MetricSet::TCP_CLOSED)) {
            let failed = ResponseFlags::ALL.iter().zip(totals.failed);
            for (flag, count) in failed.filter(|(_, count)| *count > 0) {
                *values
                    .entry(labels.encode(text, flag.as_str()))
                    .or_default() += count;
            }
        }
        values
    }
}
