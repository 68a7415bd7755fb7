//! How a service is used: DestinationRules and BackendTLSPolicies in one resource.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_model::ServiceKey;
use tulle_route::resource::{BackendTls, DestinationPolicy, PortPolicy, TrafficPolicy};

use super::{Cluster, Outputs, Value};
use crate::resource::{Audience, Resource};

impl Cluster {
    /// Everything of users for one service, for the proxies of each namespace that send to it.
    pub(super) fn destination(&self, service: &ServiceKey) -> Option<Outputs> {
        let tls = self.backend_tls(service);
        if tls.is_empty() && !self.has_destination_rules(service) {
            return None;
        }
        let mut clients: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for user in self.users_of(service) {
            if let Some((namespace, _)) = user.split_once('/') {
                let proxies = clients.entry(namespace.into()).or_default();
                proxies.insert(user);
            }
        }
        let outputs = clients.into_iter().filter_map(|(client, proxies)| {
            let rules = self.destination_rules(service, &client);
            if tls.is_empty() && rules.is_none() {
                return None;
            }
            let mut policy = rules.unwrap_or_else(|| DestinationPolicy {
                service: service.clone(),
                client,
                policy: TrafficPolicy::default(),
                ports: Vec::new(),
                subsets: Vec::new(),
            });
            add_tls(&mut policy, &tls);
            let resource = Resource::Destination(Box::new(policy));
            Some(Value::resource(Audience::Gateways(proxies), resource))
        });
        Some(outputs.collect())
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

/// TLS of BackendTLSPolicies, where the DestinationRule says nothing of TLS (Istio's order).
fn add_tls(policy: &mut DestinationPolicy, all: &[(Option<u16>, BackendTls)]) {
    for (port, tls) in all {
        let place = match port {
            None => &mut policy.policy.tls,
            Some(port) => &mut of_port(&mut policy.ports, *port).tls,
        };
        place.get_or_insert_with(|| tls.clone());
    }
}

fn of_port(ports: &mut Vec<PortPolicy>, port: u16) -> &mut TrafficPolicy {
    let at = match ports.iter().position(|p| p.port == port) {
        Some(at) => at,
        None => {
            ports.push(PortPolicy {
                port,
                policy: TrafficPolicy::default(),
            });
            ports.len() - 1
        }
    };
    &mut ports[at].policy
}
