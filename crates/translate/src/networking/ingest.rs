//! Istio's objects in: kept, and what may depend on them is marked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::contract::ANNOTATION_DRY_RUN;
use tulle_api::networking::{DestinationRule, Gateway, VirtualService, VirtualServiceSpec};
use tulle_api::rate_limit::RateLimitPolicy;
use tulle_api::security::{AuthorizationPolicy, RequestAuthentication};
use tulle_api::telemetry::Telemetry;

use super::virtual_service::Mentioned;
use super::{Authorization, Name, Object, Source, State};
use crate::authorization::truth;
use crate::cluster::{self, Cluster};
use crate::labels::Labels;
use crate::service::created;

fn object<T: Clone>(meta: &ObjectMeta, spec: &T) -> Object<T> {
    Object {
        spec: spec.clone(),
        created: created(meta),
        generation: meta.generation,
    }
}

/// Replaces or removes; true when anything changed. Nothing that did not change is kept twice.
fn put<T: PartialEq>(
    table: &mut BTreeMap<Name, T>,
    name: &Name,
    new: Option<T>,
) -> Option<Option<T>> {
    match new {
        Some(new) if table.get(name) == Some(&new) => None,
        Some(new) => Some(table.insert(name.clone(), new)),
        None => table.remove(name).map(Some),
    }
}

impl Cluster {
    /// A VirtualService that was added or changed.
    pub fn upsert_virtual_service(&mut self, resource: &VirtualService) {
        if let Some(name) = self.names(&resource.metadata) {
            self.set_virtual_service(&name, Some(object(&resource.metadata, &resource.spec)));
        }
    }

    /// A VirtualService that is gone.
    pub fn remove_virtual_service(&mut self, namespace: &str, name: &str) {
        self.set_virtual_service(&(namespace.into(), name.into()), None);
    }

    fn set_virtual_service(&mut self, name: &Name, new: Option<Object<VirtualServiceSpec>>) {
        let mentioned = |cluster: &Self, object: Option<&Object<VirtualServiceSpec>>| {
            object.map_or_else(Mentioned::default, |object| {
                cluster.mentioned(name, &object.spec)
            })
        };
        let after = mentioned(&*self, new.as_ref());
        let gone = new.is_none();
        let Some(old) = put(&mut self.networking.virtual_services, name, new) else {
            return;
        };
        let before = mentioned(&*self, old.as_ref());
        let roots: Vec<Name> = self.networking.mentions.roots(name).cloned().collect();
        self.networking.mentions.remove(name, &before);
        self.networking.mentions.insert(name, &after);
        self.forget_if(gone, Source::VirtualService(name.clone()));
        // Wildcards step back where an exact name is routed; delegates are told who uses them.
        let mut touched: BTreeSet<Name> = roots
            .into_iter()
            .chain(self.networking.mentions.wild().cloned())
            .collect();
        touched.insert(name.clone());
        for object in [&before, &after] {
            touched.extend(object.delegates().cloned());
        }
        let sources = touched
            .into_iter()
            .map(|name| cluster::Source::Networking(Source::VirtualService(name)));
        self.dirty.extend(sources);
        // Who sends to a service gets its destination.
        let hosts: BTreeSet<Arc<str>> = before.hosts().chain(after.hosts()).cloned().collect();
        self.mark_destinations_of_hosts(hosts);
        let below = before.delegates().chain(after.delegates()).cloned();
        self.mark_destinations_of_routes(&below.collect());
        self.mark_certificates();
        if before.is_wild() || after.is_wild() {
            for service in self.destination_rule_targets() {
                self.dirty.insert(cluster::Source::Destination(service));
            }
        }
    }

    /// A DestinationRule that was added or changed.
    pub fn upsert_destination_rule(&mut self, resource: &DestinationRule) {
        if let Some(name) = self.names(&resource.metadata) {
            self.set_destination_rule(&name, Some(object(&resource.metadata, &resource.spec)));
        }
    }

    /// A DestinationRule that is gone.
    pub fn remove_destination_rule(&mut self, namespace: &str, name: &str) {
        self.set_destination_rule(&(namespace.into(), name.into()), None);
    }

    fn set_destination_rule(
        &mut self,
        name: &Name,
        new: Option<Object<tulle_api::networking::DestinationRuleSpec>>,
    ) {
        let host = new
            .as_ref()
            .map(|object| self.qualified(&object.spec.host, &name.0));
        self.mark_certificates();
        let gone = new.is_none();
        let Some(old) = put(&mut self.networking.destination_rules, name, new) else {
            return;
        };
        // Before and after: what is no longer named is taken away.
        self.mark_certificates();
        let before = old.map(|object| self.qualified(&object.spec.host, &name.0));
        let mut services = BTreeSet::new();
        for host in before.iter().chain(&host) {
            services.extend(self.services_covered(host));
        }
        let State { rules_by_host, .. } = &mut self.networking;
        if let Some(before) = &before
            && let Some(names) = rules_by_host.get_mut(before)
        {
            names.remove(name);
            if names.is_empty() {
                rules_by_host.remove(before);
            }
        }
        if let Some(host) = host {
            rules_by_host.entry(host).or_default().insert(name.clone());
        }
        self.forget_if(gone, Source::DestinationRule(name.clone()));
        let rivals: BTreeSet<Name> = services
            .iter()
            .flat_map(|service| self.networking.rules_of(service.hostname()))
            .map(|(name, _)| name.clone())
            .chain([name.clone()])
            .collect();
        self.dirty.extend(
            rivals
                .into_iter()
                .map(|name| cluster::Source::Networking(Source::DestinationRule(name))),
        );
        self.dirty
            .extend(services.into_iter().map(cluster::Source::Destination));
    }

