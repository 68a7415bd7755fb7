//! Istio's own kinds: VirtualService, DestinationRule, Gateway, RequestAuthentication, Telemetry.

use std::sync::Arc;

use tulle_model::ServiceKey;
use tulle_route::resource::DestinationPolicy;

use crate::cluster::{Cluster, Outputs};

/// Things of Istio's kinds that give outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {}

/// Facts of Istio's objects.
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
    pub(crate) fn compute_networking(&self, source: &Source) -> Outputs {
        match *source {}
    }

    /// What DestinationRules say of a service; TLS of BackendTLSPolicies and the audience are added by the caller.
    pub(crate) fn destination_rules(&self, _service: &ServiceKey) -> Option<DestinationPolicy> {
        None
    }

    /// Services that DestinationRules are for.
    pub(crate) fn destination_rule_targets(&self) -> Vec<ServiceKey> {
        Vec::new()
    }

    /// Which Gateways (`namespace/name`) Istio's kinds send to this service from.
    pub(crate) fn networking_users(&self, _service: &ServiceKey) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// A service appeared, went, changed its ports, or has another waypoint: marks what depends on it.
    pub(crate) fn mark_networking_of_service(&mut self, _service: &ServiceKey) {}

    /// A Gateway of the Gateway API appeared, went or changed: marks what is attached to it.
    pub(crate) fn mark_networking_of_gateway(&mut self, _namespace: &Arc<str>, _name: &Arc<str>) {}
}
