//! One copy of what many routes have.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use tulle_model::ServiceKey;

use crate::limits::SHARED_SWEEP_MINIMUM;
use crate::resource::{Backend, BackendTarget, Parent};

/// Names of gateways, listeners and services, and lists of backends, by value.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    texts: Pool<str>,
    backends: Pool<[Backend]>,
}

impl Shared {
    /// Replaces what is equal to what other routes have. Hosts are not in it: most are of one route alone.
    pub(super) fn parents(&mut self, parents: &mut [Parent]) {
        for parent in parents {
            match parent {
                Parent::Listener {
                    gateway, listener, ..
                } => {
                    self.texts.share(gateway);
                    self.texts.share(listener);
                }
                Parent::Service { service, .. } => self.service(service),
            }
        }
    }

    /// Routes to the same places differ in their matches, most often.
    pub(super) fn backends(&mut self, backends: &mut Arc<[Backend]>) {
        if let Some(known) = self.backends.held.get(backends) {
            *backends = known.clone();
            return;
        }
        for backend in Arc::make_mut(backends) {
            if let BackendTarget::Service { service, .. } = &mut backend.target {
                self.service(service);
            }
        }
        self.backends.share(backends);
    }

    fn service(&mut self, key: &mut ServiceKey) {
        let mut text = key.text().clone();
        self.texts.share(&mut text);
        if let Some(shared) = ServiceKey::shared(text) {
            *key = shared;
        }
    }
}

/// Values that are held once.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    held: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// Now and then drops copies that nobody else holds.
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(shared) = self.held.get(value) {
            *value = shared.clone();
            return;
        }
        if self.held.len() >= self.sweep_at.max(SHARED_SWEEP_MINIMUM) {
            self.held.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = self.held.len() * 2;
        }
        self.held.insert(value.clone());
    }
}

impl<T: ?Sized> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self {
            held: self.held.clone(),
            sweep_at: self.sweep_at,
        }
    }
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self {
            held: HashSet::new(),
            sweep_at: 0,
        }
    }
}
