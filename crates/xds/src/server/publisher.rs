//! What is published: every resource encoded once, with the order in which things changed.
//!
//! Each change gets the next number of one sequence over all types. A table keeps each live name under the number of its
//! latest change, and each removed name under the number of its removal; so "what is news since n" is a range, a stream
//! that lags sees only the latest state, and no list per stream is needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::audience::Audience;
use super::codec;
use crate::limits::MAX_REMOVALS;

/// Make before break: a type earlier in this list is sent before those after it, and its removals after theirs. So a policy is
/// known before the first workload that names it, until after the last one; a listener is told when everything that it
/// needs is known.
const ORDER: [&str; 12] = [
    tulle_proto::AUTHORIZATION_TYPE,
    tulle_proto::PROXY_SETTINGS_TYPE,
    tulle_proto::HTTP_POLICY_TYPE,
    tulle_proto::AUTHENTICATION_TYPE,
    tulle_proto::RATE_LIMIT_TYPE,
    tulle_proto::TELEMETRY_TYPE,
    tulle_proto::CERTIFICATE_TYPE,
    tulle_proto::ADDRESS_TYPE,
    tulle_proto::DESTINATION_TYPE,
    tulle_proto::HTTP_ROUTE_TYPE,
    tulle_proto::STREAM_ROUTE_TYPE,
    tulle_proto::GATEWAY_TYPE,
];

/// One resource that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Workload uid, `namespace/hostname`, or `namespace/name` of a policy.
    pub name: String,
    /// The encoded message; `None` removes the resource.
    pub body: Option<Bytes>,
    /// Other names of the resource, sent along.
    pub aliases: Vec<String>,
    /// What on-demand clients may ask for to get it, besides name and aliases: addresses (`network/ip`), and for a workload its
    /// services (`namespace/hostname`, `network/vip`). Not sent.
    pub keys: Vec<String>,
    /// Who may have it. Of a type for L7 proxies, nobody has what names no Gateway.
    pub audience: Audience,
}

impl Change {
    /// A resource that is new or different.
    pub fn put(name: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            body: Some(body.into()),
            aliases: Vec::new(),
            keys: Vec::new(),
            audience: Audience::Everyone,
        }
    }

    /// A resource that is no more.
    pub fn remove(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            body: None,
            aliases: Vec::new(),
            keys: Vec::new(),
            audience: Audience::Everyone,
        }
    }

    /// With look-up keys for on-demand clients.
    #[must_use]
    pub fn with_keys(mut self, keys: Vec<String>) -> Self {
        self.keys = keys;
        self
    }

    /// For these callers only. Who had it and is not among them any more is told that it is gone.
    #[must_use]
    pub fn for_audience(mut self, audience: Audience) -> Self {
        self.audience = audience;
        self
    }
}

/// What is published. Clones share it; cheap to call from everywhere.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// Sizes, for metrics and debugging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedType {
    /// Type URL.
    pub type_url: String,
    /// Resources.
    pub resources: usize,
    /// Their encoded size in bytes.
    pub bytes: usize,
    /// Removals that are remembered.
    pub removals: usize,
}

pub(super) struct State {
    /// Number of the latest change.
    pub(super) sequence: u64,
    /// Nothing is sent yet.
    pub(super) held: bool,
    tables: HashMap<Arc<str>, Table>,
}

/// One type.
#[derive(Default)]
pub(super) struct Table {
    entries: HashMap<Arc<str>, Entry>,
    live: BTreeMap<u64, Arc<str>>,
    /// Under the number of its removal: a name that is gone, or that some callers may not see any more. One per name.
    gone: BTreeMap<u64, Gone>,
    gone_at: HashMap<Arc<str>, u64>,
    /// Alias or key to names.
    index: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Removals up to this number were forgotten.
    pub(super) horizon: u64,
}

pub(super) struct Entry {
    sequence: u64,
    /// Content hash: equal on every replica, so a reconnect may go to another one.
    pub(super) version: u64,
    /// As the field of an answer.
    pub(super) bytes: Bytes,
    keys: Box<[Arc<str>]>,
    audience: Audience,
}

struct Gone {
    name: Arc<str>,
    keys: Box<[Arc<str>]>,
    /// Who may have had it.
    audience: Audience,
}

