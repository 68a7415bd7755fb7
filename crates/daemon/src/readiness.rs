//! Whether a process is ready, and what it is waiting for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Named conditions that all must hold. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

impl Readiness {
    /// Without conditions: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that does not hold yet.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.lock().insert(name, false);
        Condition {
            name,
            of: self.clone(),
        }
    }

    /// What does not hold, by name; empty when ready.
    pub fn pending(&self) -> Vec<&'static str> {
        self.lock()
            .iter()
            .filter(|(_, holds)| !**holds)
            .map(|(name, _)| *name)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, bool>> {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition of a [`Readiness`].
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    of: Readiness,
}

impl Condition {
    /// Says whether it holds now.
    pub fn set(&self, holds: bool) {
        self.of.lock().insert(self.name, holds);
    }
}

#[cfg(test)]
mod tests;
