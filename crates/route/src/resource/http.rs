//! Routes of requests: HTTPRoute, GRPCRoute and VirtualService are all of this form.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tulle_model::ServiceKey;

use super::{HostPattern, NamedMatch, ObjectKey, Parent, TextMatch};

/// The routes of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// Of what it was made.
    pub object: ObjectKey,
    /// Where it counts.
    pub parents: Vec<Parent>,
    /// When the object was created, in seconds since 1970: the older one wins (Gateway API).
    pub created: i64,
    /// Which rule wins.
    pub precedence: Precedence,
    /// In the order of the object.
    pub rules: Vec<Rule>,
}

/// Which of several matching rules wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Precedence {
    /// Gateway API: the most specific match, over all routes of a parent; then the oldest route, then by name, then by order.
    Specific,
    /// VirtualService: the first that matches. Counts before Gateway API's where both are attached.
    InOrder,
}

/// What to do with the requests that match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Of the user; for logs.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// Any of them; empty matches everything.
    #[serde(default)]
    pub matches: Vec<Match>,
    /// Applied in this order, before the action.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Where it goes.
    pub action: RuleAction,
    /// How long it may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Whether and when it is tried again; `None` is the mesh's default.
    #[serde(default)]
    pub retry: Option<Retry>,
}

/// All fields must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Of the request's target, without query.
    #[serde(default)]
    pub path: Option<PathMatch>,
    /// Path and prefix matches do not mind case (VirtualService `ignoreUriCase`).
    #[serde(default)]
    pub ignore_case: bool,
    /// For example `GET`.
    #[serde(default)]
    pub method: Option<TextMatch>,
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Option<TextMatch>,
    /// Host without port.
    #[serde(default)]
    pub authority: Option<TextMatch>,
    /// All must match; of a header that comes several times, the values joined by commas.
    #[serde(default)]
    pub headers: Vec<NamedMatch>,
    /// None may match.
    #[serde(default)]
    pub without_headers: Vec<NamedMatch>,
    /// All must match; the first value counts.
    #[serde(default)]
    pub query: Vec<NamedMatch>,
    /// Port that the request was addressed to.
    #[serde(default)]
    pub port: Option<u16>,
    /// Namespace of the client (VirtualService `sourceNamespace`).
    #[serde(default)]
    pub source_namespace: Option<Arc<str>>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PathMatch {
    /// Equal.
    Exact(Arc<str>),
    /// By whole elements (Gateway API `PathPrefix`): `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(Arc<str>),
    /// Starts with (VirtualService `prefix`).
    Text(Arc<str>),
    /// RE2, the whole path.
    Regex(Arc<str>),
}

/// Where a matching request goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RuleAction {
    /// To one of these by weight; all weights zero or none at all: 500.
    Forward(Vec<Backend>),
    /// Back to the client.
    Redirect(Redirect),
    /// Answered here.
    Respond(DirectResponse),
}

/// One of several destinations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Relative.
    pub weight: u32,
    /// Where to.
    pub target: BackendTarget,
    /// Only for requests that go there.
    #[serde(default)]
    pub filters: Vec<Filter>,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum BackendTarget {
    /// A port of a service, or of a subset of it (DestinationRule).
    Service {
        /// Which.
        service: ServiceKey,
        /// On the service; `None`: the port that the request was addressed to, or the only one.
        port: Option<u16>,
        /// Name of the subset.
        #[serde(default)]
        subset: Option<Arc<str>>,
    },
    /// The reference cannot be used; its share of requests is answered with this status (500, or 503).
    Unroutable(Unroutable),
}

/// Why a backend cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unroutable {
    /// What is answered.
    pub status: u16,
    /// For logs; the client does not see it.
    pub why: Arc<str>,
}

/// One step on the way of a request and its response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Filter {
    /// On the way there.
    RequestHeaders(HeaderEdits),
    /// On the way back.
    ResponseHeaders(HeaderEdits),
    /// Host and path before the request goes on.
    Rewrite(Rewrite),
    /// A copy goes elsewhere; its answer is ignored.
    Mirror(Mirror),
    /// Cross-origin requests.
    Cors(Cors),
    /// Trouble on purpose.
    Fault(Fault),
    /// Instead of being forwarded; only ever in [`Backend::filters`].
    Redirect(Redirect),
    /// The filter cannot be used: every request of the rule is answered with 500.
    Invalid(Arc<str>),
}

/// Set, then add, then remove (Gateway API's `HTTPHeaderFilter`). Names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderEdits {
    /// Replaces what is there.
    #[serde(default)]
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Appended to what is there.
    #[serde(default)]
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Taken away.
    #[serde(default)]
    pub remove: Vec<Arc<str>>,
}

/// What becomes of host and path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rewrite {
    /// The new host.
    #[serde(default)]
    pub host: Option<Arc<str>>,
    /// The new path.
    #[serde(default)]
    pub path: Option<PathRewrite>,
}

