//! What the control plane sends.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::target::{Envelope, Target};

/// One RequestAuthentication, for the waypoints and gateways that its targets are behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// What it is attached to.
    pub targets: Vec<Target>,
    /// Accepted issuers.
    #[serde(default)]
    pub rules: Vec<JwtRule>,
    /// Why it cannot be used as it was meant: then every request to its targets is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unenforceable: Option<Arc<str>>,
}

impl Authentication {
    /// In place of a resource that could not be decoded: refuses everything to its targets.
    pub fn undecodable(envelope: Envelope, why: impl Into<Arc<str>>) -> Self {
        Self {
            name: envelope.name,
            targets: envelope.targets,
            rules: Vec::new(),
            unenforceable: Some(why.into()),
        }
    }
}

/// One accepted issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtRule {
    /// `iss` must be equal.
    pub issuer: Arc<str>,
    /// Any of these must be in `aud`; none accepts any.
    #[serde(default)]
    pub audiences: Vec<Arc<str>>,
    /// What signatures are verified with.
    pub keys: Keys,
    /// Headers that carry the token. With no header, parameter or cookie at all: `authorization: Bearer …`, then the query
    /// parameter `access_token`.
    #[serde(default)]
    pub from_headers: Vec<TokenHeader>,
    /// Query parameters that carry it.
    #[serde(default)]
    pub from_params: Vec<Arc<str>>,
    /// Cookies that carry it.
    #[serde(default)]
    pub from_cookies: Vec<Arc<str>>,
    /// The application sees the token, too.
    #[serde(default)]
    pub forward: bool,
    /// Header (lower case) that passes the verified payload on, in base64url.
    #[serde(default)]
    pub payload_header: Option<Arc<str>>,
    /// Claims that are copied to headers.
    #[serde(default)]
    pub claim_headers: Vec<ClaimHeader>,
    /// Claims that hold lists as texts with spaces, beside `scope` and `permission`.
    #[serde(default)]
    pub space_delimited: Vec<Arc<str>>,
    /// For fetching keys.
    pub timeout: Duration,
}

/// What signatures are verified with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Keys {
    /// The key set itself (JWKS, as text).
    Inline(Arc<str>),
    /// Where it is.
    Uri(Arc<str>),
    /// Found by the issuer's `/.well-known/openid-configuration`.
    Discovery,
}

/// A header that carries a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenHeader {
    /// In lower case.
    pub name: Arc<str>,
    /// What stands before the token, for example `Bearer `.
    #[serde(default)]
    pub prefix: Arc<str>,
}

/// A claim that is copied to a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimHeader {
    /// In lower case.
    pub header: Arc<str>,
    /// Path of the claim.
    pub claim: Vec<Arc<str>>,
}
