//! One copy of each text that many routes have.

use std::collections::HashSet;
use std::sync::Arc;

use crate::limits::TEXT_SWEEP_MINIMUM;
use crate::resource::{ObjectKey, Parent};

/// Kinds, namespaces, gateways, listeners and hosts by value.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    texts: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Texts {
    /// Replaces what is equal to what other routes have.
    pub(super) fn share(&mut self, object: &mut ObjectKey, parents: &mut [Parent]) {
        self.one(&mut object.kind);
        self.one(&mut object.namespace);
        for parent in parents {
            if let Parent::Listener {
                gateway,
                listener,
                hostnames,
            } = parent
            {
                self.one(gateway);
                self.one(listener);
                for host in hostnames {
                    self.one(&mut host.0);
                }
            }
        }
    }

    /// Now and then drops copies that nobody else holds.
    fn one(&mut self, text: &mut Arc<str>) {
        if let Some(shared) = self.texts.get(text) {
            *text = shared.clone();
            return;
        }
        if self.texts.len() >= self.sweep_at.max(TEXT_SWEEP_MINIMUM) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = self.texts.len() * 2;
        }
        self.texts.insert(text.clone());
    }
}
