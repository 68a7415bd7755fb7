//! Which outputs depend on what changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::contract::{LABEL_GATEWAY_NAME, LABEL_USE_WAYPOINT};
use tulle_model::ServiceKey;

use super::backends::backend_keys;
use super::listeners::View;
use super::parents::parent_key;
use super::state::{BackendKey, Named, ParentKey, RouteFacts, State};
use super::{RouteId, Source};
use crate::cluster::{Cluster, Source as AnySource};
use crate::condition::ObjectKind;
use crate::labels::Labels;
use crate::service::{ServiceId, ServiceSource};
use crate::waypoint::UseWaypoint;

impl Cluster {
    /// Brings views up to date, and marks what sees the difference.
    pub(crate) fn refresh_gateways(&mut self) {
        for named in std::mem::take(&mut self.gateway.stale) {
            let view = self.view(&named);
            let old = self.gateway.views.get(&named);
            if old != view.as_ref() {
                self.replace_view(&named, view);
            }
            self.mark_gateway_outputs(&named);
            let foreign = self.is_foreign(&named);
            let turned = match foreign {
                true => self.gateway.foreign.insert(named.clone()),
                false => self.gateway.foreign.remove(&named),
            };
            if turned {
                self.mark_users_of_waypoint(&named);
            }
            let waypoint = self.waypoint_facts(&named);
            if self.gateway.waypoints.get(&named) != waypoint.as_ref() {
                match waypoint {
                    Some(waypoint) => self.gateway.waypoints.insert(named.clone(), waypoint),
                    None => self.gateway.waypoints.remove(&named),
                };
                self.mark_users_of_waypoint(&named);
            }
        }
    }

    fn replace_view(&mut self, named: &Named, view: Option<View>) {
        let old = match view {
            Some(view) => {
                self.relate_services(named, &view.services, true);
                let services: Vec<Arc<str>> = view.services.clone();
                self.mark_parts(named, &view);
                let old = self.gateway.views.insert(named.clone(), view);
                if let Some(old) = &old {
                    let gone: Vec<_> = old
                        .services
                        .iter()
                        .filter(|s| !services.contains(s))
                        .cloned()
                        .collect();
                    self.relate_services(named, &gone, false);
                }
                old
            }
            None => {
                let old = self.gateway.views.remove(named);
                if let Some(old) = &old {
                    let services = old.services.clone();
                    self.relate_services(named, &services, false);
                }
                old
            }
        };
        if let Some(old) = &old {
            self.mark_parts(named, old);
        }
        self.mark_routes_of(&ParentKey::Gateway(named.clone()));
        self.mark_networking_of_gateway(&named.0, &named.1);
    }

    fn relate_services(&mut self, named: &Named, services: &[Arc<str>], there: bool) {
        for service in services {
            let table = &mut self.gateway.gateways_by_service;
            State::relate(table, service.clone(), named.clone(), there);
        }
    }

    /// Certificates and ListenerSets of a view, and what hangs on the latter.
    fn mark_parts(&mut self, named: &Named, view: &View) {
        for name in view.certificates() {
            if let Some((namespace, name)) = name.split_once('/') {
                let source = Source::Certificate(namespace.into(), name.into());
                self.dirty.insert(AnySource::Gateway(source));
            }
        }
        let attached = self
            .gateway
            .sets_by_gateway
            .get(named)
            .into_iter()
            .flatten();
        let sets: BTreeSet<Named> = view.sets.keys().chain(attached).cloned().collect();
        for set in sets {
            self.mark_routes_of(&ParentKey::ListenerSet(set));
        }
    }

    fn mark_gateway_outputs(&mut self, (namespace, name): &Named) {
        let gateway = Source::Gateway(namespace.clone(), name.clone());
        let status = Source::GatewayStatus(namespace.clone(), name.clone());
        self.mark_gateway_source(gateway);
        self.mark_gateway_source(status);
        let named = (namespace.clone(), name.clone());
        let sets = self
            .gateway
            .sets_by_gateway
            .get(&named)
            .cloned()
            .unwrap_or_default();
        for (namespace, name) in sets {
            self.mark_gateway_source(Source::ListenerSet(namespace, name));
        }
    }

    pub(super) fn mark_gateway_source(&mut self, source: Source) {
        self.dirty.insert(AnySource::Gateway(source));
    }

    fn mark_routes_of(&mut self, parent: &ParentKey) {
        let routes = self
            .gateway
            .routes_by_parent
            .get(parent)
            .cloned()
            .unwrap_or_default();
        for id in routes {
            self.mark_route(&id);
        }
    }

    /// A route is to be looked at again, and with it how its backends are used.
    pub(super) fn mark_route(&mut self, id: &RouteId) {
        self.mark_gateway_source(Source::Route(id.clone()));
        if let Some(facts) = self.gateway.routes.get(id) {
            let keys = backend_keys(facts, &id.namespace, &self.settings.domain);
            self.mark_backends(keys);
        }
    }

