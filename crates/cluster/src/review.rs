//! Questions to the API server about who somebody is and what the caller may do.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::{Error, Result};
use crate::limits::LONGEST_TOKEN;
use crate::write::bounded;

/// Whom a token belongs to, as the API server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    /// User name, `system:serviceaccount:<namespace>:<name>` for service accounts.
    pub username: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Claims bound to the token: pod name, pod UID, node name.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl TokenIdentity {
    /// Namespace and name of the service account, if the token is one's.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self
            .username
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')?;
        let plain = |part: &str| !part.is_empty() && !part.contains([':', '/']);
        (plain(namespace) && plain(name)).then_some((namespace, name))
    }

    /// A single-valued claim, e.g. `pod-name` for `authentication.kubernetes.io/pod-name`.
    pub fn claim(&self, name: &str) -> Option<&str> {
        let values = self
            .extra
            .get(&format!("authentication.kubernetes.io/{name}"))?;
        match values.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// Asks the API server whose `token` it is. The token must be made for one of `audiences`:
/// [`Error::TokenRefused`] otherwise.
pub async fn review_token(
    client: &Client,
    token: &str,
    audiences: &[&str],
) -> Result<TokenIdentity> {
    if token.is_empty() || token.len() > LONGEST_TOKEN {
        let why = format!("a token of {} bytes cannot be a real one", token.len());
        return Err(Error::TokenRefused { why });
    }
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            audiences: Some(
                audiences
                    .iter()
                    .map(|&audience| audience.to_owned())
                    .collect(),
            ),
        },
        ..Default::default()
    };
    let api: Api<TokenReview> = Api::all(client.clone());
    let parameters = PostParams::default();
    let request = api.create(&parameters, &review);
    let answer = bounded("create TokenReview".to_owned(), request).await?;
    let status = answer.status.unwrap_or_default();
    if let Some(why) = status.error.filter(|why| !why.is_empty()) {
        return Err(Error::TokenRefused { why });
    }
    if !status.authenticated.unwrap_or(false) {
        return Err(Error::TokenRefused {
            why: "not authenticated".to_owned(),
        });
    }
    // A server that ignores audiences would answer with none: that is no proof.
    let granted = status.audiences.unwrap_or_default();
    if !granted
        .iter()
        .any(|audience| audiences.contains(&audience.as_str()))
    {
        let why = format!("made for the audiences {granted:?}, not for {audiences:?}");
        return Err(Error::TokenRefused { why });
    }
    let user = status.user.unwrap_or_default();
    Ok(TokenIdentity {
        username: user.username.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
}

/// One right, as RBAC names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// `get`, `list`, `create`, ...
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Plural name of the kind, with `/subresource` where one is meant.
    pub resource: String,
    /// Namespace, `None` for all or for cluster-wide kinds.
    pub namespace: Option<String>,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

/// Those of `wanted` that the caller does not have.
pub async fn missing_rights(client: &Client, wanted: &[Right]) -> Result<Vec<Right>> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut missing = Vec::new();
    for right in wanted {
        let (resource, subresource) = match right.resource.split_once('/') {
            Some((resource, sub)) => (resource, Some(sub.to_owned())),
            None => (right.resource.as_str(), None),
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(right.verb.clone()),
                    group: Some(right.group.clone()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    namespace: right.namespace.clone(),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let parameters = PostParams::default();
        let request = api.create(&parameters, &review);
        let answer = bounded("create SelfSubjectAccessReview".to_owned(), request).await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            missing.push(right.clone());
        }
    }
    Ok(missing)
}

/// "create daemonsets.apps in istio-system, list nodes".
pub fn describe_rights(rights: &[Right]) -> String {
    rights
        .iter()
        .map(Right::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;
