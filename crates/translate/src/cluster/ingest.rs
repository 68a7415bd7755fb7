//! Settings, pods, nodes, namespaces and policies in: facts are stored, and what may depend on them is marked.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::contract::{LABEL_NETWORK, LABEL_REGION, LABEL_SUBZONE, LABEL_ZONE};
use tulle_api::security::{AuthorizationPolicy, PeerAuthentication};
use tulle_model::Locality;

use super::state::{Namespace, NamespaceFacts, Node};
use super::{Cluster, Settings, Source};
use crate::authorization::authorization_policy;
use crate::labels::Labels;
use crate::peer::PeerFacts;
use crate::pod::pod_facts;
use crate::service::Distribution;
use crate::waypoint::UseWaypoint;
use crate::workload::WorkloadFacts;

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
        let Some((namespace, name)) = self.names(&pod.metadata) else {
            return;
        };
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
        let labels = facts.as_ref().map(|facts| facts.labels.clone());
        let old = match facts {
            Some(facts) => {
                if state.pods.get(&name) == Some(&facts) {
                    return;
                }
                state.pods.insert(name.clone(), facts)
            }
            None => state.pods.remove(&name),
        };
        let old_labels = old.as_ref().map(|old| &old.labels);
        self.relate_gateway_pod(&namespace, &name, old_labels, labels.as_ref());
        if old_labels != labels.as_ref() {
            for labels in old_labels.into_iter().chain(labels.as_ref()) {
                self.mark_networking_of_workload(&namespace, labels);
            }
        }
        self.note_gateway_pod(&namespace, &name);
        if old.is_some() || node.is_some() {
            self.dirty
                .insert(Source::Pod(namespace.clone(), name.clone()));
        }
        let id = (namespace.clone(), name);
        if let Some(old) = old
            .map(|old| old.node)
            .filter(|old| node.as_ref() != Some(old))
        {
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
        let Some(name) = node.metadata.name.as_deref() else {
            return;
        };
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
        self.dirty.extend(
            pods.into_iter()
                .map(|(namespace, pod)| Source::Pod(namespace, pod)),
        );
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
        let Some(name) = namespace.metadata.name.as_deref() else {
            return;
        };
        let labels = Labels::of(namespace.metadata.labels.as_ref(), &mut self.texts);
        let facts = NamespaceFacts {
            exists: true,
            distribution: Distribution::annotated(namespace.metadata.annotations.as_ref()),
            waypoint: UseWaypoint::of_object(&labels, &namespace.metadata),
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
                self.mark_gateway_namespace(&name);
            }
        }
        self.tidy(&name);
    }

    fn network_of_system_namespace(&self) -> Arc<str> {
        let state = self.namespaces.get(&self.settings.system_namespace);
        state
            .and_then(|state| state.facts.labels.get(LABEL_NETWORK))
            .cloned()
            .unwrap_or_default()
    }

    /// An AuthorizationPolicy that was added or changed.
    pub fn upsert_authorization_policy(&mut self, resource: &AuthorizationPolicy) {
        let Some((namespace, name)) = self.names(&resource.metadata) else {
            return;
        };
        let key = (namespace.clone(), name.clone());
        if self.keep_authorization(&key, Some(resource)) {
            self.dirty
                .insert(Source::Authorization(namespace.clone(), name.clone()));
        }
        let facts = authorization_policy(resource, &mut self.texts);
        let state = self.namespaces.entry(namespace.clone()).or_default();
        let old = state.policies.insert(name.clone(), facts.clone());
        if old.as_ref() == Some(&facts) {
            return;
        }
        let selector =
            |f: &crate::AuthorizationFacts| f.policy.is_some().then(|| f.selector.clone());
        let (old, new) = (old.as_ref().and_then(selector), selector(&facts));
        self.set_policy_selector(&namespace, &name, old, new);
    }

    /// An AuthorizationPolicy that is gone.
    pub fn remove_authorization_policy(&mut self, namespace: &str, name: &str) {
        let (namespace, name) = (self.texts.intern(namespace), self.texts.intern(name));
        self.keep_authorization(&(namespace.clone(), name.clone()), None);
        let state = self.namespaces.entry(namespace.clone()).or_default();
        if let Some(old) = state.policies.remove(&name) {
            self.forget_conditions(&Source::Authorization(namespace.clone(), name.clone()));
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
        self.dirty
            .insert(Source::Authorization(namespace.clone(), name.clone()));
        if old == new {
            return;
        }
        let Some(state) = self.namespaces.get_mut(namespace) else {
            return;
        };
        if let Some(old) = &old {
            state.policy_selectors.remove(name, old);
        }
        if let Some(new) = &new {
            state.policy_selectors.insert(name.clone(), new);
        }
        for selector in [old, new]
            .into_iter()
            .flatten()
            .filter(|selector| !selector.is_empty())
        {
            self.mark_policy_users(namespace, &selector);
        }
    }

    /// A PeerAuthentication that was added or changed.
    pub fn upsert_peer_authentication(&mut self, resource: &PeerAuthentication) {
        let Some((namespace, name)) = self.names(&resource.metadata) else {
            return;
        };
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
            self.forget_conditions(&Source::Peer(namespace.clone(), name.clone()));
            self.mark_peers(&namespace, &name);
        }
        self.tidy(&namespace);
    }

    /// Shared namespace, and name; `None` for an object without a name, which the API server does not send.
    pub(crate) fn names(&mut self, meta: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
        let namespace = self
            .texts
            .intern(meta.namespace.as_deref().unwrap_or_default());
        Some((namespace, self.texts.intern(meta.name.as_deref()?)))
    }

    /// Forgets a namespace that has nothing left.
    pub(crate) fn tidy(&mut self, name: &str) {
        if self.namespaces.get(name).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(name);
        }
    }
}
