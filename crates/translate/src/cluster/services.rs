//! Services, entries and slices in: facts are stored, and what may depend on them is marked.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::contract::{ANNOTATION_REDIRECTION, REDIRECTION_ENABLED};
use tulle_api::networking::{Resolution, ServiceEntry, WorkloadEntry, WorkloadEntrySpec};

use super::state::EntryEndpoints;
use super::{Cluster, ObjectKind, ServiceId, ServiceSource, Source};
use crate::labels::Labels;
use crate::service::{ServiceFacts, entry_facts, service_facts};
use crate::slice::{SliceFacts, slice_facts};
use crate::waypoint::{UseWaypoint, is_part_of_mesh};
use crate::workload::{entry_workload_facts, spec_facts};

impl Cluster {
    /// A Service that was added or changed.
    pub fn upsert_service(&mut self, service: &core::Service) {
        let Some((namespace, name)) = self.names(&service.metadata) else {
            return;
        };
        let domain = self.settings.domain.clone();
        let facts = service_facts(service, &domain, &mut self.texts);
        // An ExternalName is DNS only: no traffic of it can have a waypoint.
        let own = match facts {
            Some(_) => self.use_waypoint(&service.metadata),
            None => UseWaypoint::no(),
        };
        let user = (own, service.metadata.generation);
        self.set_waypoint_user(ObjectKind::Service, &namespace, &name, Some(user));
        self.set_load_balancer(&(namespace.clone(), name.clone()), Some(service));
        self.set_services(
            ServiceSource::Kubernetes,
            &namespace,
            &name,
            facts.into_iter().collect(),
        );
    }

