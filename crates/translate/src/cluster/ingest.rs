//! Objects in: facts are stored, and what may depend on them is marked.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::contract::{
    ANNOTATION_REDIRECTION, LABEL_NETWORK, LABEL_REGION, LABEL_SUBZONE, LABEL_ZONE,
    REDIRECTION_ENABLED,
};
use tulle_api::networking::{Resolution, ServiceEntry, WorkloadEntry};
use tulle_api::security::{AuthorizationPolicy, PeerAuthentication};
use tulle_model::Locality;

use super::state::{EntryEndpoints, Namespace, NamespaceFacts, Node};
use super::{Cluster, ObjectKind, ServiceId, ServiceSource, Settings, Source};
use crate::authorization::authorization_policy;
use crate::labels::Labels;
use crate::peer::PeerFacts;
use crate::pod::pod_facts;
use crate::service::{Distribution, ServiceFacts, entry_facts, service_facts};
use crate::slice::{SliceFacts, slice_facts};
use crate::waypoint::UseWaypoint;
use crate::workload::{WorkloadFacts, entry_workload_facts, spec_facts};

/// Label of gateways that the mesh made: they have no waypoint themselves.
const LABEL_GATEWAY_MANAGED: &str = "gateway.istio.io/managed";

impl Cluster {
    /// New settings. `cluster_id` and `domain` stay as they are.
    pub fn set_settings(&mut self, settings: Settings) {
        let settings = Settings {
            cluster_id: self.settings.cluster_id.clone(),
            domain: self.settings.domain.clone(),
            ..settings
        };
        if settings != self.settings {
            self.settings = settings;
            self.network = self.network_of_system_namespace();
            self.mark_everything();
        }
    }

    /// A pod that was added or changed. One that has ended counts as removed.
    pub fn upsert_pod(&mut self, pod: &core::Pod) {
        let Some((namespace, name)) = self.names(&pod.metadata) else { return };
        match pod_facts(pod, &mut self.texts) {
            Ok(facts) => self.set_pod(namespace, name, Some(facts)),
            Err(_) => self.set_pod(namespace, name, None),
        }
    }