/// A removal, as a stream sees it.
pub(super) struct Removal<'a> {
    pub(super) at: u64,
    pub(super) name: &'a Arc<str>,
    /// The look-up keys that it had.
    pub(super) keys: &'a [Arc<str>],
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Publisher {
    /// Empty, and open: streams get at once what there is.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                sequence: 0,
                held: false,
                tables: HashMap::new(),
            }),
            changed: watch::Sender::new(0),
        }))
    }

    /// Empty, and closed: streams are accepted but get nothing before [`release`](Self::release). For the time until everything
    /// has been read from Kubernetes: nothing is better than a part of the truth.
    pub fn held() -> Self {
        let publisher = Self::new();
        publisher.lock().held = true;
        publisher
    }

    /// Lets streams have what is published from now on.
    pub fn release(&self) {
        self.lock().held = false;
        self.notify();
    }

    /// Takes changes of one type over, all at once; streams see all or none of them, except that large answers are split.
    /// What is the same as before is no change. Returns how many were.
    pub fn publish(&self, type_url: &str, changes: Vec<Change>) -> usize {
        let mut state = self.lock();
        let State {
            sequence, tables, ..
        } = &mut *state;
        let before = *sequence;
        let (key, mut table) = tables
            .remove_entry(type_url)
            .unwrap_or_else(|| (Arc::from(type_url), Table::default()));
        for change in changes {
            table.apply(type_url, change, sequence);
        }
        tables.insert(key, table);
        let changed = *sequence - before;
        drop(state);
        if changed > 0 {
            self.notify();
        }
        changed as usize
    }

    /// Makes the published resources of a type exactly these.
    pub fn replace(&self, type_url: &str, resources: Vec<Change>) -> usize {
        let mut changes = {
            let keep: BTreeSet<&str> = resources.iter().map(|change| &*change.name).collect();
            let state = self.lock();
            let names = state.table(type_url).into_iter().flat_map(Table::names);
            names
                .filter(|name| !keep.contains(&***name))
                .map(|name| Change::remove(&**name))
                .collect::<Vec<_>>()
        };
        changes.extend(resources);
        self.publish(type_url, changes)
    }

    /// Sizes by type.
    pub fn published(&self) -> Vec<PublishedType> {
        let state = self.lock();
        let sizes = state.tables.iter().map(|(type_url, table)| PublishedType {
            type_url: type_url.to_string(),
            resources: table.entries.len(),
            bytes: table.entries.values().map(|entry| entry.bytes.len()).sum(),
            removals: table.gone.len(),
        });
        let mut sizes: Vec<_> = sizes.collect();
        sizes.sort_by(|a, b| a.type_url.cmp(&b.type_url));
        sizes
    }

    /// Number of the latest change: what a stream has acknowledged compares with it.
    pub fn sequence(&self) -> u64 {
        self.lock().sequence
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn notify(&self) {
        self.0
            .changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Place of a type in [`ORDER`]; others follow.
pub(super) fn rank(type_url: &str) -> usize {
    ORDER
        .iter()
        .position(|known| *known == type_url)
        .unwrap_or(ORDER.len())
}

/// Whether a type is sent before workloads and services.
pub(crate) fn comes_before_addresses(type_url: &str) -> bool {
    rank(type_url) < rank(tulle_proto::ADDRESS_TYPE)
}

impl State {
    pub(super) fn table(&self, type_url: &str) -> Option<&Table> {
        self.tables.get(type_url)
    }
}

impl Table {
    fn apply(&mut self, type_url: &str, change: Change, sequence: &mut u64) {
        let Change {
            name,
            body,
            aliases,
            keys,
            audience,
        } = change;
        match body {
            Some(body) => {
                let version = hash(&body, &aliases);
                let bytes = codec::resource(type_url, &name, &text(version), &aliases, &body);
                let keys = aliases.iter().chain(&keys);
                let entry = Entry {
                    sequence: *sequence + 1,
                    version,
                    bytes,
                    keys: keys.map(|key| Arc::from(key.as_str())).collect(),
                    audience: named(type_url, &name, audience),
                };
                self.put(&name, entry, sequence);
            }
            None => self.remove(&name, sequence),
        }
    }

    fn put(&mut self, name: &str, entry: Entry, sequence: &mut u64) {
        // The bytes decide, not the hash: a collision must not hide a change.
        let same = |old: &Entry| {
            old.bytes == entry.bytes && old.keys == entry.keys && old.audience == entry.audience
        };
        if self.entries.get(name).is_some_and(same) {
            return;
        }
        *sequence = entry.sequence;
        let name = match self.entries.remove_entry(name) {
            Some((name, old)) => {
                self.live.remove(&old.sequence);
                self.unindex(&name, &old.keys);
                if !old.audience.within(&entry.audience) {
                    self.note_gone(&name, old, *sequence);
                }
                name
            }
            None => match self.gone_at.get_key_value(name) {
                Some((name, _)) => name.clone(),
                None => Arc::from(name),
            },
        };
        // Whoever still has to hear of the removal, and may see it again, hears of the new one.
        if let Some(at) = self.gone_at.get(&name).copied() {
            let all = |gone: &Gone| gone.audience.within(&entry.audience);
            if self.gone.get(&at).is_none_or(all) {
                self.gone.remove(&at);
                self.gone_at.remove(&name);
            }
        }
        for key in &entry.keys {
            let names = self.index.entry(key.clone()).or_default();
            names.insert(name.clone());
        }
        self.live.insert(entry.sequence, name.clone());
        self.entries.insert(name, entry);
    }

    fn remove(&mut self, name: &str, sequence: &mut u64) {
        let Some((name, old)) = self.entries.remove_entry(name) else {
            return;
        };
        *sequence += 1;
        self.live.remove(&old.sequence);
        self.unindex(&name, &old.keys);
        self.note_gone(&name, old, *sequence);
    }

    /// Everybody who could see `old`, or is still to be told of an earlier removal, is to be told of this one.
    fn note_gone(&mut self, name: &Arc<str>, old: Entry, sequence: u64) {
        let mut audience = old.audience;
        if let Some(before) = self.gone_at.insert(name.clone(), sequence)
            && let Some(before) = self.gone.remove(&before)
        {
            audience = audience.union(&before.audience);
        }
        let gone = Gone {
            name: name.clone(),
            keys: old.keys,
            audience,
        };
        self.gone.insert(sequence, gone);
        while self.gone.len() > MAX_REMOVALS {
            if let Some((at, oldest)) = self.gone.pop_first() {
                self.gone_at.remove(&oldest.name);
                self.horizon = at;
            }
        }
    }

    fn unindex(&mut self, name: &Arc<str>, keys: &[Arc<str>]) {
        for key in keys {
            if let Some(names) = self.index.get_mut(key) {
                names.remove(name);
                if names.is_empty() {
                    self.index.remove(key);
                }
            }
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    /// The resource, if the proxy of `gateway` may see it: what it may not see does not exist.
    pub(super) fn get(&self, name: &str, gateway: Option<&str>) -> Option<&Entry> {
        let visible = |entry: &&Entry| entry.audience.includes(gateway);
        self.entries.get(name).filter(visible)
    }

    /// The resources that a name or key stands for.
    pub(super) fn resolve<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<str>> {
        let own = self.entries.get_key_value(name).map(|(name, _)| name);
        own.into_iter()
            .chain(self.index.get(name).into_iter().flatten())
    }

    /// Live resources that the proxy of `gateway` may see and that changed after `cursor`, oldest change first.
    pub(super) fn news<'a>(
        &'a self,
        cursor: u64,
        gateway: Option<&'a str>,
    ) -> impl Iterator<Item = (u64, &'a Arc<str>, &'a Entry)> {
        let range = self.live.range(cursor + 1..);
        range.filter_map(move |(at, name)| Some((*at, name, self.get(name, gateway)?)))
    }

    /// Resources that were taken away from the proxy of `gateway` after `cursor`.
    pub(super) fn removals<'a>(
        &'a self,
        cursor: u64,
        gateway: Option<&'a str>,
    ) -> impl Iterator<Item = Removal<'a>> {
        let range = self.gone.range(cursor + 1..);
        let told = range.filter(move |(_, gone)| {
            gone.audience.includes(gateway) && self.get(&gone.name, gateway).is_none()
        });
        told.map(|(at, gone)| Removal {
            at: *at,
            name: &gone.name,
            keys: &gone.keys,
        })
    }
}

impl Entry {
    /// Aliases and look-up keys.
    pub(super) fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }
}

/// Resources for L7 proxies may hold secrets: one that names no audience is for nobody.
fn named(type_url: &str, name: &str, audience: Audience) -> Audience {
    if audience == Audience::Everyone && tulle_proto::L7_TYPES.contains(&type_url) {
        tracing::error!(
            type_url,
            name,
            "published without an audience: nobody gets it"
        );
        return Audience::nobody();
    }
    audience
}

/// Content hash, the same in every process of this program: SipHash with fixed keys.
fn hash(body: &[u8], aliases: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    aliases.hash(&mut hasher);
    hasher.finish()
}

/// A version on the wire.
pub(super) fn text(version: u64) -> String {
    format!("{version:016x}")
}

#[cfg(test)]
mod tests;
