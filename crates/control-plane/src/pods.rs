//! Which pods exist, for the CA: who asks, and whose identities may be asked for on which node.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tulle_api::contract::{LABEL_GATEWAY_NAME, LABEL_POD_TEMPLATE_HASH, LABEL_WORKLOAD_NAME};
use tulle_api::k8s_openapi::api::core::v1::Pod;
use tulle_cluster::Key;

/// On pods: which templates the webhook applies.
pub(crate) const ANNOTATION_TEMPLATES: &str = "inject.istio.io/templates";
/// The template that makes a gateway's proxy of a container.
pub(crate) const TEMPLATE_GATEWAY: &str = "gateway";

/// What the CA needs of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownPod {
    pub(crate) uid: Box<str>,
    pub(crate) service_account: Arc<str>,
    /// Empty while it is not scheduled.
    pub(crate) node: Arc<str>,
    /// A failed pod runs nothing any more.
    pub(crate) failed: bool,
    /// The Gateway (`namespace/name`) whose proxy it is.
    pub(crate) gateway: Option<Arc<str>>,
}

/// All pods of the cluster. Clones share them.
#[derive(Clone)]
pub(crate) struct Pods {
    tables: Arc<Mutex<Tables>>,
    changed: watch::Sender<()>,
}

/// Node, namespace and service account.
type Place = (Arc<str>, Arc<str>, Arc<str>);

#[derive(Default)]
struct Tables {
    pods: HashMap<Key, KnownPod>,
    /// How many pods that have not failed are at a place.
    running: HashMap<Place, usize>,
    /// Each repeated text once: nodes, namespaces and accounts are few, pods are many.
    texts: HashMap<Arc<str>, ()>,
}

impl Pods {
    pub(crate) fn new() -> Self {
        Self {
            tables: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    pub(crate) fn upsert(&self, pod: &Pod) {
        let Some(name) = pod.metadata.name.as_deref() else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let mut tables = self.lock();
        let key = Key {
            namespace: tables.text(namespace),
            name: name.into(),
        };
        let account = spec.and_then(|spec| spec.service_account_name.as_deref());
        let node = spec.and_then(|spec| spec.node_name.as_deref());
        let known = KnownPod {
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            service_account: tables.text(account.filter(|a| !a.is_empty()).unwrap_or("default")),
            node: tables.text(node.unwrap_or_default()),
            failed: phase == Some("Failed"),
            gateway: gateway(pod, namespace).map(|gateway| tables.text(&gateway)),
        };
        if tables.pods.get(&key) == Some(&known) {
            return;
        }
        tables.remove(&key);
        tables.insert(key, known);
        drop(tables);
        self.changed.send_replace(());
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.lock().remove(key);
    }

    pub(crate) fn get(&self, key: &Key) -> Option<KnownPod> {
        self.lock().pods.get(key).cloned()
    }

    /// Whether a pod of this account, not failed, is on `node`.
    pub(crate) fn runs(&self, node: &str, namespace: &str, account: &str) -> bool {
        let place = (Arc::from(node), Arc::from(namespace), Arc::from(account));
        self.lock().running.contains_key(&place)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().pods.len()
    }

    /// Looks, and looks again at every change until `answer` finds something or `within` is over:
    /// a pod may ask before the watch has shown it.
    pub(crate) async fn wait<T>(
        &self,
        within: Duration,
        mut answer: impl FnMut(&Self) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + within;
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(found) = answer(self) {
                return Some(found);
            }
            match timeout_at(end, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn insert(&mut self, key: Key, pod: KnownPod) {
        if let Some(place) = place(&key, &pod) {
            *self.running.entry(place).or_default() += 1;
        }
        self.pods.insert(key, pod);
    }

    fn remove(&mut self, key: &Key) {
        let Some(pod) = self.pods.remove(key) else {
            return;
        };
        let Some(place) = place(key, &pod) else {
            return;
        };
        if let Some(count) = self.running.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(&place);
                self.tidy();
            }
        }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some((known, ())) = self.texts.get_key_value(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone(), ());
        text
    }

    /// Texts that nobody else holds would pile up in a cluster with many short-lived namespaces.
    fn tidy(&mut self) {
        if self.texts.len() > 2 * (self.running.len() + 64) {
            self.texts.retain(|text, ()| Arc::strong_count(text) > 1);
        }
    }
}

/// Whose proxy a pod is: the Gateway in its label, which the deployer writes; for a gateway that users deploy themselves
/// and we complete, the name of its Deployment. Always in the pod's own namespace: nobody speaks for another's Gateway.
fn gateway(pod: &Pod, namespace: &str) -> Option<String> {
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    if let Some(name) = labels.get(LABEL_GATEWAY_NAME) {
        return Some(format!("{namespace}/{name}"));
    }
    let annotations = pod.metadata.annotations.as_ref()?;
    let templates = annotations.get(ANNOTATION_TEMPLATES)?;
    let is_gateway = templates
        .split(',')
        .any(|name| name.trim() == TEMPLATE_GATEWAY);
    is_gateway.then(|| format!("{namespace}/{}", workload_name(pod, labels)))
}

/// Name of the Deployment, or whatever else made a pod; of the pod itself if nothing did.
pub(crate) fn workload_name(pod: &Pod, labels: &BTreeMap<String, String>) -> String {
    if let Some(name) = labels.get(LABEL_WORKLOAD_NAME) {
        return name.clone();
    }
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.find(|owner| owner.controller == Some(true)) else {
        return pod.metadata.name.clone().unwrap_or_default();
    };
    let hash = labels.get(LABEL_POD_TEMPLATE_HASH);
    let deployment = hash
        .filter(|_| owner.kind == "ReplicaSet")
        .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    deployment.unwrap_or(&owner.name).to_owned()
}

fn place(key: &Key, pod: &KnownPod) -> Option<Place> {
    let counts = !pod.failed && !pod.node.is_empty();
    counts.then(|| {
        (
            pod.node.clone(),
            key.namespace.clone(),
            pod.service_account.clone(),
        )
    })
}

#[cfg(test)]
mod tests;
