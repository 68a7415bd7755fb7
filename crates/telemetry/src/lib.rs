//! Metrics, the access log and the process log, in Istio's names and order.
//!
//! Nothing here blocks the data path: counters are plain atomics in shards that belong to one worker each, log lines go
//! through a bounded channel to one writer thread, and what does not fit is dropped and counted.

mod access;
mod connections;
mod edits;
#[cfg(test)]
mod fixtures;
pub mod limits;
mod logging;
mod registry;
mod request_log;
mod requests;
mod text;
mod writer;

pub use access::{AccessLog, AccessRecord, Event, Peer};
pub use connections::{
    ConnectionEnds, ConnectionLabels, ConnectionMetrics, ConnectionSeries, Reporter, ResponseFlags,
    SecurityPolicy, Shard,
};
pub use edits::{MetricSet, TagEdits};
pub use logging::{
    Level, LogError, flush_logs, init_logging, log_levels, register_log_metrics, reset_log_levels,
    set_log_levels,
};
pub use registry::{
    Counter, CounterFamily, Encoder, Format, Gauge, GaugeFamily, Histogram, HistogramFamily,
    Registry, register_process_metrics,
};
pub use request_log::{FormatError, RequestFormat, RequestRecord};
pub use requests::{
    Flag, Flags, Outcome, RequestEnds, RequestMetrics, RequestProtocol, RequestSecurity,
    RequestSeries, RequestShard,
};
pub use text::write_rfc3339;
