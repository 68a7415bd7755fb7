//! Istio's own kinds: VirtualService, DestinationRule, Gateway, RequestAuthentication, Telemetry, and AuthorizationPolicy for
//! waypoints and gateways.
//!
//! Objects are kept as they were written: they are few, and what they mean depends on services, waypoints and gateway pods.
//! Services and hosts lead to the objects that mention them; when a gateway appears or goes, everything here is looked at again.

mod addresses;
mod authentication;
mod authorization;
mod destination_rule;
pub(crate) mod findings;
mod gateway;
mod ingest;
pub(crate) mod names;
mod proxies;
mod rate_limit;
mod secrets;
mod settings;
mod targets;
mod telemetry;
mod virtual_service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_api::networking::{DestinationRuleSpec, GatewaySpec, VirtualServiceSpec};
use tulle_api::rate_limit::RateLimitPolicySpec;
use tulle_api::security::{AuthorizationPolicySpec, RequestAuthenticationSpec};
use tulle_api::telemetry::TelemetrySpec;
use tulle_model::ServiceKey;

use crate::cluster::{self, Cluster, Key, Outputs, Value};
use crate::condition::{Condition, ObjectKind, ObjectRef};
use crate::service::ServiceSource;
pub use addresses::HostAddresses;

use addresses::Allocations;
use proxies::Proxies;
use virtual_service::Mentions;

/// Namespace and name.
pub(crate) type Name = (Arc<str>, Arc<str>);

/// Things of Istio's kinds that give outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    VirtualService(Name),
    /// The condition of a DestinationRule; what it says is part of its services' destinations.
    DestinationRule(Name),
    /// The condition of an Istio Gateway.
    Gateway(Name),
    /// Listeners of gateway pods that a user made.
    Proxy(Name),
    Authentication(Name),
    RateLimit(Name),
    /// The condition of a Telemetry.
    Telemetry(Name),
    /// What the proxies of one Gateway report.
    Reports(Name),
    /// What holds for all proxies.
    Settings,
}

/// An object as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object<T> {
    pub(crate) spec: T,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) generation: Option<i64>,
}

/// Istio's objects.
#[derive(Debug, Default)]
pub(crate) struct State {
    virtual_services: BTreeMap<Name, Object<VirtualServiceSpec>>,
    mentions: Mentions,
    destination_rules: BTreeMap<Name, Object<DestinationRuleSpec>>,
    /// DestinationRules by the full name of their host, which may have a wildcard.
    rules_by_host: BTreeMap<Arc<str>, BTreeSet<Name>>,
    gateways: BTreeMap<Name, Object<GatewaySpec>>,
    proxies: Proxies,
    authentications: BTreeMap<Name, Object<RequestAuthenticationSpec>>,
    rate_limits: BTreeMap<Name, Object<RateLimitPolicySpec>>,
    telemetries: BTreeMap<Name, Object<TelemetrySpec>>,
    /// Whole AuthorizationPolicies, for what is beyond layer 4.
    authorizations: BTreeMap<Name, Authorization>,
    /// Virtual addresses of ServiceEntries.
    allocations: Allocations,
}

/// An AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq)]
struct Authorization {
    object: Object<AuthorizationPolicySpec>,
    dry_run: bool,
}

impl State {
    /// Nothing is known.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        self.virtual_services.is_empty()
            && self.mentions.is_empty()
            && self.destination_rules.is_empty()
            && self.rules_by_host.is_empty()
            && self.gateways.is_empty()
            && self.proxies.is_empty()
            && self.authentications.is_empty()
            && self.rate_limits.is_empty()
            && self.telemetries.is_empty()
            && self.authorizations.is_empty()
            && self.allocations.is_empty()
    }

    fn sources(&self) -> Vec<Source> {
        let mut sources = vec![Source::Settings];
        sources.extend(
            self.virtual_services
                .keys()
                .cloned()
                .map(Source::VirtualService),
        );
        sources.extend(
            self.destination_rules
                .keys()
                .cloned()
                .map(Source::DestinationRule),
        );
        sources.extend(self.gateways.keys().cloned().map(Source::Gateway));
        sources.extend(
            self.authentications
                .keys()
                .cloned()
                .map(Source::Authentication),
        );
        sources.extend(self.rate_limits.keys().cloned().map(Source::RateLimit));
        sources.extend(self.telemetries.keys().cloned().map(Source::Telemetry));
        sources.extend(
            self.proxies
                .iter()
                .map(|(name, _)| Source::Proxy(name.clone())),
        );
        sources
    }
}

