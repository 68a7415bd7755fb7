//! Matches of one host in the order in which they win, found by path.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::compiled::{CompiledMatch, CompiledRule, MatchedPath, PathTest};
use crate::limits::WALKED_MATCHES;
use crate::request::RequestHead;
use crate::resource::Precedence;

/// One match of a rule.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    rule: Arc<CompiledRule>,
    index: usize,
}

impl Entry {
    pub(super) fn new(rule: Arc<CompiledRule>, index: usize) -> Self {
        Self { rule, index }
    }

    pub(super) fn rule(&self) -> &Arc<CompiledRule> {
        &self.rule
    }

    fn alternative(&self) -> Option<&CompiledMatch> {
        self.rule.matches.get(self.index)
    }

    fn test(&self, request: &RequestHead<'_>) -> Option<MatchedPath> {
        self.alternative()?.test(request)
    }

    /// Which of two matching entries wins: the lesser one.
    fn order(&self, other: &Self) -> Ordering {
        let (Some(a), Some(b)) = (self.alternative(), other.alternative()) else {
            return Ordering::Equal;
        };
        let (route_a, route_b) = (self.rule.route(), other.rule.route());
        let by_kind = match (route_a.precedence, route_b.precedence) {
            (Precedence::InOrder, Precedence::Specific) => Ordering::Less,
            (Precedence::Specific, Precedence::InOrder) => Ordering::Greater,
            (Precedence::InOrder, Precedence::InOrder) => a.catch_all.cmp(&b.catch_all),
            (Precedence::Specific, Precedence::Specific) => b.specificity.cmp(&a.specificity),
        };
        let (object_a, object_b) = (&route_a.object, &route_b.object);
        by_kind
            .then_with(|| route_a.created.cmp(&route_b.created))
            .then_with(|| object_a.namespace.cmp(&object_b.namespace))
            .then_with(|| object_a.name.cmp(&object_b.name))
            .then_with(|| object_a.kind.cmp(&object_b.kind))
            .then_with(|| self.rule.index().cmp(&other.rule.index()))
            .then_with(|| self.index.cmp(&other.index))
    }
}

