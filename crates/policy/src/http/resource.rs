//! What the control plane sends.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::ServiceAccountMatch;
use crate::target::{Envelope, Target};

/// One AuthorizationPolicy, for the waypoints and gateways that its targets are behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpPolicy {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// What it is attached to.
    pub targets: Vec<Target>,
    /// What a match means.
    pub action: Action,
    /// Noted, never enforced (`istio.io/dry-run`).
    #[serde(default)]
    pub dry_run: bool,
    /// Any rule may match. Without rules it never matches: an ALLOW policy then denies everything.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Why it cannot be evaluated as it was meant. Then it fails closed: as DENY and CUSTOM it refuses every request to its
    /// targets, as ALLOW it allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unenforceable: Option<Arc<str>>,
}

impl HttpPolicy {
    /// In place of a policy that could not be decoded: denies everything to its targets.
    pub fn undecodable(envelope: Envelope, why: impl Into<Arc<str>>) -> Self {
        Self {
            name: envelope.name,
            targets: envelope.targets,
            action: Action::Deny,
            dry_run: false,
            rules: Vec::new(),
            unenforceable: Some(why.into()),
        }
    }
}

/// What a match means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// Allows the request.
    Allow,
    /// Denies it, whatever is allowed elsewhere.
    Deny,
    /// Is noted in the access log.
    Audit,
    /// Asks somebody else.
    Custom {
        /// Name of the extension provider.
        provider: Arc<str>,
    },
}

/// All clauses must hold. A rule without clauses matches every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// AND.
    #[serde(default)]
    pub clauses: Vec<Clause>,
}

/// Any match must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// OR.
    pub any: Vec<Match>,
}

/// All tests must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// AND.
    pub all: Vec<Test>,
}

/// One attribute of a request: if there are `values`, one of them must fit; none of `not` may.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "`values` and `not` are explained above")]
pub enum Test {
    /// A text.
    Text {
        attribute: TextAttribute,
        #[serde(default)]
        values: Vec<TextMatch>,
        #[serde(default)]
        not: Vec<TextMatch>,
    },
    /// The path, without query.
    Path {
        #[serde(default)]
        values: Vec<PathMatch>,
        #[serde(default)]
        not: Vec<PathMatch>,
    },
    /// An address.
    Net {
        attribute: NetAttribute,
        #[serde(default)]
        values: Vec<IpNet>,
        #[serde(default)]
        not: Vec<IpNet>,
    },
    /// The port that the client addressed.
    Port {
        #[serde(default)]
        values: Vec<u16>,
        #[serde(default)]
        not: Vec<u16>,
    },
    /// The client's service account.
    ServiceAccount {
        #[serde(default)]
        values: Vec<ServiceAccountMatch>,
        #[serde(default)]
        not: Vec<ServiceAccountMatch>,
    },
}

/// Attributes that are texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TextAttribute {
    /// `<trust domain>/ns/<namespace>/sa/<service account>` of the peer.
    Principal,
    /// The peer's namespace.
    Namespace,
    /// The peer's trust domain.
    TrustDomain,
    /// `<issuer>/<subject>` of the verified token.
    RequestPrincipal,
    /// `aud` of the verified token.
    Audience,
    /// `azp` of the verified token.
    Presenter,
    /// A claim of the verified token, by its path. Texts and lists of texts can fit.
    Claim(Vec<Arc<str>>),
    /// A header, by its name in lower case; several lines are joined by commas.
    Header(Arc<str>),
    /// For example `GET`; case matters.
    Method,
    /// The authority as the client sent it, port included if it is there; case does not matter.
    Host,
    /// The server name of the client's TLS.
    Sni,
}

/// Attributes that are addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetAttribute {
    /// Of the peer.
    Source,
    /// Of the client that trusted proxies speak for (`x-forwarded-for`, PROXY protocol).
    Remote,
    /// That was addressed.
    Destination,
}

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TextMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// There is one; a header may be empty, anything else not.
    Present,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PathMatch {
    /// As a text.
    Text(TextMatch),
    /// With `{*}` for one element and `{**}` for any number of them.
    Template(Arc<str>),
}

impl TextMatch {
    /// As Istio writes it: `*` at one end stands for the rest, alone for presence.
    pub fn parse(value: &str) -> Self {
        if value == "*" {
            Self::Present
        } else if let Some(suffix) = value.strip_prefix('*') {
            Self::Suffix(suffix.into())
        } else if let Some(prefix) = value.strip_suffix('*') {
            Self::Prefix(prefix.into())
        } else {
            Self::Exact(value.into())
        }
    }
}
