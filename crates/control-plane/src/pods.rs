//! Which pods exist, for the CA: who asks, and whose identities may be asked for on which node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tulle_api::k8s_openapi::api::core::v1::Pod;
use tulle_cluster::Key;

/// What the CA needs of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownPod {
    pub(crate) uid: Box<str>,
    pub(crate) service_account: Arc<str>,
    /// Empty while it is not scheduled.
    pub(crate) node: Arc<str>,
    /// A failed pod runs nothing any more.
    pub(crate) failed: bool,
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
