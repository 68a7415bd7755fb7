//! What is to be deployed, as the translating thread says it, and what waits to be looked at.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tulle_api::contract::LABEL_GATEWAY_CLASS_DEFAULTS;
use tulle_api::k8s_openapi::api::core::v1::ConfigMap;
use tulle_cluster::Key;
use tulle_translate::Deployable;

use super::{GatewayKey, Plane};

/// Where Deployables are handed in. Clones share one queue, which holds each Gateway at most once.
#[derive(Clone)]
pub(crate) struct Deployments(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// A class, and the overlays for its Gateways.
type Defaults = (String, BTreeMap<String, String>);

struct State {
    plane: Plane,
    wanted: HashMap<GatewayKey, Arc<Deployable>>,
    /// Defaults of classes, by age and name. The oldest counts.
    defaults: BTreeMap<(String, Arc<str>), Defaults>,
    queue: VecDeque<GatewayKey>,
    queued: HashSet<GatewayKey>,
}

impl Deployments {
    pub(crate) fn new(plane: Plane) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                plane,
                wanted: HashMap::new(),
                defaults: BTreeMap::new(),
                queue: VecDeque::new(),
                queued: HashSet::new(),
            }),
            changed: Notify::new(),
        }))
    }

    /// What a Gateway needs now; `None`: nothing from us.
    pub(crate) fn submit(&self, gateway: GatewayKey, wanted: Option<Deployable>) {
        self.change(|state| {
            match wanted {
                Some(wanted) => {
                    state.wanted.insert(gateway.clone(), Arc::new(wanted));
                }
                None => {
                    state.wanted.remove(&gateway);
                }
            }
            state.enqueue(gateway);
        });
    }

    /// A ConfigMap changed: those that have it as parameters, or of whose class it has the defaults, are looked at again.
    pub(crate) fn config_map(&self, change: &Result<ConfigMap, Key>) {
        let key = match change {
            Ok(map) => Key::of(map),
            Err(key) => key.clone(),
        };
        self.change(|state| {
            if *key.namespace == *state.plane.namespace {
                state.class_defaults(&key.name, change.as_ref().ok());
            }
            let uses = |wanted: &Deployable| {
                wanted.namespace == key.namespace && wanted.parameters.as_ref() == Some(&key.name)
            };
            state.enqueue_where(uses);
        });
    }

    /// The mesh's trust domain changed: every proxy must know.
    pub(crate) fn trust_domain(&self, trust_domain: &str) {
        self.change(|state| {
            if state.plane.trust_domain != trust_domain {
                state.plane.trust_domain = trust_domain.to_owned();
                state.enqueue_where(|_| true);
            }
        });
    }

    /// Every Gateway is looked at.
    pub(crate) fn everything(&self) {
        self.change(|state| state.enqueue_where(|_| true));
    }

    pub(crate) fn get(&self, gateway: &GatewayKey) -> Option<Arc<Deployable>> {
        self.lock().wanted.get(gateway).cloned()
    }

    pub(crate) fn plane(&self) -> Plane {
        self.lock().plane.clone()
    }

    /// Name and content of the oldest ConfigMap with defaults for a class.
    pub(crate) fn class_defaults(&self, class: &str) -> Option<(String, BTreeMap<String, String>)> {
        let state = self.lock();
        let mut all = state.defaults.iter();
        let ((_, name), (_, overlays)) = all.find(|(_, (of, _))| of == class)?;
        Some((
            format!("{}/{name}", state.plane.namespace),
            overlays.clone(),
        ))
    }

    /// Waits for a Gateway to look at.
    pub(crate) async fn next(&self) -> GatewayKey {
        loop {
            if let Some(gateway) = self.lock().pop() {
                return gateway;
            }
            self.0.changed.notified().await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waiting = !state.queue.is_empty();
        drop(state);
        if waiting {
            self.0.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// As many as there are Gateways, at most.
    fn enqueue(&mut self, gateway: GatewayKey) {
        if self.queued.insert(gateway.clone()) {
            self.queue.push_back(gateway);
        }
    }

    fn enqueue_where(&mut self, which: impl Fn(&Deployable) -> bool) {
        let matching = self.wanted.iter().filter(|(_, wanted)| which(wanted));
        let keys: Vec<_> = matching.map(|(key, _)| key.clone()).collect();
        keys.into_iter().for_each(|key| self.enqueue(key));
    }

    fn pop(&mut self) -> Option<GatewayKey> {
        let gateway = self.queue.pop_front()?;
        self.queued.remove(&gateway);
        Some(gateway)
    }

    fn class_defaults(&mut self, name: &Arc<str>, map: Option<&ConfigMap>) {
        let mut concerned = Vec::new();
        self.defaults.retain(|(_, known), (class, _)| {
            if known == name {
                concerned.push(class.clone());
            }
            known != name
        });
        let class = map.and_then(|map| {
            let labels = map.metadata.labels.as_ref()?;
            Some((map, labels.get(LABEL_GATEWAY_CLASS_DEFAULTS)?.clone()))
        });
        if let Some((map, class)) = class {
            let age = map.metadata.creation_timestamp.as_ref();
            let age = age.map(|time| time.0.to_string()).unwrap_or_default();
            let overlays = map.data.clone().unwrap_or_default();
            concerned.push(class.clone());
            self.defaults.insert((age, name.clone()), (class, overlays));
        }
        self.enqueue_where(|wanted| concerned.iter().any(|class| **class == *wanted.class_name));
    }
}

#[cfg(test)]
mod tests;
