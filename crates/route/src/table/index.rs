//! Matches of one host in the order in which they win, found by path.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::slice;
use std::sync::Arc;

use crate::compiled::{CompiledRule, MatchedPath, PathTest};
use crate::limits::WALKED_MATCHES;
use crate::request::RequestHead;
use crate::resource::{ObjectKey, Precedence};

/// A rule by one of its matches, and how the path matched.
pub(super) type Found<'a> = Option<(&'a CompiledRule, MatchedPath)>;

impl CompiledRule {
    fn test(&self, request: &RequestHead<'_>) -> Option<MatchedPath> {
        self.condition()?.test(request)
    }

    /// Which of two that match wins: the lesser one.
    fn order(&self, other: &Self) -> Ordering {
        let (Some(a), Some(b)) = (self.condition(), other.condition()) else {
            return Ordering::Equal;
        };
        let by_kind = match (self.precedence(), other.precedence()) {
            (Precedence::InOrder, Precedence::Specific) => Ordering::Less,
            (Precedence::Specific, Precedence::InOrder) => Ordering::Greater,
            (Precedence::InOrder, Precedence::InOrder) => a.catches_all().cmp(&b.catches_all()),
            (Precedence::Specific, Precedence::Specific) => b.specificity().cmp(&a.specificity()),
        };
        fn name(object: &ObjectKey) -> (&str, &str, &str) {
            (object.namespace(), object.name(), object.kind())
        }
        by_kind
            .then_with(|| self.created().cmp(&other.created()))
            .then_with(|| name(self.object()).cmp(&name(other.object())))
            .then_with(|| self.index().cmp(&other.index()))
            .then_with(|| self.alternative().cmp(&other.alternative()))
    }
}

/// The one that wins.
pub(super) fn better<'a>(a: Found<'a>, b: Found<'a>) -> Found<'a> {
    match (a, b) {
        (Some(a), Some(b)) if b.0.order(a.0).is_lt() => Some(b),
        (Some(a), _) => Some(a),
        (None, b) => b,
    }
}

/// Matches, sorted; few are walked, many are found by path. What is not touched is shared between copies of a table.
#[derive(Clone, Debug)]
pub(super) enum Index {
    Walked(Bucket),
    ByPath(Arc<ByPath>),
}

impl Index {
    pub(super) fn new(rule: CompiledRule) -> Self {
        Self::Walked(Bucket::One(rule))
    }

    pub(super) fn insert(&mut self, rule: CompiledRule) {
        match self {
            Self::Walked(bucket) if bucket.rules().len() < WALKED_MATCHES => bucket.insert(rule),
            Self::Walked(bucket) => {
                let mut by_path = ByPath::default();
                for old in bucket.rules() {
                    by_path.insert(old.clone());
                }
                by_path.insert(rule);
                *self = Self::ByPath(Arc::new(by_path));
            }
            Self::ByPath(by_path) => Arc::make_mut(by_path).insert(rule),
        }
    }

    /// Whether anything is left.
    #[must_use]
    pub(super) fn remove(&mut self, rule: &CompiledRule) -> bool {
        match self {
            Self::Walked(bucket) => bucket.remove(rule),
            Self::ByPath(by_path) => Arc::make_mut(by_path).remove(rule),
        }
    }

    pub(super) fn find(&self, request: &RequestHead<'_>) -> Found<'_> {
        match self {
            Self::Walked(bucket) => bucket.find(request, None),
            Self::ByPath(by_path) => by_path.find(request),
        }
    }
}

/// Sorted matches, at least one. Most hosts and paths have no more than that, and take no room of their own for it.
#[derive(Clone, Debug)]
pub(super) enum Bucket {
    One(CompiledRule),
    Many(Arc<Vec<CompiledRule>>),
}

impl Bucket {
    fn rules(&self) -> &[CompiledRule] {
        match self {
            Self::One(rule) => slice::from_ref(rule),
            Self::Many(rules) => rules,
        }
    }

    fn insert(&mut self, rule: CompiledRule) {
        match self {
            Self::One(one) => {
                let mut both = vec![one.clone(), rule];
                both.sort_by(CompiledRule::order);
                *self = Self::Many(Arc::new(both));
            }
            Self::Many(rules) => {
                let at = rules.partition_point(|other| other.order(&rule).is_lt());
                Arc::make_mut(rules).insert(at, rule);
            }
        }
    }

    /// Whether anything is left.
    fn remove(&mut self, rule: &CompiledRule) -> bool {
        match self {
            Self::One(one) => one.order(rule).is_ne(),
            Self::Many(rules) => {
                if let Ok(at) = rules.binary_search_by(|other| other.order(rule)) {
                    Arc::make_mut(rules).remove(at);
                }
                !rules.is_empty()
            }
        }
    }

