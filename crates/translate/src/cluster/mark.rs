//! Which outputs depend on what changed.

use std::sync::Arc;

use super::state::Namespace;
use super::{Cluster, ServiceSource, Source};
use crate::labels::Labels;
use crate::service::ServiceFacts;
use crate::slice::SliceFacts;

impl Cluster {
    /// Settings changed.
    pub(super) fn mark_everything(&mut self) {
        let all = self.sources();
        self.dirty.extend(all);
        self.mark_all_gateways();
        // What is no longer there, but was told.
        self.dirty.extend(self.published.keys().cloned());
    }

    /// Whether the mesh looks at a namespace changed.
    pub(super) fn mark_namespace(&mut self, name: &Arc<str>) {
        let Some(state) = self.namespaces.get(name) else {
            return;
        };
        let at = |make: fn(Arc<str>, Arc<str>) -> Source| {
            let name = name.clone();
            move |object: &Arc<str>| make(name.clone(), object.clone())
        };
        self.dirty.extend(workloads(name, state));
        self.dirty
            .extend(state.slices.keys().map(at(Source::Slice)));
        self.dirty
            .extend(state.policies.keys().map(at(Source::Authorization)));
        self.dirty.extend(state.peers.keys().map(at(Source::Peer)));
        self.mark_services(name);
        self.mark_gateway_discovery(name);
        self.mark_proxies();
    }

    /// What services inherit from their namespace changed.
    pub(super) fn mark_services(&mut self, name: &Arc<str>) {
        let Some(state) = self.namespaces.get(name) else {
            return;
        };
        let hosts = state
            .services
            .keys()
            .map(|id| Source::Hostname(id.hostname.clone()));
        let users = state.waypoint_users.keys();
        let users = users.map(|(kind, user)| Source::Waypoint(*kind, name.clone(), user.clone()));
        self.dirty.extend(hosts.chain(users));
    }

    /// A service changed, or whether it wins its host name.
    pub(super) fn mark_endpoints(&mut self, namespace: &Arc<str>, facts: &ServiceFacts) {
        let Some(state) = self.namespaces.get(namespace) else {
            return;
        };
        if !facts.selector.is_empty() {
            self.dirty
                .extend(selected(namespace, state, &facts.selector));
        }
        match facts.id.source {
            ServiceSource::Kubernetes => {
                for name in state
                    .slices_by_service
                    .get(&facts.id.name)
                    .into_iter()
                    .flatten()
                {
                    self.dirty
                        .insert(Source::Slice(namespace.clone(), name.clone()));
                    let pods = state.slices.get(name).map(|slice| &*slice.pods);
                    let without_selector = facts.selector.is_empty();
                    let pods = pods.filter(|_| without_selector).unwrap_or_default();
                    let pod = |pod: &Arc<str>| Source::Pod(namespace.clone(), pod.clone());
                    self.dirty.extend(pods.iter().map(pod));
                }
            }
            ServiceSource::Entry => {
                let name = facts.id.name.clone();
                self.dirty
                    .insert(Source::EntryEndpoints(namespace.clone(), name));
            }
        }
    }

    /// A policy with this selector appeared or went. One of the root namespace selects in all.
    pub(super) fn mark_policy_users(&mut self, namespace: &Arc<str>, selector: &Labels) {
        let root = *namespace == self.settings.root_namespace;
        for (name, state) in &self.namespaces {
            if root || name == namespace {
                self.dirty.extend(selected(name, state, selector));
            }
        }
    }

    /// A PeerAuthentication changed.
    pub(super) fn mark_peers(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        self.dirty.insert(Source::StaticStrict);
        self.dirty
            .insert(Source::Peer(namespace.clone(), name.clone()));
        let root = *namespace == self.settings.root_namespace;
        for (name, state) in &self.namespaces {
            if root || name == namespace {
                let peer = |peer: &Arc<str>| Source::Peer(name.clone(), peer.clone());
                self.dirty.extend(state.peers.keys().map(peer));
                self.dirty.extend(workloads(name, state));
            }
        }
    }
}

/// Everything in a namespace that policies may select.
fn workloads(namespace: &Arc<str>, state: &Namespace) -> impl Iterator<Item = Source> {
    let pods = state
        .pods
        .keys()
        .map(|name| Source::Pod(namespace.clone(), name.clone()));
    let entry = |name: &Arc<str>| Source::WorkloadEntry(namespace.clone(), name.clone());
    let endpoint = |name: &Arc<str>| Source::EntryEndpoints(namespace.clone(), name.clone());
    let endpoints = state.endpoints.keys().map(endpoint);
    pods.chain(state.entries.keys().map(entry)).chain(endpoints)
}

/// The same, if a selector selects it.
fn selected(namespace: &Arc<str>, state: &Namespace, selector: &Labels) -> Vec<Source> {
    let mut sources = Vec::new();
    for (name, facts) in &state.pods {
        if selector.selects(&facts.labels) {
            sources.push(Source::Pod(namespace.clone(), name.clone()));
        }
    }
    for (name, facts) in &state.entries {
        if selector.selects(&facts.labels) {
            sources.push(Source::WorkloadEntry(namespace.clone(), name.clone()));
        }
    }
    for (name, endpoints) in &state.endpoints {
        if selector.selects(&endpoints.labels) {
            sources.push(Source::EntryEndpoints(namespace.clone(), name.clone()));
        }
    }
    sources
}

impl Namespace {
    pub(super) fn link_slice(&mut self, name: &Arc<str>, slice: &SliceFacts) {
        self.slices_by_service
            .entry(slice.service.clone())
            .or_default()
            .insert(name.clone());
        for pod in &slice.pods {
            self.slices_by_pod
                .entry(pod.clone())
                .or_default()
                .push(name.clone());
        }
    }

    pub(super) fn unlink_slice(&mut self, name: &Arc<str>, slice: &SliceFacts) {
        if let Some(slices) = self.slices_by_service.get_mut(&slice.service) {
            slices.remove(name);
            if slices.is_empty() {
                self.slices_by_service.remove(&slice.service);
            }
        }
        for pod in &slice.pods {
            if let Some(slices) = self.slices_by_pod.get_mut(pod) {
                slices.retain(|slice| slice != name);
                if slices.is_empty() {
                    self.slices_by_pod.remove(pod);
                }
            }
        }
    }
}
