//! Who may have a resource. What holds for the whole mesh is for everybody; what an L7 proxy needs is for that proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The callers that may see a resource, by the Gateway whose proxy they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Audience {
    /// Every authenticated caller: workloads, services, L4 policies.
    #[default]
    Everyone,
    /// The proxies of these Gateways, each as `namespace/name`.
    Gateways(BTreeSet<Arc<str>>),
    /// The proxies of all Gateways: settings of the mesh, without secrets.
    AnyGateway,
}

impl Audience {
    /// Nobody at all.
    pub fn nobody() -> Self {
        Self::Gateways(BTreeSet::new())
    }

    /// The proxies of these Gateways.
    pub fn gateways<T: Into<Arc<str>>>(names: impl IntoIterator<Item = T>) -> Self {
        Self::Gateways(names.into_iter().map(Into::into).collect())
    }

    /// Whether the proxy of `gateway` (`None`: a caller that is no gateway's) may see it.
    pub fn includes(&self, gateway: Option<&str>) -> bool {
        match self {
            Self::Everyone => true,
            Self::AnyGateway => gateway.is_some(),
            Self::Gateways(names) => gateway.is_some_and(|name| names.contains(name)),
        }
    }

    /// Whether everybody here is in `other` too.
    pub(super) fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Everyone) | (Self::AnyGateway | Self::Gateways(_), Self::AnyGateway) => true,
            (Self::Gateways(these), Self::Gateways(those)) => these.is_subset(those),
            (Self::Everyone, _) => false,
            (Self::AnyGateway, Self::Gateways(_)) => false,
        }
    }

    /// Everybody here or there.
    pub(super) fn union(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Everyone, _) | (_, Self::Everyone) => Self::Everyone,
            (Self::AnyGateway, _) | (_, Self::AnyGateway) => Self::AnyGateway,
            (Self::Gateways(mut these), Self::Gateways(those)) => {
                these.extend(those.iter().cloned());
                Self::Gateways(these)
            }
        }
    }
}

#[cfg(test)]
mod tests;
