//! Metrics of requests, Istio's names and labels (facts: the metrics contract).
//!
//! As for connections, each worker owns a shard: finding a series is a look-up in a map of its own, counting is a plain
//! atomic that nobody else writes. A scrape adds the shards up.

mod flags;
mod labels;
mod series;
mod shard;
mod store;

pub use flags::{Flag, Flags};
pub use labels::{Outcome, RequestEnds, RequestProtocol, RequestSecurity};
pub use series::RequestSeries;
pub use shard::RequestShard;
pub use store::RequestMetrics;

#[cfg(test)]
mod tests;