    /// How services are used may have changed.
    pub(super) fn mark_backends(&mut self, keys: BTreeSet<BackendKey>) {
        let services: Vec<ServiceKey> = keys
            .iter()
            .flat_map(|key| self.services_behind(key))
            .collect();
        for service in services {
            self.mark_destination(&service);
        }
    }

    /// How a service is used, and what users of its policies are told.
    pub(crate) fn mark_destination(&mut self, service: &ServiceKey) {
        for (namespace, name) in self.tls_policies_in(service.namespace()) {
            self.mark_gateway_source(Source::BackendTls(namespace, name));
        }
        self.dirty.insert(AnySource::Destination(service.clone()));
    }

    /// Routes that appear, change or go: what their parents' users are told.
    pub(super) fn mark_parents(&mut self, facts: &RouteFacts, namespace: &Arc<str>) {
        for parent in &facts.parents {
            match parent_key(parent, namespace) {
                Some(ParentKey::Gateway((namespace, name))) => {
                    self.mark_gateway_source(Source::GatewayStatus(namespace, name));
                }
                Some(ParentKey::ListenerSet((namespace, name))) => {
                    self.mark_gateway_source(Source::ListenerSet(namespace, name));
                }
                _ => {}
            }
        }
    }

    /// A service appeared, changed or went.
    pub(crate) fn mark_gateway_service(&mut self, namespace: &Arc<str>, id: &ServiceId) {
        let named = (namespace.clone(), id.name.clone());
        let (parent, entry) = match id.source {
            ServiceSource::Kubernetes => (ParentKey::Service(named), None),
            ServiceSource::Entry => (
                ParentKey::ServiceEntry(named.clone()),
                Some(BackendKey::ServiceEntry(named)),
            ),
        };
        self.mark_routes_of(&parent);
        let keys = [Some(BackendKey::Hostname(id.hostname.clone())), entry];
        for key in keys.into_iter().flatten() {
            let routes = self
                .gateway
                .routes_by_backend
                .get(&key)
                .cloned()
                .unwrap_or_default();
            for route in routes {
                self.mark_gateway_source(Source::Route(route));
            }
        }
        let gateways = self.gateway.gateways_by_service.get(&id.hostname).cloned();
        self.gateway.stale.extend(gateways.into_iter().flatten());
        let key = ServiceKey::new(namespace, &id.hostname);
        self.mark_destination(&key);
        self.mark_networking_of_service(&key);
    }

    /// A pod appeared, changed or went: whether the Gateway that its label names has one that is ready.
    pub(crate) fn relate_gateway_pod(
        &mut self,
        namespace: &Arc<str>,
        pod: &Arc<str>,
        old: Option<&Labels>,
        new: Option<&Labels>,
    ) {
        let gateway = |labels: Option<&Labels>| {
            let name = labels.and_then(|labels| labels.get(LABEL_GATEWAY_NAME))?;
            Some((namespace.clone(), name.clone()))
        };
        for labels in [old, new].into_iter().flatten() {
            self.mark_gateways_through_services(namespace, labels);
        }
        let (old, new) = (gateway(old), gateway(new));
        if let Some(old) = old.filter(|old| new.as_ref() != Some(old)) {
            State::relate(&mut self.gateway.pods, old.clone(), pod.clone(), false);
            self.gateway.stale.insert(old);
        }
        if let Some(new) = new {
            State::relate(&mut self.gateway.pods, new.clone(), pod.clone(), true);
            self.gateway.stale.insert(new);
        }
    }

    /// A pod of a Service that leads to a Gateway: a named port of it may be where the Gateway listens.
    fn mark_gateways_through_services(&mut self, namespace: &Arc<str>, labels: &Labels) {
        let Some(state) = self.namespaces.get(namespace) else {
            return;
        };
        if self.gateway.gateways_by_service.is_empty() {
            return;
        }
        let services = state.service_selectors.selecting(labels);
        let gateways = services.filter_map(|id| self.gateway.gateways_by_service.get(&id.hostname));
        let gateways: Vec<Named> = gateways.flatten().cloned().collect();
        self.gateway.stale.extend(gateways);
    }

    /// Labels or annotations of a namespace changed: who may attach where, and what its objects inherit.
    pub(crate) fn mark_gateway_namespace(&mut self, namespace: &Arc<str>) {
        let sets = self
            .gateway
            .sets
            .iter()
            .filter(|(named, _)| named.0 == *namespace);
        let gateways: Vec<Named> = sets
            .filter_map(|(named, set)| super::told::set_gateway(named, &set.spec))
            .collect();
        self.gateway.stale.extend(gateways);
        let routes: Vec<RouteId> = self
            .gateway
            .routes
            .keys()
            .filter(|id| id.namespace == *namespace)
            .cloned()
            .collect();
        for id in routes {
            self.mark_route(&id);
            if let Some(facts) = self.gateway.routes.get(&id).cloned() {
                self.mark_parents(&facts, namespace);
            }
        }
        let Some(state) = self.namespaces.get(namespace) else {
            return;
        };
        let users: Vec<(ObjectKind, Arc<str>)> = state.waypoint_users.keys().cloned().collect();
        let pods = state.pods.keys().cloned();
        let pods: Vec<AnySource> = pods
            .map(|pod| AnySource::Pod(namespace.clone(), pod))
            .collect();
        self.dirty.extend(pods);
        for (kind, name) in users {
            self.mark_waypoint_user(kind, namespace, &name);
        }
    }

