//! Families of counters, gauges and histograms for everything that is not on the data path.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::SERIES_PER_FAMILY;

/// How a scrape is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// What a scraper's `Accept` header asks for; Prometheus text when it says nothing.
    pub fn negotiate(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of a process. Clones share them.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<Mutex<Vec<Arc<dyn Collect>>>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} families)", lock(&self.families).len())
    }
}

trait Collect: Send + Sync {
    fn collect(&self, out: &mut Encoder);
}

impl<F: Fn(&mut Encoder) + Send + Sync> Collect for F {
    fn collect(&self, out: &mut Encoder) {
        self(out);
    }
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A family of counters. `name` without `_total`.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> CounterFamily {
        self.add(Family::new(name, help, labels, Counter::default))
    }

    /// A family of gauges.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> GaugeFamily {
        self.add(Family::new(name, help, labels, Gauge::default))
    }

    /// A family of histograms with these upper bounds, ascending; `+Inf` is implied.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> HistogramFamily {
        self.add(Family::new(name, help, labels, move || {
            Histogram::new(bounds)
        }))
    }

    /// Values that are read at each scrape.
    pub fn collector(&self, collect: impl Fn(&mut Encoder) + Send + Sync + 'static) {
        lock(&self.families).push(Arc::new(collect));
    }

    /// `istio_build{component, tag} 1`.
    pub fn build_info(&self, component: &str, tag: &str) {
        self.gauge(
            "istio_build",
            "Istio component build info",
            &["component", "tag"],
        )
        .with(&[component, tag])
        .set(1);
    }

    /// One scrape.
    pub fn encode(&self, format: Format) -> String {
        let families = lock(&self.families).clone();
        let mut out = Encoder::new(format);
        for family in &families {
            family.collect(&mut out);
        }
        out.finish()
    }

    fn add<M: Metric>(&self, family: Family<M>) -> Family<M> {
        lock(&self.families).push(Arc::new({
            let family = family.clone();
            move |out: &mut Encoder| family.collect(out)
        }));
        family
    }
}

/// Adds `process_open_fds` and `process_max_fds`.
pub fn register_process_metrics(registry: &Registry) {
    registry.collector(|out| {
        // Where /proc is not mounted there is nothing to tell.
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            out.describe("process_open_fds", "gauge", "Open file descriptors");
            // The directory itself is open now.
            out.sample(
                "process_open_fds",
                "",
                &[],
                open.count().saturating_sub(1) as f64,
            );
        }
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let soft = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        if let Some(max) = soft.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
            out.describe("process_max_fds", "gauge", "Limit of open file descriptors");
            out.sample("process_max_fds", "", &[], max);
        }
    });
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.inc_by(1);
    }
    /// Adds `n`.
    pub fn inc_by(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    /// Takes one away.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How values are distributed over buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Mutex<Buckets>>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self(Arc::new(Mutex::new(Buckets {
            bounds,
            counts: vec![0; bounds.len()],
            sum: 0.0,
            count: 0,
        })))
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let mut buckets = lock(&self.0);
        if let Some(at) = buckets.bounds.iter().position(|bound| value <= *bound)
            && let Some(count) = buckets.counts.get_mut(at)
        {
            *count += 1;
        }
        buckets.sum += value;
        buckets.count += 1;
    }
}

/// Counters of one name, by label values.
pub type CounterFamily = Family<Counter>;
/// Gauges of one name, by label values.
pub type GaugeFamily = Family<Gauge>;
/// Histograms of one name, by label values.
pub type HistogramFamily = Family<Histogram>;

/// Metrics of one name, by label values. Clones share them.
#[derive(Clone)]
pub struct Family<M> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    make: Arc<dyn Fn() -> M + Send + Sync>,
    series: Arc<Mutex<BTreeMap<Vec<String>, M>>>,
}

impl<M> std::fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Family({})", self.name)
    }
}