    /// A Gateway of networking.istio.io that was added or changed.
    pub fn upsert_istio_gateway(&mut self, resource: &Gateway) {
        if let Some(name) = self.names(&resource.metadata) {
            self.set_istio_gateway(&name, Some(object(&resource.metadata, &resource.spec)));
        }
    }

    /// A Gateway of networking.istio.io that is gone.
    pub fn remove_istio_gateway(&mut self, namespace: &str, name: &str) {
        self.set_istio_gateway(&(namespace.into(), name.into()), None);
    }

    fn set_istio_gateway(
        &mut self,
        name: &Name,
        new: Option<Object<tulle_api::networking::GatewaySpec>>,
    ) {
        let selector = |object: &Object<tulle_api::networking::GatewaySpec>| {
            Labels::from_pairs(&object.spec.selector)
        };
        let after = new.as_ref().map(selector);
        // Secrets that are no longer named must be taken away, too.
        self.mark_certificates();
        let gone = new.is_none();
        let Some(old) = put(&mut self.networking.gateways, name, new) else {
            return;
        };
        self.forget_if(gone, Source::Gateway(name.clone()));
        let before = old.as_ref().map(selector);
        self.select_proxies(name, before.as_ref(), after.as_ref());
        self.dirty
            .insert(cluster::Source::Networking(Source::Gateway(name.clone())));
        self.mark_proxies();
    }

    /// A RequestAuthentication that was added or changed.
    pub fn upsert_request_authentication(&mut self, resource: &RequestAuthentication) {
        let Some(name) = self.names(&resource.metadata) else {
            return;
        };
        let new = object(&resource.metadata, &resource.spec);
        if put(&mut self.networking.authentications, &name, Some(new)).is_some() {
            self.dirty
                .insert(cluster::Source::Networking(Source::Authentication(name)));
        }
    }

    /// A RequestAuthentication that is gone.
    pub fn remove_request_authentication(&mut self, namespace: &str, name: &str) {
        let name: Name = (namespace.into(), name.into());
        if put(&mut self.networking.authentications, &name, None).is_some() {
            self.forget_if(true, Source::Authentication(name.clone()));
            self.dirty
                .insert(cluster::Source::Networking(Source::Authentication(name)));
        }
    }

    /// A RateLimitPolicy that was added or changed.
    pub fn upsert_rate_limit_policy(&mut self, resource: &RateLimitPolicy) {
        let Some(name) = self.names(&resource.metadata) else {
            return;
        };
        let new = object(&resource.metadata, &resource.spec);
        if put(&mut self.networking.rate_limits, &name, Some(new)).is_some() {
            self.dirty
                .insert(cluster::Source::Networking(Source::RateLimit(name)));
        }
    }

    /// A RateLimitPolicy that is gone.
    pub fn remove_rate_limit_policy(&mut self, namespace: &str, name: &str) {
        let name: Name = (namespace.into(), name.into());
        if put(&mut self.networking.rate_limits, &name, None).is_some() {
            self.forget_if(true, Source::RateLimit(name.clone()));
            self.dirty
                .insert(cluster::Source::Networking(Source::RateLimit(name)));
        }
    }

    /// A Telemetry that was added or changed.
    pub fn upsert_telemetry(&mut self, resource: &Telemetry) {
        if let Some(name) = self.names(&resource.metadata) {
            self.set_telemetry(name, Some(object(&resource.metadata, &resource.spec)));
        }
    }

    /// A Telemetry that is gone.
    pub fn remove_telemetry(&mut self, namespace: &str, name: &str) {
        self.set_telemetry((namespace.into(), name.into()), None);
    }

    fn set_telemetry(
        &mut self,
        name: Name,
        new: Option<Object<tulle_api::telemetry::TelemetrySpec>>,
    ) {
        let gone = new.is_none();
        if put(&mut self.networking.telemetries, &name, new).is_none() {
            return;
        }
        self.forget_if(gone, Source::Telemetry(name.clone()));
        // Of several for one place only one counts, and the others are told.
        let rivals = self
            .networking
            .telemetries
            .keys()
            .filter(|(namespace, _)| *namespace == name.0);
        let mut sources: Vec<Source> = rivals.cloned().map(Source::Telemetry).collect();
        sources.push(Source::Telemetry(name));
        sources.extend(self.report_names().into_iter().map(Source::Reports));
        self.dirty
            .extend(sources.into_iter().map(cluster::Source::Networking));
    }

    /// Keeps a whole AuthorizationPolicy, for what is beyond layer 4; its source is marked by the caller when this says so.
    pub(crate) fn keep_authorization(
        &mut self,
        name: &Name,
        resource: Option<&AuthorizationPolicy>,
    ) -> bool {
        let new = resource.map(|resource| {
            let annotations = resource.metadata.annotations.as_ref();
            let dry_run = annotations.and_then(|a| a.get(ANNOTATION_DRY_RUN));
            Authorization {
                object: object(&resource.metadata, &resource.spec),
                dry_run: dry_run.is_some_and(|text| truth(text)),
            }
        });
        put(&mut self.networking.authorizations, name, new).is_some()
    }

    /// An object is gone, and its status with it.
    fn forget_if(&mut self, gone: bool, source: Source) {
        if gone {
            self.forget_conditions(&cluster::Source::Networking(source));
        }
    }
}
