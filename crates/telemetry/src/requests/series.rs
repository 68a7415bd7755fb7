//! The counters of one set of labels.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of all three histograms, Envoy's: milliseconds and bytes alike.
pub(super) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// How values are distributed; the last bucket is `+Inf`.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In thousandths.
    sum: AtomicU64,
}

impl Distribution {
    fn observe(&self, thousandths: u64) {
        let value = thousandths as f64 / 1000.0;
        let at = BOUNDS.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(thousandths, Relaxed);
    }

    pub(super) fn add(&self, other: &Self) {
        for (to, from) in self.buckets.iter().zip(&other.buckets) {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
        self.sum.fetch_add(other.sum.load(Relaxed), Relaxed);
    }

    /// Counts up to each bound, all of them, and the sum.
    pub(super) fn read(&self) -> ([u64; BOUNDS.len()], u64, f64) {
        let mut below = [0; BOUNDS.len()];
        let mut running = 0;
        for (to, bucket) in below.iter_mut().zip(&self.buckets) {
            running += bucket.load(Relaxed);
            *to = running;
        }
        let beyond = self.buckets.last().map_or(0, |b| b.load(Relaxed));
        (
            below,
            running + beyond,
            self.sum.load(Relaxed) as f64 / 1000.0,
        )
    }
}

/// Requests with one set of labels, in one shard.
#[derive(Debug, Default)]
pub struct RequestSeries {
    pub(super) requests: AtomicU64,
    pub(super) duration: Distribution,
    pub(super) request_bytes: Distribution,
    pub(super) response_bytes: Distribution,
    pub(super) request_messages: AtomicU64,
    pub(super) response_messages: AtomicU64,
    /// Milliseconds since the shard began.
    pub(super) touched: AtomicU64,
}

impl RequestSeries {
    /// A request ended.
    pub fn request(&self, duration: Duration, request_bytes: u64, response_bytes: u64) {
        self.requests.fetch_add(1, Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.duration.observe(micros);
        self.request_bytes
            .observe(request_bytes.saturating_mul(1000));
        self.response_bytes
            .observe(response_bytes.saturating_mul(1000));
    }

    /// Messages of gRPC that moved since the last call.
    pub fn messages(&self, requests: u64, responses: u64) {
        self.request_messages.fetch_add(requests, Relaxed);
        self.response_messages.fetch_add(responses, Relaxed);
    }

    pub(super) fn add(&self, other: &Self) {
        let sums = [
            (&self.requests, &other.requests),
            (&self.request_messages, &other.request_messages),
            (&self.response_messages, &other.response_messages),
        ];
        for (to, from) in sums {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
        self.duration.add(&other.duration);
        self.request_bytes.add(&other.request_bytes);
        self.response_bytes.add(&other.response_bytes);
    }
}
