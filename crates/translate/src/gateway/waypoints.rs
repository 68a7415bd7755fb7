//! Gateways as waypoints.

use tulle_api::contract::{
    LABEL_WAYPOINT_ENFORCED, LABEL_WAYPOINT_FOR, PORT_HBONE, PROTOCOL_HBONE,
};
use tulle_model::{GatewayAddress, GatewayDestination, NetworkAddress, ServiceKey};

use super::allowed::Allowed;
use super::state::{GatewayFacts, Named};
use super::status::Class;
use crate::cluster::Cluster;
use crate::waypoint::WaypointFacts;

impl Cluster {
    /// What objects see of a Gateway that they name as their waypoint. Nothing until it has an address: for a waypoint of ours
    /// that is when its Service exists and a pod is ready. What was ready once stays.
    pub(super) fn waypoint_facts(&self, named: &Named) -> Option<WaypointFacts> {
        if !self.is_discovered(&named.0) {
            return None;
        }
        let facts = self.gateway.gateways.get(named)?;
        let view = self.gateway.views.get(named);
        let own = view.filter(|view| view.class == Class::Waypoint);
        let addresses = match own {
            Some(view) => self.reached(named, facts, view).addresses,
            None => facts.reported.clone(),
        };
        let hostname = addresses.iter().find(|address| address.kind == "Hostname");
        let destination = match hostname {
            Some(hostname) => {
                GatewayDestination::Service(ServiceKey::new(&named.0, &hostname.value))
            }
            None => {
                let address = addresses
                    .iter()
                    .find_map(|address| address.value.parse().ok())?;
                GatewayDestination::Address(NetworkAddress::host(self.network.clone(), address))
            }
        };
        let (services, workloads) = self.serves(facts);
        let enforced = facts.labels.get(LABEL_WAYPOINT_ENFORCED);
        Some(WaypointFacts {
            address: GatewayAddress {
                destination,
                hbone_port: PORT_HBONE,
            },
            services,
            workloads,
            allowed: allowed(facts),
            enforced: enforced.is_some_and(|value| **value == *"true"),
            ours: own.is_some(),
        })
    }

    /// Whether a waypoint serves services and workloads: its own label, else its class's, else services.
    pub(super) fn serves(&self, facts: &GatewayFacts) -> (bool, bool) {
        let class = self
            .gateway
            .classes
            .get(facts.spec.gateway_class_name.as_str());
        let of_class = class.and_then(|class| class.waypoint_for.as_ref());
        let label = facts.labels.get(LABEL_WAYPOINT_FOR).or(of_class);
        match label.map_or("service", |label| &**label) {
            "service" => (true, false),
            "workload" => (false, true),
            "all" => (true, true),
            _ => (false, false),
        }
    }

    /// A Gateway whose class is known, and somebody else's.
    pub(super) fn is_foreign(&self, named: &Named) -> bool {
        let facts = self.gateway.gateways.get(named);
        let class = facts.map(|facts| facts.spec.gateway_class_name.as_str());
        class.is_some_and(|class| {
            self.gateway.classes.contains_key(class) && self.class_of(class).is_none()
        })
    }
}

/// Who may attach: as the HBONE listener says, else its own namespace.
fn allowed(facts: &GatewayFacts) -> Allowed {
    let mut listeners = facts.spec.listeners.iter();
    let hbone = listeners.find(|l| l.protocol == PROTOCOL_HBONE && l.port == i64::from(PORT_HBONE));
    let namespaces = hbone.and_then(|l| l.allowed_routes.as_ref()?.namespaces.as_ref());
    Allowed::of(namespaces, Allowed::Same)
}
