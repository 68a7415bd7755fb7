//! Gateway pods: which proxies there are that selectors of policies and of Istio's Gateways can mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_api::contract::{LABEL_GATEWAY_MANAGED, LABEL_GATEWAY_NAME, MANAGED_MESH_CONTROLLER};

use super::{Name, Source};
use crate::cluster::{self, Cluster};
use crate::labels::Labels;
use crate::selectors::SelectorIndex;
use crate::workload::WorkloadFacts;

/// Gateways that have pods, by the name of their resource: the Gateway's, or the Deployment's where a user made it.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    all: BTreeMap<Name, Proxy>,
    /// Of each pod, which proxy it belongs to.
    by_pod: BTreeMap<Name, Name>,
    /// Selectors of Istio's Gateways.
    selectors: SelectorIndex<Name>,
}

/// A gateway.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    pods: BTreeMap<Arc<str>, Labels>,
    /// Made for a Gateway of the Gateway API.
    pub(super) managed: bool,
}

impl Proxy {
    /// Whether a selector means its pods.
    pub(super) fn is_selected(&self, selector: &Labels) -> bool {
        self.pods.values().any(|labels| selector.selects(labels))
    }

    /// Labels of its pods.
    pub(super) fn labels(&self) -> impl Iterator<Item = &Labels> {
        self.pods.values()
    }

    /// Names of its pods.
    pub(super) fn pod_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.keys()
    }

    /// Labels that occur, to see whether anything changed for selectors.
    fn kinds(&self) -> BTreeSet<Vec<(Arc<str>, Arc<str>)>> {
        self.pods
            .values()
            .map(|labels| labels.iter().cloned().collect())
            .collect()
    }
}

impl Proxies {
    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Proxy)> {
        self.all.iter()
    }

    /// One of them.
    pub(super) fn get(&self, name: &Name) -> Option<&Proxy> {
        self.all.get(name)
    }

    /// The proxy, made by a user, that a pod belongs to.
    pub(super) fn of_pod(&self, namespace: &str, pod: &str) -> Option<&Name> {
        let name = self.by_pod.get(&(namespace.into(), pod.into()))?;
        self.all
            .get(name)
            .filter(|proxy| !proxy.managed)
            .map(|_| name)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_pod.is_empty()
    }

    /// Which proxy a pod belongs to, if it is one of a gateway; and whether it is managed.
    fn of(&self, namespace: &Arc<str>, facts: &WorkloadFacts) -> Option<(Name, bool)> {
        let labels = &facts.labels;
        if labels
            .get(LABEL_GATEWAY_MANAGED)
            .is_some_and(|by| **by == *MANAGED_MESH_CONTROLLER)
        {
            return None;
        }
        if let Some(gateway) = labels.get(LABEL_GATEWAY_NAME) {
            return Some(((namespace.clone(), gateway.clone()), true));
        }
        self.selectors.selecting(labels).next()?;
        Some(((namespace.clone(), facts.workload_name.clone()), false))
    }

    /// Proxies of which something changed that selectors or listeners can see.
    fn set(&mut self, pod: &Name, facts: Option<&WorkloadFacts>) -> BTreeSet<Name> {
        let new = facts.and_then(|facts| {
            self.of(&pod.0, facts)
                .map(|(name, managed)| (name, managed, &facts.labels))
        });
        let old = self.by_pod.remove(pod);
        let touched: BTreeSet<Name> = old
            .iter()
            .cloned()
            .chain(new.iter().map(|(name, ..)| name.clone()))
            .collect();
        if touched.is_empty() {
            return touched;
        }
        let kinds = |all: &BTreeMap<Name, Proxy>| -> Vec<_> {
            touched
                .iter()
                .map(|name| all.get(name).map(Proxy::kinds))
                .collect()
        };
        let before = kinds(&self.all);
        if let Some(old) = old
            && let Some(proxy) = self.all.get_mut(&old)
        {
            proxy.pods.remove(&pod.1);
            if proxy.pods.is_empty() {
                self.all.remove(&old);
            }
        }
        if let Some((name, managed, labels)) = new {
            let proxy = self.all.entry(name.clone()).or_default();
            proxy.managed = managed;
            proxy.pods.insert(pod.1.clone(), labels.clone());
            self.by_pod.insert(pod.clone(), name);
        }
        let after = kinds(&self.all);
        if before == after {
            BTreeSet::new()
        } else {
            touched
        }
    }
}

impl Cluster {
    /// A pod appeared, changed or went.
    pub(crate) fn note_gateway_pod(&mut self, namespace: &Arc<str>, name: &Arc<str>) {
        let pod = (namespace.clone(), name.clone());
        let facts = self
            .namespaces
            .get(namespace)
            .and_then(|state| state.pods.get(name));
        let changed = self.networking.proxies.set(&pod, facts);
        self.proxies_changed(changed);
    }

    /// Selectors changed: which pods belong to gateways is found out again.
    pub(super) fn select_proxies(
        &mut self,
        gateway: &Name,
        old: Option<&Labels>,
        new: Option<&Labels>,
    ) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.networking.proxies.selectors.remove(gateway, old);
        }
        if let Some(new) = new {
            self.networking
                .proxies
                .selectors
                .insert(gateway.clone(), new);
        }
        let mut changed = BTreeSet::new();
        for (namespace, state) in &self.namespaces {
            for (name, facts) in &state.pods {
                let pod = (namespace.clone(), name.clone());
                changed.extend(self.networking.proxies.set(&pod, Some(facts)));
            }
        }
        self.proxies_changed(changed);
    }

    fn proxies_changed(&mut self, changed: BTreeSet<Name>) {
        if changed.is_empty() {
            return;
        }
        for name in changed {
            for source in [Source::Proxy(name.clone()), Source::Reports(name)] {
                self.dirty.insert(cluster::Source::Networking(source));
            }
        }
        self.mark_proxies();
    }
}