#[expect(private_bounds, reason = "the three kinds of metric are closed")]
impl<M: Metric> Family<M> {
    fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            help,
            labels,
            make: Arc::new(make),
            series: Arc::default(),
        }
    }

    /// The metric with these label values, in the family's order. Keep it when it is used often: this look-up locks.
    /// Beyond [`SERIES_PER_FAMILY`] sets of values all share one whose values are `overflow`.
    pub fn with(&self, values: &[&str]) -> M {
        debug_assert_eq!(values.len(), self.labels.len(), "labels of {}", self.name);
        let mut series = lock(&self.series);
        let key: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        if let Some(metric) = series.get(&key) {
            return metric.clone();
        }
        let key = if series.len() >= SERIES_PER_FAMILY {
            vec!["overflow".to_owned(); self.labels.len()]
        } else {
            key
        };
        series.entry(key).or_insert_with(|| (self.make)()).clone()
    }

    /// The only metric of a family without labels.
    pub fn get(&self) -> M {
        self.with(&[])
    }

    /// Forgets one set of label values.
    pub fn remove(&self, values: &[&str]) {
        let key: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        lock(&self.series).remove(&key);
    }

    fn collect(&self, out: &mut Encoder) {
        let series = lock(&self.series);
        if series.is_empty() {
            return;
        }
        out.describe(self.name, M::KIND, self.help);
        for (values, metric) in series.iter() {
            let labels: Vec<(&str, &str)> = self
                .labels
                .iter()
                .copied()
                .zip(values.iter().map(String::as_str))
                .collect();
            metric.write(self.name, &labels, out);
        }
    }
}

trait Metric: Clone + Send + Sync + 'static {
    const KIND: &'static str;
    fn write(&self, name: &str, labels: &[(&str, &str)], out: &mut Encoder);
}

impl Metric for Counter {
    const KIND: &'static str = "counter";
    fn write(&self, name: &str, labels: &[(&str, &str)], out: &mut Encoder) {
        out.sample(name, "_total", labels, self.get() as f64);
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";
    fn write(&self, name: &str, labels: &[(&str, &str)], out: &mut Encoder) {
        out.sample(name, "", labels, self.get() as f64);
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";
    fn write(&self, name: &str, labels: &[(&str, &str)], out: &mut Encoder) {
        let buckets = lock(&self.0);
        let mut below = 0;
        let bounds = buckets.bounds.iter().map(|b| number(*b));
        for (bound, count) in bounds.zip(buckets.counts.iter()) {
            below += count;
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            out.sample(name, "_bucket", &labels, below as f64);
        }
        let mut all = labels.to_vec();
        all.push(("le", "+Inf"));
        out.sample(name, "_bucket", &all, buckets.count as f64);
        out.sample(name, "_sum", labels, buckets.sum);
        out.sample(name, "_count", labels, buckets.count as f64);
    }
}

/// Writes one scrape.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    out: String,
}

impl Encoder {
    fn new(format: Format) -> Self {
        Self {
            format,
            out: String::new(),
        }
    }

    /// Starts a family: `kind` is `counter`, `gauge` or `histogram`, `name` without `_total`.
    pub fn describe(&mut self, name: &str, kind: &str, help: &str) {
        let suffix = match self.format {
            Format::Prometheus if kind == "counter" => "_total",
            _ => "",
        };
        let dot = if self.format == Format::OpenMetrics {
            "."
        } else {
            ""
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}{dot}");
        let _ = writeln!(self.out, "# TYPE {name}{suffix} {kind}");
    }

    /// One value of the family that [`Self::describe`] started; `suffix` is `_total` for counters.
    pub fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { '{' } else { ',' });
            self.out.push_str(label);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        self.out.push(' ');
        self.out.push_str(&number(value));
        self.out.push('\n');
    }

    fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// Whole numbers without a fraction, as both formats allow.
fn number(value: f64) -> String {
    format!("{value}")
}

/// Label values: backslash, quote and line feed are escaped.
fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