/// The one that wins.
pub(super) fn better<'a>(
    a: Option<(&'a Entry, MatchedPath)>,
    b: Option<(&'a Entry, MatchedPath)>,
) -> Option<(&'a Entry, MatchedPath)> {
    match (a, b) {
        (Some(a), Some(b)) if b.0.order(a.0).is_lt() => Some(b),
        (Some(a), _) => Some(a),
        (None, b) => b,
    }
}

/// Entries, sorted; few are walked, many are found by path.
#[derive(Clone, Debug)]
pub(super) enum Index {
    Walked(Bucket),
    ByPath(Box<ByPath>),
}

impl Default for Index {
    fn default() -> Self {
        Self::Walked(Bucket::default())
    }
}

impl Index {
    pub(super) fn insert(&mut self, entry: Entry) {
        match self {
            Self::Walked(bucket) if bucket.0.len() < WALKED_MATCHES => bucket.insert(entry),
            Self::Walked(bucket) => {
                let mut by_path = ByPath::default();
                for old in std::mem::take(&mut bucket.0) {
                    by_path.insert(old);
                }
                by_path.insert(entry);
                *self = Self::ByPath(Box::new(by_path));
            }
            Self::ByPath(by_path) => by_path.insert(entry),
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        match self {
            Self::Walked(bucket) => bucket.remove(entry),
            Self::ByPath(by_path) => by_path.remove(entry),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Walked(bucket) => bucket.0.is_empty(),
            Self::ByPath(by_path) => by_path.entries == 0,
        }
    }

    pub(super) fn find(&self, request: &RequestHead<'_>) -> Option<(&Entry, MatchedPath)> {
        match self {
            Self::Walked(bucket) => bucket.find(request, None),
            Self::ByPath(by_path) => by_path.find(request),
        }
    }
}

/// Grows one by one.
const SMALL_BUCKET: usize = 4;

/// Sorted entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Bucket(Vec<Entry>);

impl Bucket {
    fn insert(&mut self, entry: Entry) {
        let at = self.0.partition_point(|other| other.order(&entry).is_lt());
        // Most buckets stay small: room for four where one is needed adds up.
        if self.0.len() < SMALL_BUCKET {
            self.0.reserve_exact(1);
        }
        self.0.insert(at, entry);
    }

    /// Whether it was there.
    fn remove(&mut self, entry: &Entry) -> bool {
        let at = self.0.partition_point(|other| other.order(entry).is_lt());
        let there = self
            .0
            .get(at)
            .is_some_and(|other| other.order(entry).is_eq());
        if there {
            self.0.remove(at);
        }
        there
    }

    /// The first that matches, if it wins over `best`; else `best`.
    fn find<'a>(
        &'a self,
        request: &RequestHead<'_>,
        best: Option<(&'a Entry, MatchedPath)>,
    ) -> Option<(&'a Entry, MatchedPath)> {
        for entry in &self.0 {
            if best.is_some_and(|(best, _)| best.order(entry).is_le()) {
                return best;
            }
            if let Some(matched) = entry.test(request) {
                return Some((entry, matched));
            }
        }
        best
    }
}

/// Entries by the path that they ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct ByPath {
    exact: HashMap<Arc<str>, Bucket>,
    elements: Prefixes,
    texts: Prefixes,
    /// Expressions, and paths that do not mind case.
    rest: Bucket,
    entries: usize,
}

impl ByPath {
    fn insert(&mut self, entry: Entry) {
        self.entries += 1;
        match Place::of(&entry) {
            Place::Exact(path) => self.exact.entry(path).or_default().insert(entry),
            Place::Elements(prefix) => self.elements.insert(prefix, entry),
            Place::Text(prefix) => self.texts.insert(prefix, entry),
            Place::Rest => self.rest.insert(entry),
        }
    }

    fn remove(&mut self, entry: &Entry) -> bool {
        let removed = match Place::of(entry) {
            Place::Exact(path) => {
                let bucket = self.exact.get_mut(&path);
                let removed = bucket.is_some_and(|bucket| bucket.remove(entry));
                if self.exact.get(&path).is_some_and(|b| b.0.is_empty()) {
                    self.exact.remove(&path);
                }
                removed
            }
            Place::Elements(prefix) => self.elements.remove(&prefix, entry),
            Place::Text(prefix) => self.texts.remove(&prefix, entry),
            Place::Rest => self.rest.remove(entry),
        };
        self.entries -= usize::from(removed);
        removed
    }

    fn find(&self, request: &RequestHead<'_>) -> Option<(&Entry, MatchedPath)> {
        let path = request.path;
        let exact = self.exact.get(path);
        let best = exact.and_then(|bucket| bucket.find(request, None));
        let best = self.elements.find(request, best, |length| {
            crate::compiled::at_boundary(path, length)
        });
        let best = self
            .texts
            .find(request, best, |length| path.is_char_boundary(length));
        self.rest.find(request, best)
    }
}

/// Where an entry is kept.
enum Place {
    Exact(Arc<str>),
    Elements(Arc<str>),
    Text(Arc<str>),
    Rest,
}

impl Place {
    fn of(entry: &Entry) -> Self {
        match entry.alternative() {
            Some(alternative) if !alternative.ignore_case => match &alternative.path {
                PathTest::Any => Self::Elements("".into()),
                PathTest::Exact(path) => Self::Exact(path.clone()),
                PathTest::Elements(prefix) => Self::Elements(prefix.clone()),
                PathTest::Text(prefix) => Self::Text(prefix.clone()),
                PathTest::Regex(_) => Self::Rest,
            },
            _ => Self::Rest,
        }
    }
}

/// Entries by prefix. Only lengths that occur are looked at.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    buckets: HashMap<Arc<str>, Bucket>,
    /// How many buckets have a prefix of this length.
    lengths: BTreeMap<usize, usize>,
}

impl Prefixes {
    fn insert(&mut self, prefix: Arc<str>, entry: Entry) {
        let length = prefix.len();
        let lengths = &mut self.lengths;
        self.buckets
            .entry(prefix)
            .or_insert_with(|| {
                *lengths.entry(length).or_default() += 1;
                Bucket::default()
            })
            .insert(entry);
    }

    fn remove(&mut self, prefix: &str, entry: &Entry) -> bool {
        let Some(bucket) = self.buckets.get_mut(prefix) else {
            return false;
        };
        let removed = bucket.remove(entry);
        if bucket.0.is_empty() {
            self.buckets.remove(prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
        removed
    }

    fn find<'a>(
        &'a self,
        request: &RequestHead<'_>,
        mut best: Option<(&'a Entry, MatchedPath)>,
        ends: impl Fn(usize) -> bool,
    ) -> Option<(&'a Entry, MatchedPath)> {
        let lengths = self.lengths.range(..=request.path.len()).rev();
        for (length, _) in lengths.filter(|(length, _)| ends(**length)) {
            let prefix = request.path.get(..*length);
            if let Some(bucket) = prefix.and_then(|prefix| self.buckets.get(prefix)) {
                best = bucket.find(request, best);
            }
        }
        best
    }
}