/// Conditions of an object.
fn conditions(kind: ObjectKind, name: &Name, conditions: Vec<Condition>) -> (Key, Value) {
    let object = ObjectRef {
        kind,
        namespace: name.0.clone(),
        name: name.1.clone(),
    };
    (Key::Conditions(object), Value::Conditions(conditions))
}

impl Cluster {
    /// All that may give outputs.
    pub(crate) fn networking_sources(&self) -> Vec<Source> {
        let mut sources = self.networking.sources();
        sources.extend(self.report_names().into_iter().map(Source::Reports));
        sources
    }

    /// What a source gives.
    pub(crate) fn compute_networking(&self, source: &Source) -> Outputs {
        let outputs = match source {
            Source::VirtualService(name) => self.virtual_service(name),
            Source::DestinationRule(name) => self.destination_rule(name),
            Source::Gateway(name) => self.istio_gateway(name),
            Source::Proxy(name) => self.proxy(name),
            Source::Authentication(name) => self.authentication(name),
            Source::RateLimit(name) => self.rate_limit(name),
            Source::Telemetry(name) => self.telemetry(name),
            Source::Reports(name) => self.reports(name),
            Source::Settings => Some(self.proxy_settings()),
        };
        outputs.unwrap_or_default()
    }

    /// Which Gateways (`namespace/name`) Istio's kinds send to this service from.
    pub(crate) fn networking_users(&self, service: &ServiceKey) -> BTreeSet<Arc<str>> {
        let objects = self.networking.mentions.of_host(service.hostname());
        objects.flat_map(|name| self.attachments(name)).collect()
    }

    /// The gateway (`namespace/name`) that a pod belongs to, when a user made it.
    pub(crate) fn networking_gateway_of(&self, namespace: &str, pod: &str) -> Option<Arc<str>> {
        let (namespace, name) = self.networking.proxies.of_pod(namespace, pod)?;
        Some(format!("{namespace}/{name}").into())
    }

    /// A service appeared, went, changed its ports, or has another waypoint: marks what depends on it.
    pub(crate) fn mark_networking_of_service(&mut self, service: &ServiceKey) {
        let hostname = service.hostname();
        let state = &self.networking;
        let mut routes: BTreeSet<Name> = state.mentions.of_host(hostname).cloned().collect();
        let roots: Vec<Name> = routes
            .iter()
            .flat_map(|name| state.mentions.roots(name))
            .cloned()
            .collect();
        routes.extend(roots);
        let rules = state.rules_of(hostname).map(|(name, _)| name.clone());
        let mut marked: Vec<Source> = rules.map(Source::DestinationRule).collect();
        marked.extend(routes.iter().cloned().map(Source::VirtualService));
        let namespace = service.namespace();
        let own = |name: &&Name| *name.0 == *namespace;
        marked.extend(
            state
                .authentications
                .keys()
                .filter(own)
                .cloned()
                .map(Source::Authentication),
        );
        let limits = state.rate_limits.keys().filter(own);
        marked.extend(limits.cloned().map(Source::RateLimit));
        marked.extend(
            state
                .telemetries
                .keys()
                .filter(own)
                .cloned()
                .map(Source::Telemetry),
        );
        let policies: Vec<Name> = state.authorizations.keys().filter(own).cloned().collect();
        let reports = state
            .telemetries
            .values()
            .any(|object| !targets::references(&object.spec).is_empty());
        let names = self.report_names();
        marked.extend(names.into_iter().filter(|_| reports).map(Source::Reports));
        if self.settings.names_host(hostname) {
            marked.push(Source::Settings);
        }
        self.dirty
            .extend(marked.into_iter().map(cluster::Source::Networking));
        self.dirty.extend(
            policies
                .into_iter()
                .map(|(ns, name)| cluster::Source::Authorization(ns, name)),
        );
        self.dirty
            .insert(cluster::Source::Destination(service.clone()));
        self.mark_destinations_of_routes(&routes);
        self.mark_certificates();
    }

