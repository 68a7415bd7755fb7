//! What a policy is.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

/// One authorization policy. Serializes in the shape of a node proxy's config dump.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Kubernetes name, or a converted one (`istio_converted_static_strict`).
    pub name: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Whom it concerns.
    pub scope: Scope,
    /// What a match means.
    pub action: Action,
    /// Any rule may match. A policy without rules never matches; an ALLOW policy without rules so denies everything.
    pub rules: Vec<Rule>,
    /// Reported, never enforced (`istio.io/dry-run`).
    pub dry_run: bool,
    /// Why this policy cannot be evaluated as it was meant, for example an unknown field from a newer control plane.
    /// Then it fails closed: as DENY it matches every connection in scope, as ALLOW none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unenforceable: Option<Arc<str>>,
}

impl Policy {
    /// A policy without rules, enforced and understood.
    pub fn new(
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
        scope: Scope,
        action: Action,
    ) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            scope,
            action,
            rules: Vec::new(),
            dry_run: false,
            unenforceable: None,
        }
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Whom a policy concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Scope {
    /// Every workload of the mesh.
    Global,
    /// Every workload of the policy's namespace.
    Namespace,
    /// The workloads that name it.
    #[serde(rename = "WorkloadSelector")]
    Workload,
}

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// Allows the connection.
    Allow,
    /// Denies it, whatever is allowed elsewhere.
    Deny,
}

/// All clauses must hold. A rule without clauses matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Rule {
    /// AND.
    pub clauses: Vec<Clause>,
}

/// Any match must hold. A clause without matches holds; empty matches are skipped, so one with nothing else does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Clause {
    /// OR.
    pub matches: Vec<Match>,
}

/// All fields that are not empty must hold: any value of a field, and no value of its `not_` twin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    missing_docs,
    reason = "the names are Istio's; every `not_` field is the negation of its twin"
)]
pub struct Match {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_namespaces: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<ServiceAccountMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// Compared with `<trust domain>/ns/<namespace>/sa/<service account>`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_principals: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<IpNet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_source_ips: Vec<IpNet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ips: Vec<IpNet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ips: Vec<IpNet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ports: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ports: Vec<u16>,
}

impl Match {
    /// Nothing is asked for: such a match is skipped.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A service account of a namespace, in any trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountMatch {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Kubernetes service account.
    pub service_account: Arc<str>,
}

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// There is one at all.
    #[serde(serialize_with = "empty_list")]
    Presence,
}

/// Upstream's dump shows `"Presence": []`.
fn empty_list<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    Vec::<()>::new().serialize(serializer)
}
