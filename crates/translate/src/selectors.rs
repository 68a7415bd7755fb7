//! Which selectors select these labels? Without asking each of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::labels::Labels;

/// Key and value.
type Label = (Arc<str>, Arc<str>);

/// Selectors by one label that each of them asks for.
#[derive(Debug)]
pub(crate) struct SelectorIndex<K> {
    buckets: HashMap<Label, Vec<(K, Labels)>>,
}

impl<K> Default for SelectorIndex<K> {
    fn default() -> Self {
        Self {
            buckets: HashMap::new(),
        }
    }
}

impl<K: PartialEq + Clone> SelectorIndex<K> {
    /// Adds a selector; one that asks for nothing is not kept, its meaning differs by resource.
    pub(crate) fn insert(&mut self, key: K, selector: &Labels) {
        if let Some(bucket) = bucket(selector) {
            self.buckets
                .entry(bucket)
                .or_default()
                .push((key, selector.clone()));
        }
    }

    /// Removes what [`Self::insert`] added.
    pub(crate) fn remove(&mut self, key: &K, selector: &Labels) {
        let Some(bucket) = bucket(selector) else {
            return;
        };
        if let Some(entries) = self.buckets.get_mut(&bucket) {
            entries.retain(|(k, _)| k != key);
            if entries.is_empty() {
                self.buckets.remove(&bucket);
            }
        }
    }

    /// Keys of the selectors that select `labels`, in no order.
    pub(crate) fn selecting<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a K> {
        labels
            .iter()
            .filter_map(|pair| self.buckets.get(pair))
            .flatten()
            .filter(|(_, selector)| selector.selects(labels))
            .map(|(key, _)| key)
    }
}

/// Any label of the selector would do. The value that is longest tends to be the rarest.
fn bucket(selector: &Labels) -> Option<Label> {
    selector
        .iter()
        .max_by_key(|(_, value)| value.len())
        .cloned()
}
