//! `policy.tulle.mesh`: rate limits at waypoints and gateways. Ours; Istio has none of its own.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::PolicyTargetReference;
use crate::shape::{Duration, choice, shape};
use crate::status::IstioStatus;

shape! {
    /// So many requests of each client, header, path and so on.
    #[derive(CustomResource)]
    #[kube(
        group = "policy.tulle.mesh",
        version = "v1alpha1",
        kind = "RateLimitPolicy",
        plural = "ratelimitpolicies",
        shortname = "rlp",
        category = "istio-io",
        category = "policy-tulle-mesh",
        namespaced,
        status = "IstioStatus",
        derive = "PartialEq",
        doc = "So many requests of each client, header, path and so on.",
        printcolumn = r#"{"name":"Age","type":"date","description":"When the policy was made.","jsonPath":".metadata.creationTimestamp"}"#
    )]
    RateLimitPolicySpec {
        = #[schemars(length(min = 1, max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        = #[schemars(length(min = 1, max = 16))]
        limits: Vec<RateLimit>,
        #[serde(rename = "match")]
        #[schemars(length(max = 64))]
        matches: Vec<RateLimitMatch>,
        #[schemars(range(min = 400, max = 599))]
        status_code: Option<u16>,
        dry_run: Option<bool>,
    }
}

shape! {
    /// Requests that are counted: all that is given must match.
    RateLimitMatch {
        path: Option<TextMatch>,
        methods: Vec<String>,
        headers: Vec<NamedMatch>,
    }
}

shape! {
    /// How a text is compared: in one of these ways.
    TextMatch {
        exact: Option<String>,
        prefix: Option<String>,
        suffix: Option<String>,
        regex: Option<String>,
    }
}

shape! {
    /// A header and how it is compared; only its name: it is there.
    NamedMatch {
        = #[schemars(length(min = 1, max = 256))]
        name: String,
        value: Option<TextMatch>,
    }
}

shape! {
    /// So many requests of each key in such a time.
    RateLimit {
        = requests: u32,
        = per: Duration,
        name: Option<String>,
        #[schemars(length(max = 8))]
        key: Vec<RateLimitKey>,
        burst: Option<u32>,
        scope: Option<RateLimitScope>,
        #[schemars(range(min = 1, max = 1_048_576))]
        max_keys: Option<u32>,
    }
}

shape! {
    /// A part of the key.
    RateLimitKey {
        = #[serde(rename = "type")]
        kind: RateLimitKeyType,
        name: Option<String>,
    }
}

choice! {
    /// What of a request.
    RateLimitKeyType {
        ClientIdentity = "ClientIdentity",
        ClientNamespace = "ClientNamespace",
        ClientAddress = "ClientAddress",
        Header = "Header",
        QueryParam = "QueryParam",
        Claim = "Claim",
        Path = "Path",
        Method = "Method",
        Host = "Host",
    }
}

impl Default for RateLimitKeyType {
    /// Not understood: never silently a wider limit.
    fn default() -> Self {
        Self::Unknown
    }
}

choice! {
    /// Who counts: each replica, or all together.
    RateLimitScope {
        Local = "Local",
        Shared = "Shared",
    }
}