/// How a path changes. The query stays.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PathRewrite {
    /// All of it.
    Full(Arc<str>),
    /// The matched prefix, by whole elements (Gateway API `ReplacePrefixMatch`).
    Prefix(Arc<str>),
    /// The matched prefix, as text (VirtualService `uri`); the whole path if the match was no prefix.
    Text(Arc<str>),
    /// RE2 (VirtualService `uriRegexRewrite`); `\1` in the replacement is a group.
    Regex {
        /// What is looked for.
        pattern: Arc<str>,
        /// What replaces it.
        replacement: Arc<str>,
    },
}

/// A copy of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// Where the copy goes.
    pub target: BackendTarget,
    /// How many are copied.
    pub fraction: Fraction,
}

/// A share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    /// Of [`Fraction::denominator`].
    pub numerator: u32,
    /// Never 0.
    pub denominator: u32,
}

/// Cross-origin resource sharing (Fetch standard; HTTPRoute's `CORS` filter, VirtualService's `corsPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cors {
    /// Any of them.
    #[serde(default)]
    pub origins: Vec<TextMatch>,
    /// `*` is any.
    #[serde(default)]
    pub methods: Vec<Arc<str>>,
    /// `*` is any.
    #[serde(default)]
    pub headers: Vec<Arc<str>>,
    /// Shown to scripts.
    #[serde(default)]
    pub expose: Vec<Arc<str>>,
    /// How long a preflight counts.
    #[serde(default)]
    pub max_age: Option<Duration>,
    /// Cookies and such.
    #[serde(default)]
    pub credentials: bool,
    /// Preflights of foreign origins go to the backend instead of being answered here (`unmatchedPreflights: FORWARD`).
    #[serde(default)]
    pub forward_unmatched: bool,
}

/// Trouble on purpose (VirtualService `fault`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// First this.
    #[serde(default)]
    pub delay: Option<Delay>,
    /// Then this.
    #[serde(default)]
    pub abort: Option<Abort>,
}

/// Waits before the request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delay {
    /// How long.
    pub fixed: Duration,
    /// How many.
    pub fraction: Fraction,
}

/// Answers instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// HTTP status; 200 with [`Abort::grpc`].
    pub status: u16,
    /// gRPC status.
    #[serde(default)]
    pub grpc: Option<u32>,
    /// How many.
    pub fraction: Fraction,
}

/// Sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `None` keeps it.
    #[serde(default)]
    pub scheme: Option<Arc<str>>,
    /// `None` keeps it.
    #[serde(default)]
    pub host: Option<Arc<str>>,
    /// `None`: the well-known port of a changed scheme, else the listener's.
    #[serde(default)]
    pub port: Option<u16>,
    /// Without [`Redirect::port`], never the listener's: a changed host has the port of its scheme (VirtualService).
    #[serde(default)]
    pub port_of_scheme: bool,
    /// `None` keeps it.
    #[serde(default)]
    pub path: Option<PathRewrite>,
}

/// Answered by the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectResponse {
    /// HTTP status.
    pub status: u16,
    /// At most 1 MiB.
    #[serde(default)]
    pub body: Arc<str>,
    /// Headers of the answer.
    #[serde(default)]
    pub headers: BTreeMap<Arc<str>, Arc<str>>,
}

/// How long things may take. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// The whole request, retries included.
    #[serde(default)]
    pub request: Option<Duration>,
    /// One attempt.
    #[serde(default)]
    pub backend: Option<Duration>,
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// After the first one; 0 is never.
    pub attempts: u32,
    /// What counts as a failure.
    pub on: RetryOn,
    /// One attempt; `None` is the rule's.
    #[serde(default)]
    pub per_try: Option<Duration>,
    /// First pause; doubles, with jitter. `None` is 25 ms.
    #[serde(default)]
    pub backoff: Option<Duration>,
    /// Not on an endpoint that was tried.
    #[serde(default)]
    pub avoid_tried: bool,
}

/// What counts as a failure worth another attempt (Envoy's `retry_on` names).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryOn {
    /// No connection to the endpoint.
    #[serde(default)]
    pub connect_failure: bool,
    /// The peer surely did nothing (REFUSED_STREAM).
    #[serde(default)]
    pub refused_stream: bool,
    /// There was no answer: the connection ended, could not be made, or the attempt took too long.
    #[serde(default)]
    pub reset: bool,
    /// The connection ended before the request was sent.
    #[serde(default)]
    pub reset_before_request: bool,
    /// An attempt took too long.
    #[serde(default)]
    pub timeout: bool,
    /// 500 to 599, or no answer at all.
    #[serde(default)]
    pub server_errors: bool,
    /// 502, 503 and 504.
    #[serde(default)]
    pub gateway_errors: bool,
    /// 409.
    #[serde(default)]
    pub conflict: bool,
    /// These.
    #[serde(default)]
    pub statuses: Vec<u16>,
    /// These gRPC codes.
    #[serde(default)]
    pub grpc: Vec<u32>,
}

impl PathMatch {
    pub(crate) fn text(&self) -> &Arc<str> {
        let (Self::Exact(text) | Self::Prefix(text) | Self::Text(text) | Self::Regex(text)) = self;
        text
    }
}

impl HostPattern {
    /// Matches any host.
    pub fn any() -> Self {
        Self("*".into())
    }
}