    /// The first that matches, if it wins over `best`; else `best`.
    fn find<'a>(&'a self, request: &RequestHead<'_>, best: Found<'a>) -> Found<'a> {
        for rule in self.rules() {
            if best.is_some_and(|(best, _)| best.order(rule).is_le()) {
                return best;
            }
            if let Some(matched) = rule.test(request) {
                return Some((rule, matched));
            }
        }
        best
    }
}

type Buckets = HashMap<Arc<str>, Bucket>;

/// Whether the key is new.
fn add(buckets: &mut Buckets, key: Arc<str>, rule: CompiledRule) -> bool {
    match buckets.entry(key) {
        Entry::Occupied(bucket) => {
            bucket.into_mut().insert(rule);
            false
        }
        Entry::Vacant(place) => {
            place.insert(Bucket::One(rule));
            true
        }
    }
}

/// Whether the key is gone.
fn take(buckets: &mut Buckets, key: &str, rule: &CompiledRule) -> bool {
    let bucket = buckets.get_mut(key);
    bucket.is_some_and(|bucket| !bucket.remove(rule)) && buckets.remove(key).is_some()
}

/// Matches by the path that they ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct ByPath {
    exact: Buckets,
    elements: Prefixes,
    texts: Prefixes,
    /// Expressions, and paths that do not mind case.
    rest: Option<Bucket>,
}

impl ByPath {
    fn insert(&mut self, rule: CompiledRule) {
        match Place::of(&rule) {
            Place::Exact(path) => {
                add(&mut self.exact, path, rule);
            }
            Place::Elements(prefix) => self.elements.insert(prefix, rule),
            Place::Text(prefix) => self.texts.insert(prefix, rule),
            Place::Rest => match &mut self.rest {
                Some(bucket) => bucket.insert(rule),
                none => *none = Some(Bucket::One(rule)),
            },
        }
    }

    /// Whether anything is left.
    fn remove(&mut self, rule: &CompiledRule) -> bool {
        match Place::of(rule) {
            Place::Exact(path) => {
                take(&mut self.exact, &path, rule);
            }
            Place::Elements(prefix) => self.elements.remove(&prefix, rule),
            Place::Text(prefix) => self.texts.remove(&prefix, rule),
            Place::Rest => {
                self.rest.take_if(|bucket| !bucket.remove(rule));
            }
        }
        let prefixes = [&self.elements, &self.texts];
        !self.exact.is_empty()
            || self.rest.is_some()
            || prefixes.iter().any(|p| !p.buckets.is_empty())
    }

    fn find(&self, request: &RequestHead<'_>) -> Found<'_> {
        let path = request.path;
        let exact = self.exact.get(path);
        let best = exact.and_then(|bucket| bucket.find(request, None));
        let best = self.elements.find(request, best, |length| {
            crate::compiled::at_boundary(path, length)
        });
        let best = self
            .texts
            .find(request, best, |length| path.is_char_boundary(length));
        match &self.rest {
            Some(rest) => rest.find(request, best),
            None => best,
        }
    }
}

/// Where a match is kept.
enum Place {
    Exact(Arc<str>),
    Elements(Arc<str>),
    Text(Arc<str>),
    Rest,
}

impl Place {
    fn of(rule: &CompiledRule) -> Self {
        match rule.condition() {
            Some(condition) if !condition.ignore_case => match &condition.path {
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

/// Matches by prefix. Only lengths that occur are looked at.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    buckets: Buckets,
    /// How many buckets have a prefix of this length.
    lengths: BTreeMap<usize, usize>,
}

impl Prefixes {
    fn insert(&mut self, prefix: Arc<str>, rule: CompiledRule) {
        let length = prefix.len();
        if add(&mut self.buckets, prefix, rule) {
            *self.lengths.entry(length).or_default() += 1;
        }
    }

    fn remove(&mut self, prefix: &str, rule: &CompiledRule) {
        if take(&mut self.buckets, prefix, rule)
            && let Some(count) = self.lengths.get_mut(&prefix.len())
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn find<'a>(
        &'a self,
        request: &RequestHead<'_>,
        mut best: Found<'a>,
        ends: impl Fn(usize) -> bool,
    ) -> Found<'a> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_match_takes_the_room_of_a_match() {
        assert_eq!(size_of::<CompiledRule>(), 16);
        assert_eq!(size_of::<Index>(), 16);
    }
}
