//! TCP metrics of connections, Istio's names and labels (facts: the metrics contract).
//!
//! Each worker owns a [`Shard`]: finding a series is a look-up in a map of its own, counting is a plain atomic that
//! nobody else writes. A scrape adds the shards up.

mod labels;
mod shard;
mod store;

pub use labels::{ConnectionEnds, ConnectionLabels, Reporter, ResponseFlags, SecurityPolicy};
pub use shard::{ConnectionSeries, Shard};
pub use store::ConnectionMetrics;

#[cfg(test)]
mod tests;
