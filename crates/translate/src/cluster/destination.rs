//! How a service is used: DestinationRules and BackendTLSPolicies in one resource.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_model::ServiceKey;
use tulle_route::resource::{DestinationPolicy, PortPolicy, TrafficPolicy};

use super::{Cluster, Outputs, Value};
use crate::resource::{Audience, Resource};

impl Cluster {
    /// Everything of users for one service; TLS of a BackendTLSPolicy counts before a DestinationRule's, port by port.
    pub(super) fn destination(&self, service: &ServiceKey) -> Option<Outputs> {
        let tls = self.backend_tls(service);
        let rules = self.destination_rules(service);
        if tls.is_empty() && rules.is_none() {
            return None;
        }
        let audience = self.users_of(service);
        if audience.is_empty() {
            return None;
        }
        let mut policy = rules.unwrap_or_else(|| DestinationPolicy {
            service: service.clone(),
            policy: TrafficPolicy::default(),
            ports: Vec::new(),
            subsets: Vec::new(),
        });
        for (port, tls) in tls {
            match port {
                None => policy.policy.tls = Some(tls),
                Some(port) => match policy.ports.iter_mut().find(|p| p.port == port) {
                    Some(of_port) => of_port.policy.tls = Some(tls),
                    None => policy.ports.push(PortPolicy {
                        port,
                        policy: TrafficPolicy {
                            tls: Some(tls),
                            ..TrafficPolicy::default()
                        },
                    }),
                },
            }
        }
        let resource = Resource::Destination(Box::new(policy));
        Some(vec![Value::resource(
            Audience::Gateways(audience),
            resource,
        )])
    }

    /// Gateways and waypoints (`namespace/name`) that send to a service: its own waypoints, and those with routes to it.
    pub(crate) fn users_of(&self, service: &ServiceKey) -> BTreeSet<Arc<str>> {
        let mut users = self.route_users(service);
        users.extend(self.networking_users(service));
        users
    }

    /// Services that policies of users are for.
    pub(super) fn destinations(&self) -> BTreeSet<ServiceKey> {
        let mut services = self.backend_tls_targets();
        services.extend(self.destination_rule_targets());
        services
    }
}
