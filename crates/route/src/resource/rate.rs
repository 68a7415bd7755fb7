//! Rate limits: RateLimitPolicy.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tulle_policy::Target;

use super::{Match, ObjectKey};

/// The limits of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Of what it was made.
    pub object: ObjectKey,
    /// What it is attached to; any of them.
    pub targets: Vec<Target>,
    /// Only requests of these routes; empty for all.
    #[serde(default)]
    pub routes: Vec<ObjectKey>,
    /// Only requests that match one of them; empty for all.
    #[serde(default)]
    pub matches: Vec<Match>,
    /// Each must have room.
    pub limits: Vec<Limit>,
    /// What a request over the limit is answered with; 429 if it does not say.
    #[serde(default)]
    pub status: Option<u16>,
    /// Nothing is refused; what would have been is logged and counted.
    #[serde(default)]
    pub dry_run: bool,
}

/// So many requests of each key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// Of the user; for logs.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// What makes requests count together; empty: all of them do.
    #[serde(default)]
    pub key: Vec<KeyPart>,
    /// In the long run.
    pub rate: Rate,
    /// At once; `None` is as many as [`Rate::requests`].
    #[serde(default)]
    pub burst: Option<u32>,
    /// Who counts.
    #[serde(default)]
    pub scope: LimitScope,
    /// Keys that are remembered at once. The one nearest to its full allowance is forgotten first.
    #[serde(default)]
    pub keys: Option<u32>,
}

/// So many in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// 0 is none at all.
    pub requests: u32,
    /// Not zero.
    pub per: Duration,
}

/// Who counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitScope {
    /// Each replica of the proxy on its own.
    #[default]
    Local,
    /// All replicas together.
    Shared,
}

/// What of a request makes its key. A part that a request lacks is empty: leaving it out escapes no limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum KeyPart {
    /// SPIFFE identity of the client.
    Identity,
    /// Its namespace.
    Namespace,
    /// Its address, as authorization sees it.
    Address,
    /// A header, name in lower case.
    Header(Arc<str>),
    /// A parameter of the query.
    Query(Arc<str>),
    /// A claim of the verified token, by path.
    Claim(Vec<Arc<str>>),
    /// The path.
    Path,
    /// The method.
    Method,
    /// The host.
    Host,
}
