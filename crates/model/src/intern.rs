//! One copy of each value that many objects share.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::workload::Membership;

/// Shared copies of what repeats by the thousand: namespaces, nodes, service accounts, labels; and the services of a workload,
/// which all replicas have in common. Uids do not repeat and stay out.
#[derive(Debug, Default)]
pub struct Interner {
    texts: Shared<str>,
    memberships: Shared<[Membership]>,
}

impl Interner {
    /// The shared copy of `text`.
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        self.texts.copy_of(text)
    }

    /// The shared copy of the services of a workload.
    pub fn memberships(&mut self, services: &[Membership]) -> Arc<[Membership]> {
        self.memberships.copy_of(services)
    }

    /// How many texts are held.
    pub fn len(&self) -> usize {
        self.texts.values.len()
    }

    /// No text is held.
    pub fn is_empty(&self) -> bool {
        self.texts.values.is_empty()
    }
}

/// Values of one type. Now and then drops copies that nobody else holds, so that it cannot grow for ever.
#[derive(Debug)]
struct Shared<T: ?Sized> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

/// Below this many values a sweep is not worth it.
const SWEEP_MINIMUM: usize = 1024;

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self {
            values: HashSet::new(),
            sweep_at: SWEEP_MINIMUM,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    fn copy_of<'a>(&mut self, value: &'a T) -> Arc<T>
    where
        Arc<T>: From<&'a T>,
    {
        if let Some(shared) = self.values.get(value) {
            return shared.clone();
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(SWEEP_MINIMUM);
        }
        let shared: Arc<T> = value.into();
        self.values.insert(shared.clone());
        shared
    }
}