    /// A pod that is gone.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        self.set_pod(namespace.into(), name.into(), None);
    }

    fn set_pod(&mut self, namespace: Arc<str>, name: Arc<str>, facts: Option<WorkloadFacts>) {
        let node = facts.as_ref().map(|facts| facts.node.clone());
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let old = match facts {
            Some(facts) => {
                if state.pods.get(&name) == Some(&facts) {
                    return;
                }
                state.pods.insert(name.clone(), facts)
            }
            None => state.pods.remove(&name),
        };
        if old.is_some() || node.is_some() {
            self.dirty.insert(Source::Pod(namespace.clone(), name.clone()));
        }
        let id = (namespace.clone(), name);
        if let Some(old) = old.map(|old| old.node).filter(|old| node.as_ref() != Some(old)) {
            self.change_node(&old, |node| {
                node.pods.remove(&id);
            });
        }
        if let Some(node) = node.filter(|node| !node.is_empty()) {
            self.change_node(&node, |node| {
                node.pods.insert(id);
            });
        }
        self.tidy(&namespace);
    }

    /// A node that was added or changed.
    pub fn upsert_node(&mut self, node: &core::Node) {
        let Some(name) = node.metadata.name.as_deref() else { return };
        let labels = node.metadata.labels.as_ref();
        let mut label = |key| {
            let value = labels.and_then(|labels| labels.get(key));
            self.texts.intern(value.map_or("", String::as_str))
        };
        let locality = Locality {
            region: label(LABEL_REGION),
            zone: label(LABEL_ZONE),
            subzone: label(LABEL_SUBZONE),
        };
        self.set_node(name, Some(locality));
    }

    /// A node that is gone.
    pub fn remove_node(&mut self, name: &str) {
        self.set_node(name, None);
    }

    fn set_node(&mut self, name: &str, locality: Option<Locality>) {
        let name = self.texts.intern(name);
        let mut pods = Vec::new();
        self.change_node(&name, |node| {
            if node.locality != locality {
                node.locality = locality;
                pods.extend(node.pods.iter().cloned());
            }
        });
        self.dirty.extend(pods.into_iter().map(|(namespace, pod)| Source::Pod(namespace, pod)));
    }

    fn change_node(&mut self, name: &Arc<str>, change: impl FnOnce(&mut Node)) {
        let node = self.nodes.entry(name.clone()).or_default();
        change(node);
        if node.locality.is_none() && node.pods.is_empty() {
            self.nodes.remove(name);
        }
    }

    /// A namespace that was added or changed.
    pub fn upsert_namespace(&mut self, namespace: &core::Namespace) {
        let Some(name) = namespace.metadata.name.as_deref() else { return };
        let labels = Labels::of(namespace.metadata.labels.as_ref(), &mut self.texts);
        let facts = NamespaceFacts {
            exists: true,
            distribution: Distribution::annotated(namespace.metadata.annotations.as_ref()),
            waypoint: UseWaypoint::of(&labels),
            labels,
        };
        self.set_namespace(name, facts);
    }

    /// A namespace that is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.set_namespace(name, NamespaceFacts::default());
    }

    fn set_namespace(&mut self, name: &str, facts: NamespaceFacts) {
        let name = self.texts.intern(name);
        let state = self.namespaces.entry(name.clone()).or_default();
        let old = std::mem::replace(&mut state.facts, facts.clone());
        if old != facts {
            let network = self.network_of_system_namespace();
            let discovery = !self.settings.discovery.is_empty() && old.labels != facts.labels;
            if network != self.network || (discovery && name == self.settings.root_namespace) {
                self.network = network;
                self.mark_everything();
            } else if discovery {
                self.mark_namespace(&name);
            } else {
                self.mark_services(&name);
            }
        }
        self.tidy(&name);
    }

    fn network_of_system_namespace(&self) -> Arc<str> {
        let state = self.namespaces.get(&self.settings.system_namespace);
        state.and_then(|state| state.facts.labels.get(LABEL_NETWORK)).cloned().unwrap_or_default()
    }

    /// A Service that was added or changed.
    pub fn upsert_service(&mut self, service: &core::Service) {
        let Some((namespace, name)) = self.names(&service.metadata) else { return };
        let domain = self.settings.domain.clone();
        let facts = service_facts(service, &domain, &mut self.texts);
        let user = facts.is_some().then_some(&service.metadata);
        self.set_waypoint_user(ObjectKind::Service, &namespace, &name, user);
        self.set_services(ServiceSource::Kubernetes, &namespace, &name, facts.into_iter().collect());
    }

    /// A Service that is gone.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        self.set_waypoint_user(ObjectKind::Service, &namespace, &name, None);
        self.set_services(ServiceSource::Kubernetes, &namespace, &name, Vec::new());
    }

    /// A ServiceEntry that was added or changed.
    pub fn upsert_service_entry(&mut self, entry: &ServiceEntry) {
        let Some((namespace, name)) = self.names(&entry.metadata) else { return };
        let facts = entry_facts(entry, &mut self.texts);
        self.set_waypoint_user(ObjectKind::ServiceEntry, &namespace, &name, Some(&entry.metadata));
        let endpoints = self.endpoints_of(entry, &name);
        self.set_endpoints(&namespace, &name, endpoints);
        self.set_services(ServiceSource::Entry, &namespace, &name, facts);
    }

    /// A ServiceEntry that is gone.
    pub fn remove_service_entry(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
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
        let facts = |endpoint| spec_facts(endpoint, labels.clone(), name.clone(), tunnel, texts);
        let addresses = spec.endpoints.iter().map(|e| Arc::<str>::from(e.address.as_str()));
        let explicit = addresses.zip(spec.endpoints.iter().map(facts)).collect();
        Some(EntryEndpoints { explicit, implicit, labels, tunnel })
    }

    fn set_endpoints(&mut self, namespace: &Arc<str>, name: &Arc<str>, new: Option<EntryEndpoints>) {
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let changed = match new {
            Some(new) => state.endpoints.insert(name.clone(), new.clone()) != Some(new),
            None => state.endpoints.remove(name).is_some(),
        };
        if changed {
            self.dirty.insert(Source::EntryEndpoints(namespace.clone(), name.clone()));
        }
        self.tidy(namespace);
    }

    /// A WorkloadEntry that was added or changed.
    pub fn upsert_workload_entry(&mut self, entry: &WorkloadEntry) {
        let Some((namespace, name)) = self.names(&entry.metadata) else { return };
        let facts = entry_workload_facts(entry, &mut self.texts);
        self.set_waypoint_user(ObjectKind::WorkloadEntry, &namespace, &name, Some(&entry.metadata));
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if state.entries.get(&name) != Some(&facts) {
            state.entries.insert(name.clone(), facts);
            self.dirty.insert(Source::WorkloadEntry(namespace, name));
        }
    }

    /// A WorkloadEntry that is gone.
    pub fn remove_workload_entry(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        self.set_waypoint_user(ObjectKind::WorkloadEntry, &namespace, &name, None);
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if state.entries.remove(&name).is_some() {
            self.dirty.insert(Source::WorkloadEntry(namespace.clone(), name));
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
                let id = ServiceId { source, name: name.clone(), hostname };
                state.services.contains_key(&id).then_some(id).into_iter().collect()
            }
            // Entries are few.
            ServiceSource::Entry => state.services.keys().filter(own).cloned().collect(),
        };
        for id in old.iter().filter(|id| !new.iter().any(|facts| facts.id == **id)) {
            self.set_one_service(namespace, id, None);
        }
        for facts in new {
            let id = facts.id.clone();
            self.set_one_service(namespace, &id, Some(facts));
        }
        self.tidy(namespace);
    }

    fn set_one_service(&mut self, namespace: &Arc<str>, id: &ServiceId, new: Option<ServiceFacts>) {
        let Some(state) = self.namespaces.get_mut(namespace) else { return };
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
        for facts in [old, new].into_iter().flatten() {
            self.mark_endpoints(namespace, &facts);
        }
        // Who wins a host name may have changed, and with it where the rivals' endpoints belong.
        for rival in rivals {
            let facts = self.namespaces.get(namespace).and_then(|s| s.services.get(&rival)).cloned();
            if let Some(facts) = facts {
                self.mark_endpoints(namespace, &facts);
            }
        }
    }

    /// An EndpointSlice that was added or changed.
    pub fn upsert_endpoint_slice(&mut self, slice: &EndpointSlice) {
        let Some((namespace, name)) = self.names(&slice.metadata) else { return };
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
        let Some(state) = self.namespaces.get(namespace) else { return };
        let service = state.service(&slice.service, &hostname);
        if service.is_some_and(|service| service.selector.is_empty()) {
            let pods = slice.pods.iter().filter(|pod| state.pods.contains_key(*pod));
            self.dirty.extend(pods.map(|pod| Source::Pod(namespace.clone(), pod.clone())));
        }
    }

    /// An AuthorizationPolicy that was added or changed.
    pub fn upsert_authorization_policy(&mut self, resource: &AuthorizationPolicy) {
        let Some((namespace, name)) = self.names(&resource.metadata) else { return };
        let facts = authorization_policy(resource, &mut self.texts);
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let old = state.policies.insert(name.clone(), facts.clone());
        if old.as_ref() == Some(&facts) {
            return;
        }
        let selector = |f: &crate::AuthorizationFacts| f.policy.is_some().then(|| f.selector.clone());
        let (old, new) = (old.as_ref().and_then(selector), selector(&facts));
        self.set_policy_selector(&namespace, &name, old, new);
    }

    /// An AuthorizationPolicy that is gone.
    pub fn remove_authorization_policy(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if let Some(old) = state.policies.remove(&name) {
            let selector = old.policy.is_some().then_some(old.selector);
            self.set_policy_selector(&namespace, &name, selector, None);
        }
        self.tidy(&namespace);
    }

    fn set_policy_selector(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        old: Option<Labels>,
        new: Option<Labels>,
    ) {
        self.dirty.insert(Source::Authorization(namespace.clone(), name.clone()));
        if old == new {
            return;
        }
        let Some(state) = self.namespaces.get_mut(namespace) else { return };
        if let Some(old) = &old {
            state.policy_selectors.remove(name, old);
        }
        if let Some(new) = &new {
            state.policy_selectors.insert(name.clone(), new);
        }
        for selector in [old, new].into_iter().flatten().filter(|selector| !selector.is_empty()) {
            self.mark_policy_users(namespace, &selector);
        }
    }

    /// A PeerAuthentication that was added or changed.
    pub fn upsert_peer_authentication(&mut self, resource: &PeerAuthentication) {
        let Some((namespace, name)) = self.names(&resource.metadata) else { return };
        let facts = PeerFacts::new(resource, &mut self.texts);
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if state.peers.insert(name.clone(), facts.clone()) != Some(facts) {
            self.mark_peers(&namespace, &name);
        }
    }

    /// A PeerAuthentication that is gone.
    pub fn remove_peer_authentication(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if state.peers.remove(&name).is_some() {
            self.mark_peers(&namespace, &name);
        }
        self.tidy(&namespace);
    }

    fn set_waypoint_user(
        &mut self,
        kind: ObjectKind,
        namespace: &Arc<str>,
        name: &Arc<str>,
        meta: Option<&ObjectMeta>,
    ) {
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let key = (kind, name.clone());
        let new = meta.map(|meta| {
            let labels = Labels::of(meta.labels.as_ref(), &mut self.texts);
            let gateway = labels.get(LABEL_GATEWAY_MANAGED).is_some();
            let own = if gateway { UseWaypoint::No } else { UseWaypoint::of(&labels) };
            (own, meta.generation)
        });
        let changed = match new {
            Some(new) => state.waypoint_users.insert(key, new.clone()) != Some(new),
            None => state.waypoint_users.remove(&key).is_some(),
        };
        if changed {
            self.dirty.insert(Source::Waypoint(kind, namespace.clone(), name.clone()));
        }
    }

    /// Shared namespace, and name; `None` for an object without a name, which the API server does not send.
    fn names(&mut self, meta: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
        let namespace = self.texts.intern(meta.namespace.as_deref().unwrap_or_default());
        Some((namespace, self.texts.intern(meta.name.as_deref()?)))
    }

    /// Forgets a namespace that has nothing left.
    fn tidy(&mut self, name: &str) {
        if self.namespaces.get(name).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(name);
        }
    }
}
