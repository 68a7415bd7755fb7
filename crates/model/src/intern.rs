//! One copy of each text that many objects share.

use std::collections::HashSet;
use std::sync::Arc;

/// Texts by value. Namespaces, nodes, service accounts and labels repeat by the thousand; uids do not and stay out.
#[derive(Debug, Default)]
pub struct Interner {
    texts: HashSet<Arc<str>>,
    sweep_at: usize,
}

/// Below this many texts a sweep is not worth it.
const SWEEP_MINIMUM: usize = 1024;

impl Interner {
    /// The shared copy of `text`. Now and then drops copies that nobody else holds, so that it cannot grow for ever.
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.texts.get(text) {
            return shared.clone();
        }
        if self.texts.len() >= self.sweep_at.max(SWEEP_MINIMUM) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = self.texts.len() * 2;
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(shared.clone());
        shared
    }

    /// How many texts are held.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// None is held.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}