    /// A Service that is gone.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        self.set_waypoint_user(ObjectKind::Service, &namespace, &name, None);
        self.set_load_balancer(&(namespace.clone(), name.clone()), None);
        self.set_services(ServiceSource::Kubernetes, &namespace, &name, Vec::new());
    }

    /// A ServiceEntry that was added or changed.
    pub fn upsert_service_entry(&mut self, entry: &ServiceEntry) {
        let Some((namespace, name)) = self.names(&entry.metadata) else {
            return;
        };
        let key = (namespace.clone(), name.clone());
        self.note_entry(&key, Some(entry));
        let facts = entry_facts(entry, &mut self.texts);
        let facts = self.with_allocated(&key, facts);
        let user = (
            self.use_waypoint(&entry.metadata),
            entry.metadata.generation,
        );
        self.set_waypoint_user(ObjectKind::ServiceEntry, &namespace, &name, Some(user));
        let endpoints = self.endpoints_of(entry, &name);
        self.set_endpoints(&namespace, &name, endpoints);
        self.set_services(ServiceSource::Entry, &namespace, &name, facts);
    }

    /// A ServiceEntry that is gone.
    pub fn remove_service_entry(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        self.note_entry(&(namespace.clone(), name.clone()), None);
        self.set_waypoint_user(ObjectKind::ServiceEntry, &namespace, &name, None);
        self.set_endpoints(&namespace, &name, None);
        self.set_services(ServiceSource::Entry, &namespace, &name, Vec::new());
    }

    fn endpoints_of(&mut self, entry: &ServiceEntry, name: &Arc<str>) -> Option<EntryEndpoints> {
        let spec = &entry.spec;
        let by_name = matches!(
            spec.resolution.unwrap_or_default(),
            Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns
        );
        let implicit = spec.endpoints.is_empty() && by_name && spec.workload_selector.is_none();
        if spec.endpoints.is_empty() && !implicit {
            return None;
        }
        let annotations = entry.metadata.annotations.as_ref();
        let redirection = annotations.and_then(|a| a.get(ANNOTATION_REDIRECTION));
        let tunnel = redirection.is_some_and(|value| value == REDIRECTION_ENABLED);
        let texts = &mut self.texts;
        let labels = Labels::of(entry.metadata.labels.as_ref(), texts);
        let facts = |endpoint: &WorkloadEntrySpec| {
            let mut own = entry.metadata.labels.clone().unwrap_or_default();
            own.extend(endpoint.labels.clone());
            let own = Labels::new(&own, texts);
            spec_facts(endpoint, own, name.clone(), tunnel, texts)
        };
        let addresses = spec
            .endpoints
            .iter()
            .map(|e| Arc::<str>::from(e.address.as_str()));
        let explicit = addresses.zip(spec.endpoints.iter().map(facts)).collect();
        Some(EntryEndpoints {
            explicit,
            implicit,
            labels,
            tunnel,
        })
    }

    fn set_endpoints(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        new: Option<EntryEndpoints>,
    ) {
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let changed = match new {
            Some(new) => state.endpoints.insert(name.clone(), new.clone()) != Some(new),
            None => state.endpoints.remove(name).is_some(),
        };
        if changed {
            self.dirty
                .insert(Source::EntryEndpoints(namespace.clone(), name.clone()));
            self.mark_entry_destinations(namespace, name);
        }
        self.tidy(namespace);
    }

    /// A WorkloadEntry that was added or changed.
    pub fn upsert_workload_entry(&mut self, entry: &WorkloadEntry) {
        let Some((namespace, name)) = self.names(&entry.metadata) else {
            return;
        };
        let facts = entry_workload_facts(entry, &mut self.texts);
        let user = (
            self.use_waypoint(&entry.metadata),
            entry.metadata.generation,
        );
        self.set_waypoint_user(ObjectKind::WorkloadEntry, &namespace, &name, Some(user));
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if state.entries.get(&name) != Some(&facts) {
            let labels = facts.labels.clone();
            let old = state.entries.insert(name.clone(), facts);
            for labels in old.map(|old| old.labels).iter().chain([&labels]) {
                self.mark_networking_of_workload(&namespace, labels);
            }
            self.dirty.insert(Source::WorkloadEntry(namespace, name));
        }
    }

    /// A WorkloadEntry that is gone.
    pub fn remove_workload_entry(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        self.set_waypoint_user(ObjectKind::WorkloadEntry, &namespace, &name, None);
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if let Some(old) = state.entries.remove(&name) {
            self.mark_networking_of_workload(&namespace, &old.labels);
            self.dirty
                .insert(Source::WorkloadEntry(namespace.clone(), name));
        }
        self.tidy(&namespace);
    }

    /// Replaces the services that one resource gives.
    fn set_services(
        &mut self,
        source: ServiceSource,
        namespace: &Arc<str>,
        name: &Arc<str>,
        new: Vec<ServiceFacts>,
    ) {
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let own = |id: &&ServiceId| id.source == source && id.name == *name;
        let old: Vec<ServiceId> = match source {
            ServiceSource::Kubernetes => {
                let hostname = format!("{name}.{namespace}.svc.{}", self.settings.domain).into();
                let id = ServiceId {
                    source,
                    name: name.clone(),
                    hostname,
                };
                state
                    .services
                    .contains_key(&id)
                    .then_some(id)
                    .into_iter()
                    .collect()
            }
            // Entries are few.
            ServiceSource::Entry => state.services.keys().filter(own).cloned().collect(),
        };
        for id in old
            .iter()
            .filter(|id| !new.iter().any(|facts| facts.id == **id))
        {
            self.set_one_service(namespace, id, None);
        }
        for facts in new {
            let id = facts.id.clone();
            self.set_one_service(namespace, &id, Some(facts));
        }
        self.tidy(namespace);
    }

    pub(crate) fn set_one_service(
        &mut self,
        namespace: &Arc<str>,
        id: &ServiceId,
        new: Option<ServiceFacts>,
    ) {
        let Some(state) = self.namespaces.get_mut(namespace) else {
            return;
        };
        if state.services.get(id) == new.as_ref() {
            return;
        }
        let claim = (namespace.clone(), id.clone());
        let claims = self.hostnames.entry(id.hostname.clone()).or_default();
        let old = match &new {
            Some(facts) => {
                claims.insert(claim);
                let old = state.services.insert(id.clone(), facts.clone());
                if let Some(old) = &old {
                    state.service_selectors.remove(id, &old.selector);
                }
                state.service_selectors.insert(id.clone(), &facts.selector);
                old
            }
            None => {
                claims.remove(&claim);
                let old = state.services.remove(id);
                if let Some(old) = &old {
                    state.service_selectors.remove(id, &old.selector);
                }
                old
            }
        };
        let rivals: Vec<ServiceId> = claims
            .iter()
            .filter(|(other, rival)| other == namespace && rival != id)
            .map(|(_, rival)| rival.clone())
            .collect();
        if claims.is_empty() {
            self.hostnames.remove(&id.hostname);
        }
        self.dirty.insert(Source::Hostname(id.hostname.clone()));
        self.mark_gateway_service(namespace, id);
        let kind = match id.source {
            ServiceSource::Kubernetes => ObjectKind::Service,
            ServiceSource::Entry => ObjectKind::ServiceEntry,
        };
        self.dirty
            .insert(Source::Waypoint(kind, namespace.clone(), id.name.clone()));
        for facts in [old, new].into_iter().flatten() {
            self.mark_endpoints(namespace, &facts);
        }
        // Who wins a host name may have changed, and with it where the rivals' endpoints belong.
        for rival in rivals {
            self.mark_gateway_service(namespace, &rival);
            let facts = self
                .namespaces
                .get(namespace)
                .and_then(|s| s.services.get(&rival))
                .cloned();
            if let Some(facts) = facts {
                self.mark_endpoints(namespace, &facts);
            }
        }
    }

    /// An EndpointSlice that was added or changed.
    pub fn upsert_endpoint_slice(&mut self, slice: &EndpointSlice) {
        let Some((namespace, name)) = self.names(&slice.metadata) else {
            return;
        };
        let facts = slice_facts(slice, &mut self.texts);
        self.set_slice(namespace, name, facts);
    }

    /// An EndpointSlice that is gone.
    pub fn remove_endpoint_slice(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        self.set_slice(namespace, name, None);
    }

    fn set_slice(&mut self, namespace: Arc<str>, name: Arc<str>, new: Option<SliceFacts>) {
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if state.slices.get(&name) == new.as_ref() {
            self.tidy(&namespace);
            return;
        }
        let old = state.slices.remove(&name);
        if let Some(old) = &old {
            state.unlink_slice(&name, old);
        }
        if let Some(new) = &new {
            state.link_slice(&name, new);
            state.slices.insert(name.clone(), new.clone());
        }
        self.dirty.insert(Source::Slice(namespace.clone(), name));
        for slice in [old, new].into_iter().flatten() {
            self.mark_pods_of_slice(&namespace, &slice);
        }
        self.tidy(&namespace);
    }

    /// Pods take services from slices only where the service has no selector.
    fn mark_pods_of_slice(&mut self, namespace: &Arc<str>, slice: &SliceFacts) {
        let hostname = self.hostname(&slice.service, namespace);
        let Some(state) = self.namespaces.get(namespace) else {
            return;
        };
        let service = state.service(&slice.service, &hostname);
        if service.is_some_and(|service| service.selector.is_empty()) {
            let pods = slice
                .pods
                .iter()
                .filter(|pod| state.pods.contains_key(*pod));
            self.dirty
                .extend(pods.map(|pod| Source::Pod(namespace.clone(), pod.clone())));
        }
    }

    /// What an object's own labels say of a waypoint.
    fn use_waypoint(&mut self, meta: &ObjectMeta) -> UseWaypoint {
        let labels = Labels::of(meta.labels.as_ref(), &mut self.texts);
        if is_part_of_mesh(&labels) {
            UseWaypoint::no()
        } else {
            UseWaypoint::of_object(&labels, meta)
        }
    }

    fn set_waypoint_user(
        &mut self,
        kind: ObjectKind,
        namespace: &Arc<str>,
        name: &Arc<str>,
        user: Option<(UseWaypoint, Option<i64>)>,
    ) {
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let key = (kind, name.clone());
        let gone = user.is_none();
        let changed = match user {
            Some(user) => state.waypoint_users.insert(key, user.clone()) != Some(user),
            None => state.waypoint_users.remove(&key).is_some(),
        };
        if changed {
            let source = Source::Waypoint(kind, namespace.clone(), name.clone());
            if gone {
                self.forget_conditions(&source);
            }
            self.mark_waypoint_user(kind, namespace, name);
        }
    }
}
