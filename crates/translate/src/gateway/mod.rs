//! The Gateway API: gateways, waypoints, routes, and what their users are told.

mod deployable;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_model::ServiceKey;
use tulle_route::resource::BackendTls;

pub use deployable::{Deployable, DeployedPort};
pub use status::{
    AncestorStatus, Class, GatewayClassStatus, GatewayStatus, ListenerSetStatus, ListenerStatus,
    ParentStatus, PolicyStatus, RouteStatus, Status, StatusAddress,
};

use crate::cluster::{Cluster, Outputs};

/// Things of the Gateway API that give outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Namespace and name; likewise below. What its proxies are told, and what is deployed.
    Gateway(Arc<str>, Arc<str>),
}

/// Facts of the Gateway API's objects.
#[derive(Debug, Default)]
pub(crate) struct State {}

impl State {
    /// Nothing is known.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        true
    }

    /// All that may give outputs.
    pub(crate) fn sources(&self) -> Vec<Source> {
        Vec::new()
    }
}

impl Cluster {
    /// What a source gives.
    pub(crate) fn compute_gateway(&self, source: &Source) -> Outputs {
        match source {
            Source::Gateway(..) => Vec::new(),
        }
    }

    /// Waypoints of a service, and Gateways with routes to it (`namespace/name`).
    pub(crate) fn route_users(&self, _service: &ServiceKey) -> BTreeSet<Arc<str>> {
        BTreeSet::new()
    }

    /// Services that BackendTLSPolicies are for.
    pub(crate) fn backend_tls_targets(&self) -> BTreeSet<ServiceKey> {
        BTreeSet::new()
    }

    /// TLS to a service that a BackendTLSPolicy asks for: for all its ports (`None`), and for single ones.
    pub(crate) fn backend_tls(&self, _service: &ServiceKey) -> Vec<(Option<u16>, BackendTls)> {
        Vec::new()
    }
}