    /// Routes have other receivers: so have the destinations of what they send to, those of delegates included.
    fn mark_destinations_of_routes(&mut self, routes: &BTreeSet<Name>) {
        let objects = &self.networking.virtual_services;
        let mut hosts: BTreeSet<Arc<str>> = BTreeSet::new();
        for (name, object) in routes.iter().filter_map(|name| objects.get_key_value(name)) {
            let mentioned = self.mentioned(name, &object.spec);
            hosts.extend(mentioned.hosts().cloned());
            for (name, below) in mentioned
                .delegates()
                .filter_map(|name| objects.get_key_value(name))
            {
                hosts.extend(self.mentioned(name, &below.spec).hosts().cloned());
            }
        }
        self.mark_destinations_of_hosts(hosts);
    }

    fn mark_destinations_of_hosts(&mut self, hosts: BTreeSet<Arc<str>>) {
        let services = hosts.iter().flat_map(|host| self.services_of_host(host));
        let marked: Vec<ServiceKey> = services.map(|service| service.key.clone()).collect();
        self.dirty
            .extend(marked.into_iter().map(cluster::Source::Destination));
    }

    /// A Gateway of the Gateway API appeared, went or changed: marks what is attached to it.
    pub(crate) fn mark_networking_of_gateway(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        self.dirty
            .insert(cluster::Source::Networking(Source::Reports((
                namespace.clone(),
                name.clone(),
            ))));
        self.mark_proxies();
    }

    /// Which proxies there are changed, or which namespaces count: everything here may have other receivers.
    pub(crate) fn mark_proxies(&mut self) {
        let sources = self.networking_sources();
        self.dirty
            .extend(sources.into_iter().map(cluster::Source::Networking));
        let policies = self.networking.authorizations.keys();
        self.dirty.extend(
            policies.map(|(ns, name)| cluster::Source::Authorization(ns.clone(), name.clone())),
        );
        self.mark_certificates();
        for service in self.destination_rule_targets() {
            self.dirty.insert(cluster::Source::Destination(service));
        }
    }

    /// Endpoints inside of a ServiceEntry changed: subsets of its services may have others in them.
    pub(crate) fn mark_entry_destinations(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        let services = self
            .namespaces
            .get(namespace)
            .map(|state| state.services.values());
        let own = services
            .into_iter()
            .flatten()
            .filter(|s| s.id.source == ServiceSource::Entry && s.id.name == *name);
        let marked: Vec<ServiceKey> = own.map(|service| service.key.clone()).collect();
        self.dirty
            .extend(marked.into_iter().map(cluster::Source::Destination));
    }

    /// Labels of a pod or entry came or went: services with subsets may have other endpoints in them.
    pub(crate) fn mark_networking_of_workload(
        &mut self,
        namespace: &Arc<str>,
        labels: &crate::labels::Labels,
    ) {
        if self.networking.rules_by_host.is_empty() {
            return;
        }
        let Some(state) = self.namespaces.get(namespace) else {
            return;
        };
        let selected = state
            .service_selectors
            .selecting(labels)
            .filter_map(|id| state.services.get(id));
        let subsetted = selected.filter(|service| {
            self.networking
                .rules_of(&service.id.hostname)
                .next()
                .is_some()
        });
        let marked: Vec<ServiceKey> = subsetted.map(|service| service.key.clone()).collect();
        self.dirty
            .extend(marked.into_iter().map(cluster::Source::Destination));
    }
}
