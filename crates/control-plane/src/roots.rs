//! The ConfigMap `istio-ca-root-cert` in every namespace: what pods mount to trust the mesh.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use tulle_api::contract;
use tulle_api::k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use tulle_cluster::{Api, Change, Client, Key, Selection};

use crate::limits::{ROOT_RETRY, ROOT_WRITES};

/// Namespaces of Kubernetes itself, as Istio leaves them out.
const IGNORED: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Keeps the ConfigMaps equal to the newest value of `root`, for ever.
pub(crate) async fn distribute(client: Client, mut root: watch::Receiver<Arc<str>>) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut namespaces = tulle_cluster::watch(namespaces, Selection::default());
    let maps: Api<ConfigMap> = Api::all(client.clone());
    let selection = Selection::fields(&format!("metadata.name={}", contract::CONFIGMAP_ROOT));
    let mut maps = tulle_cluster::watch(maps, selection);
    let mut wanted = Wanted::new(root.borrow_and_update().clone());
    let mut retry = Instant::now();
    loop {
        tokio::select! {
            Some(change) = namespaces.next() => wanted.namespace(change),
            Some(change) = maps.next() => wanted.config_map(change),
            Ok(()) = root.changed() => wanted.root(root.borrow_and_update().clone()),
            () = sleep_until(retry), if wanted.has_work() => {
                if !write(&client, &mut wanted).await {
                    retry = Instant::now() + ROOT_RETRY;
                }
            }
        }
    }
}

/// `false` when something has to be tried again.
async fn write(client: &Client, wanted: &mut Wanted) -> bool {
    let root = wanted.root.clone();
    let due: Vec<Arc<str>> = wanted.due.iter().take(ROOT_WRITES).cloned().collect();
    let results: Vec<_> = stream::iter(due)
        .map(|namespace| {
            let (client, root) = (client.clone(), root.clone());
            async move {
                let result = write_one(client, &namespace, &root).await;
                (namespace, result)
            }
        })
        .buffer_unordered(ROOT_WRITES)
        .collect()
        .await;
    let mut good = true;
    for (namespace, result) in results {
        match result {
            Ok(()) => wanted.written(&namespace),
            // The namespace is ending; its end will be told too.
            Err(error) if error.is_not_found() => wanted.written(&namespace),
            Err(tulle_cluster::Error::Forbidden { why, .. })
                if why.contains("being terminated") =>
            {
                wanted.written(&namespace);
            }
            Err(error) => {
                warn!(%namespace, "root certificate: {error}");
                good = false;
            }
        }
    }
    good
}

async fn write_one(client: Client, namespace: &str, root: &str) -> tulle_cluster::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": contract::CONFIGMAP_ROOT,
            "namespace": namespace,
            "labels": { "istio.io/config": "true" },
        },
        "data": { contract::ROOT_KEY: root },
    });
    let name = contract::CONFIGMAP_ROOT;
    tulle_cluster::apply(&api, name, contract::FIELD_MANAGER, &object).await?;
    debug!(namespace, "root certificate written");
    Ok(())
}

/// Which namespaces have what, as hashes, and which are due.
struct Wanted {
    root: Arc<str>,
    wanted_hash: u64,
    hasher: RandomState,
    namespaces: HashSet<Arc<str>>,
    present: HashMap<Arc<str>, u64>,
    due: HashSet<Arc<str>>,
    /// Nothing is written before both lists are known: most is there after a restart.
    waiting_for: u8,
}

impl Wanted {
    fn new(root: Arc<str>) -> Self {
        let hasher = RandomState::new();
        let wanted_hash = hasher.hash_one(&*root);
        Self {
            root,
            wanted_hash,
            hasher,
            namespaces: HashSet::new(),
            present: HashMap::new(),
            due: HashSet::new(),
            waiting_for: 2,
        }
    }

    fn has_work(&self) -> bool {
        self.waiting_for == 0 && !self.due.is_empty()
    }

    fn root(&mut self, root: Arc<str>) {
        if self.root != root {
            info!("the mesh's roots changed: writing them to every namespace");
            self.wanted_hash = self.hasher.hash_one(&*root);
            self.root = root;
            let all: Vec<_> = self.namespaces.iter().cloned().collect();
            all.iter().for_each(|namespace| self.check(namespace));
        }
    }

    fn namespace(&mut self, change: Change<Namespace>) {
        match change {
            Change::Upsert(object) => {
                let phase = object
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref());
                let name: Arc<str> = object.metadata.name.unwrap_or_default().into();
                if phase == Some("Terminating") || object.metadata.deletion_timestamp.is_some() {
                    self.forget(&name);
                } else if !IGNORED.contains(&&*name) {
                    self.namespaces.insert(name.clone());
                    self.check(&name);
                }
            }
            Change::Remove(key) => self.forget(&key.name),
            Change::Synced => self.waiting_for = self.waiting_for.saturating_sub(1),
        }
    }

    fn config_map(&mut self, change: Change<ConfigMap>) {
        match change {
            Change::Upsert(object) => {
                let Key { namespace, .. } = Key::of(&object);
                let hash = content(&object).map_or(0, |text| self.hasher.hash_one(text));
                self.present.insert(namespace.clone(), hash);
                self.check(&namespace);
            }
            Change::Remove(key) => {
                self.present.remove(&key.namespace);
                self.check(&key.namespace);
            }
            Change::Synced => self.waiting_for = self.waiting_for.saturating_sub(1),
        }
    }

    fn check(&mut self, namespace: &Arc<str>) {
        let good = self.present.get(namespace) == Some(&self.wanted_hash);
        if good || !self.namespaces.contains(namespace) {
            self.due.remove(namespace);
        } else {
            self.due.insert(namespace.clone());
        }
    }

    fn forget(&mut self, namespace: &Arc<str>) {
        self.namespaces.remove(namespace);
        self.due.remove(namespace);
    }

    /// The watch will confirm it; until then it counts as done, or it would be written again.
    fn written(&mut self, namespace: &Arc<str>) {
        self.due.remove(namespace);
    }
}

fn content(object: &ConfigMap) -> Option<&String> {
    object
        .data
        .as_ref()
        .and_then(|data: &BTreeMap<String, String>| data.get(contract::ROOT_KEY))
}

#[cfg(test)]
mod tests;
