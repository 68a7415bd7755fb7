//! Labels and selectors, with shared texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_model::Interner;

/// Labels, ordered by key. Also a selector: then all of them must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Of a resource.
    pub fn new(labels: &BTreeMap<String, String>, texts: &mut Interner) -> Self {
        Self(
            labels
                .iter()
                .map(|(k, v)| (texts.intern(k), texts.intern(v)))
                .collect(),
        )
    }

    /// Of a resource that may have none.
    pub fn of(labels: Option<&BTreeMap<String, String>>, texts: &mut Interner) -> Self {
        labels.map_or_else(Self::default, |labels| Self::new(labels, texts))
    }

    /// Without sharing, for a comparison.
    pub(crate) fn from_pairs(labels: &BTreeMap<String, String>) -> Self {
        let pairs = labels
            .iter()
            .map(|(k, v)| (k.as_str().into(), v.as_str().into()));
        Self(pairs.collect())
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Value of a label.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// All pairs, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = &(Arc<str>, Arc<str>)> {
        self.0.iter()
    }

    /// Whether `self`, as a selector, selects something with these labels. An empty selector selects everything.
    pub fn selects(&self, labels: &Self) -> bool {
        self.iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}
