//! The delta discovery client: one stream, kept open for ever, through which a proxy's knowledge follows the control plane's.
//!
//! When the stream breaks, what is known stays known; the next stream begins with the versions of everything accepted so
//! far, so that only differences travel.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::endpoint::{ConnectError, Endpoint};
use crate::limits::{MAX_REPORTED, RECONNECT_MAX, RECONNECT_MIN, STABLE_AFTER};
use crate::node::NodeInfo;

pub(crate) mod fuzz;
mod stream;

/// What a client subscribes to, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The control plane.
    pub endpoint: Endpoint,
    /// Who we are.
    pub node: NodeInfo,
    /// Type URLs, in the order in which they are asked for. Policies come before the workloads that name them:
    /// [`default_types`], [`gateway_types`].
    pub types: Vec<String>,
}

/// What a node proxy needs: authorization, then addresses.
pub fn default_types() -> Vec<String> {
    vec![
        tulle_proto::AUTHORIZATION_TYPE.to_owned(),
        tulle_proto::ADDRESS_TYPE.to_owned(),
    ]
}

/// What a waypoint or gateway needs: addresses, and everything that is for its Gateway, what is named before what names it.
/// Policies of connections are the node proxy's business.
pub fn gateway_types() -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = tulle_proto::L7_TYPES
        .iter()
        .partition(|url| crate::server::comes_before_addresses(url));
    let all = before
        .into_iter()
        .chain([tulle_proto::ADDRESS_TYPE])
        .chain(after);
    all.map(str::to_owned).collect()
}

/// One resource that is new or has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Workload uid, `namespace/hostname`, or `namespace/name` of a policy. The client keeps it: sharing it costs nothing.
    pub name: Arc<str>,
    /// Opaque; may be empty.
    pub version: String,
    /// The encoded message. Shares the received buffer: decode it, do not keep it.
    pub body: Bytes,
}

/// What one answer changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Of which type.
    pub type_url: String,
    /// New and changed.
    pub upserts: Vec<Resource>,
    /// No longer there.
    pub removed: Vec<String>,
}

/// A resource that the handler could not take; the others of the batch are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which.
    pub name: String,
    /// What is wrong with it.
    pub error: String,
}

/// What happened to the stream: for metrics and readiness.
#[derive(Debug)]
pub enum Event<'a> {
    /// The stream is open.
    Connected,
    /// Every resource of this type that the server has is known, on this stream. Each stream says it once per type.
    Synced {
        /// Which.
        type_url: &'a str,
    },
    /// The stream ended or did not come about; the next attempt follows.
    Disconnected {
        /// Why.
        error: &'a StreamError,
        /// When.
        retry_in: Duration,
    },
}

/// Who keeps the knowledge.
pub trait Handler: Send {
    /// Takes a batch over, as a whole, and says what it had to leave out.
    fn update(&mut self, batch: Batch) -> Vec<Rejection>;
    /// See [`Event`].
    fn event(&mut self, _event: Event<'_>) {}
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No connection.
    #[error("cannot reach {authority}: {error}; the proxy goes on with what it knows")]
    Connect {
        /// Where.
        authority: String,
        /// Why.
        error: ConnectError,
    },
    /// We were not let in.
    #[error(
        "{authority} refused this proxy: {why}; is the token of this pod valid, with audience istio-ca?"
    )]
    Refused {
        /// Who.
        authority: String,
        /// Its words.
        why: String,
    },
    /// It broke.
    #[error("lost the stream from {authority}: {why}; the proxy goes on with what it knows")]
    Broken {
        /// Whose.
        authority: String,
        /// What happened.
        why: String,
    },
    /// The server ended it in good order: it restarts, or wants to see our token again.
    #[error("{authority} ended the stream; connecting again")]
    Ended {
        /// Who.
        authority: String,
    },
}

/// Follows the control plane until dropped.
pub async fn run(config: Config, mut handler: impl Handler) -> Infallible {
    let mut known = Known::default();
    let mut pause = RECONNECT_MIN;
    loop {
        let begun = Instant::now();
        let error = stream::run(&config, &mut known, &mut handler).await;
        if begun.elapsed() >= STABLE_AFTER {
            pause = RECONNECT_MIN;
        }
        let retry_in = pause.mul_f64(rand::random_range(0.5..=1.0));
        match &error {
            StreamError::Ended { .. } => tracing::info!(%error, "discovery"),
            _ => tracing::warn!(%error, ?retry_in, "discovery"),
        }
        handler.event(Event::Disconnected {
            error: &error,
            retry_in,
        });
        sleep(retry_in).await;
        pause = pause.saturating_mul(2).min(RECONNECT_MAX);
    }
}

/// Names and versions of what was taken over, by type: the beginning of the next stream.
#[derive(Debug, Default)]
struct Known(HashMap<String, HashMap<Arc<str>, Version>>);

/// Content hashes are most versions, and take no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    Hash(u64),
    Text(Box<str>),
    /// Not taken over: whatever the server has is news.
    Rejected,
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        match u64::from_str_radix(text, 16) {
            Ok(hash) if text.len() == 16 && format!("{hash:016x}") == text => Self::Hash(hash),
            _ => Self::Text(text.into()),
        }
    }
}

impl Version {
    fn to_text(&self) -> String {
        match self {
            Self::Hash(hash) => format!("{hash:016x}"),
            Self::Text(text) => text.to_string(),
            Self::Rejected => "rejected".to_owned(),
        }
    }
}

impl Known {
    /// The copy of a name that is kept here: names are long, and whoever takes a resource over may share it.
    fn name(&self, type_url: &str, name: &str) -> Arc<str> {
        let of = self.0.get(type_url);
        let known = of.and_then(|table| table.get_key_value(name));
        known.map_or_else(|| name.into(), |(name, _)| name.clone())
    }

    fn versions(&self, type_url: &str) -> HashMap<String, String> {
        let of = self.0.get(type_url).into_iter().flatten();
        of.map(|(name, version)| (name.to_string(), version.to_text()))
            .collect()
    }

    /// Notes what the handler made of a batch. A rejected resource stays listed, so that its removal is not missed.
    fn note(
        &mut self,
        type_url: &str,
        seen: &[(Arc<str>, String)],
        removed: &[String],
        rejected: &[Rejection],
    ) {
        let table = self.0.entry(type_url.to_owned()).or_default();
        for name in removed {
            table.remove(name.as_str());
        }
        for (name, version) in seen {
            table.insert(name.clone(), version.as_str().into());
        }
        for rejection in rejected {
            if let Some(version) = table.get_mut(rejection.name.as_str()) {
                *version = Version::Rejected;
            }
        }
    }
}

/// What a NACK says.
fn complaint(rejected: &[Rejection]) -> String {
    let mut text: Vec<String> = rejected
        .iter()
        .take(MAX_REPORTED)
        .map(|rejection| format!("{}: {}", rejection.name, rejection.error))
        .collect();
    if rejected.len() > MAX_REPORTED {
        text.push(format!("and {} more", rejected.len() - MAX_REPORTED));
    }
    text.join("; ")
}

#[cfg(test)]
mod tests;
