//! References to other namespaces.

use tulle_api::gateway::{GROUP, GrantTo};

use crate::cluster::Cluster;

/// Somebody who refers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referrer<'a> {
    /// Kind, of the Gateway API's group.
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

/// What is referred to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referent<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl Cluster {
    /// Whether a reference is allowed: in the own namespace always, to another one if a ReferenceGrant there says so.
    pub(super) fn may_refer(&self, from: Referrer<'_>, to: Referent<'_>) -> bool {
        if from.namespace == to.namespace {
            return true;
        }
        let names_referent = |grant: &GrantTo| {
            grant.group == to.group
                && grant.kind == to.kind
                && grant
                    .name
                    .as_deref()
                    .is_none_or(|name| name.is_empty() || name == to.name)
        };
        let grants = self.gateway.grants.iter();
        grants
            .filter(|((namespace, _), _)| **namespace == *to.namespace)
            .any(|(_, grant)| {
                grant.from.iter().any(|f| {
                    f.group == GROUP && f.kind == from.kind && f.namespace == from.namespace
                }) && grant.to.iter().any(names_referent)
            })
    }
}