    /// Whether the mesh looks at a namespace changed.
    pub(crate) fn mark_gateway_discovery(&mut self, namespace: &Arc<str>) {
        let own = self
            .gateway
            .gateways
            .keys()
            .filter(|named| named.0 == *namespace);
        let own: Vec<Named> = own.cloned().collect();
        self.gateway.stale.extend(own);
        let services = self.namespaces.get(namespace).map(|state| &state.services);
        let services: Vec<ServiceId> = services
            .into_iter()
            .flat_map(|s| s.keys())
            .cloned()
            .collect();
        for id in services {
            self.mark_gateway_service(namespace, &id);
        }
        let policies: Vec<Named> = self.tls_policies_in(namespace);
        for (namespace, name) in policies {
            self.mark_gateway_source(Source::BackendTls(namespace, name));
        }
        self.mark_gateway_namespace(namespace);
    }

    /// Settings changed.
    pub(crate) fn mark_all_gateways(&mut self) {
        let all = self
            .gateway
            .gateways
            .keys()
            .chain(self.gateway.views.keys());
        let all: Vec<Named> = all.cloned().collect();
        self.gateway.stale.extend(all);
    }

    /// A waypoint became ready, went, or serves others than before.
    fn mark_users_of_waypoint(&mut self, waypoint: &Named) {
        let (mut users, mut workloads) = (Vec::new(), Vec::new());
        for (namespace, state) in &self.namespaces {
            let inherited = state.facts.waypoint.names(waypoint, namespace);
            let uses =
                |own: &UseWaypoint| own.names(waypoint, namespace) || (inherited && own.is_unset());
            for ((kind, name), (own, _)) in &state.waypoint_users {
                if uses(own) {
                    users.push((*kind, namespace.clone(), name.clone()));
                }
            }
            for (name, pod) in &state.pods {
                let labelled = pod.labels.get(LABEL_USE_WAYPOINT).is_some();
                if if labelled {
                    uses(&UseWaypoint::of(&pod.labels))
                } else {
                    inherited
                } {
                    workloads.push(AnySource::Pod(namespace.clone(), name.clone()));
                }
            }
        }
        // Its own pods are no longer, or only now, those of a waypoint.
        let own = self.gateway.pods.get(waypoint).into_iter().flatten();
        workloads.extend(own.map(|pod| AnySource::Pod(waypoint.0.clone(), pod.clone())));
        self.dirty.extend(workloads);
        for (kind, namespace, name) in users {
            self.mark_waypoint_user(kind, &namespace, &name);
        }
    }

    /// Which waypoint an object has may have changed.
    pub(crate) fn mark_waypoint_user(
        &mut self,
        kind: ObjectKind,
        namespace: &Arc<str>,
        name: &Arc<str>,
    ) {
        self.dirty
            .insert(AnySource::Waypoint(kind, namespace.clone(), name.clone()));
        let source = match kind {
            ObjectKind::Service => ServiceSource::Kubernetes,
            ObjectKind::ServiceEntry => {
                self.dirty
                    .insert(AnySource::EntryEndpoints(namespace.clone(), name.clone()));
                ServiceSource::Entry
            }
            _ => {
                self.dirty
                    .insert(AnySource::WorkloadEntry(namespace.clone(), name.clone()));
                return;
            }
        };
        let services: Vec<ServiceId> = self.services_named(namespace, source, name);
        for id in services {
            self.dirty.insert(AnySource::Hostname(id.hostname.clone()));
            let key = ServiceKey::new(namespace, &id.hostname);
            self.mark_destination(&key);
            self.mark_networking_of_service(&key);
        }
        let named = (namespace.clone(), name.clone());
        self.mark_routes_of(&match source {
            ServiceSource::Kubernetes => ParentKey::Service(named),
            ServiceSource::Entry => ParentKey::ServiceEntry(named),
        });
    }

    /// Services that one object gives.
    pub(crate) fn services_named(
        &self,
        namespace: &str,
        source: ServiceSource,
        name: &Arc<str>,
    ) -> Vec<ServiceId> {
        let Some(state) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        if source == ServiceSource::Kubernetes {
            let hostname = self.hostname(name, namespace);
            let id = state
                .service(name, &hostname)
                .map(|service| service.id.clone());
            return id.into_iter().collect();
        }
        let own = state
            .services
            .keys()
            .filter(|id| id.source == source && id.name == *name);
        own.cloned().collect()
    }
}
