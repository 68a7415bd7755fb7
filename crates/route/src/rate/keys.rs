//! A bounded table of keys.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Gcra, Room};
use crate::limits::{RATE_NOTED, RATE_SHARDS, RATE_WAYS};

/// Hash of a key, the same on every replica. Long enough that nobody finds two keys with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub [u64; 2]);

/// States by key. Keys fall into small sets; the table doubles while a set is full of keys that still count, up to its bound; then the
/// key of the set that is nearest to its full allowance is forgotten. Locks are held for a few instructions.
#[derive(Debug)]
pub struct Keys {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    /// A power of two of them.
    sets: Vec<Set>,
    most_sets: usize,
    /// Requests that other replicas have not heard of.
    noted: HashMap<Key, u32>,
}

type Set = [Slot; RATE_WAYS];

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    /// 0: nothing is owed; the slot is free.
    paid: u64,
}

const FREE: Slot = Slot {
    key: Key([0; 2]),
    paid: 0,
};

impl Keys {
    /// Remembers about so many keys at once.
    pub fn new(keys: usize) -> Self {
        let shards = if keys < RATE_SHARDS * RATE_WAYS {
            1
        } else {
            RATE_SHARDS
        };
        let most_sets = keys
            .div_ceil(shards * RATE_WAYS)
            .checked_next_power_of_two()
            .unwrap_or(1);
        let shard = || {
            Mutex::new(Shard {
                sets: vec![[FREE; RATE_WAYS]],
                most_sets,
                noted: HashMap::new(),
            })
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
        }
    }

    /// Counts a request of `key`; an error is how long until there is room (`None`: never).
    pub fn take(&self, key: Key, gcra: &Gcra, now: Duration) -> Result<Room, Option<Duration>> {
        let now = nanos(now);
        let mut shard = self.shard(key);
        let slot = shard.slot(key, now);
        let (paid, room) = gcra.take(slot.paid, now)?;
        slot.paid = paid;
        Ok(room)
    }

    /// How many keys owe something at `now`.
    pub fn len(&self, now: Duration) -> usize {
        let now = nanos(now);
        let live = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard.sets.iter().flatten().filter(|s| s.paid > now).count()
        };
        self.shards.iter().map(live).sum()
    }

    pub(super) fn give_back(&self, key: Key, gcra: &Gcra) {
        let mut shard = self.shard(key);
        if let Some(slot) = shard.existing(key) {
            slot.paid = gcra.give_back(slot.paid);
        }
    }

    pub(super) fn charge(&self, key: Key, requests: u32, gcra: &Gcra, now: Duration) {
        let now = nanos(now);
        let mut shard = self.shard(key);
        let slot = shard.slot(key, now);
        slot.paid = gcra.charge(slot.paid, now, requests);
    }

    /// For the other replicas. What does not fit any more they do not hear of.
    pub(super) fn note(&self, key: Key) {
        let mut shard = self.shard(key);
        if shard.noted.len() < RATE_NOTED || shard.noted.contains_key(&key) {
            let count = shard.noted.entry(key).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn take_noted(&self) -> Vec<(Key, u32)> {
        let noted = |shard: &Mutex<Shard>| std::mem::take(&mut lock(shard).noted);
        self.shards.iter().flat_map(noted).collect()
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let Key([_, high]) = key;
        // The number of shards is 1 or a power of two; never 0.
        let at = usize::try_from(high % self.shards.len() as u64).unwrap_or_default();
        lock(&self.shards[at])
    }
}

/// Nothing panics while it holds the lock, and a half-written number would still be a number.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

impl Shard {
    fn set(&mut self, key: Key) -> &mut Set {
        let Key([low, _]) = key;
        let at = usize::try_from(low % self.sets.len() as u64).unwrap_or_default();
        &mut self.sets[at]
    }

    fn existing(&mut self, key: Key) -> Option<&mut Slot> {
        let set = self.set(key);
        set.iter_mut().find(|slot| slot.key == key && slot.paid > 0)
    }

    /// The slot of `key`: its own, a free one, or the one whose key is forgotten for it.
    fn slot(&mut self, key: Key, now: u64) -> &mut Slot {
        while self.sets.len() < self.most_sets && self.is_crowded(key, now) {
            self.double(now);
        }
        let set = self.set(key);
        let own = set.iter().position(|s| s.key == key && s.paid > 0);
        let at = own.unwrap_or_else(|| {
            let cheapest = set.iter().enumerate().min_by_key(|(_, slot)| slot.paid);
            let at = cheapest.map_or(0, |(at, _)| at);
            set[at] = Slot { key, paid: 0 };
            at
        });
        &mut set[at]
    }

    /// Full of other keys that still owe something.
    fn is_crowded(&mut self, key: Key, now: u64) -> bool {
        let set = self.set(key);
        set.iter().all(|slot| slot.paid > now && slot.key != key)
    }

    fn double(&mut self, now: u64) {
        let count = self.sets.len() * 2;
        let old = std::mem::replace(&mut self.sets, vec![[FREE; RATE_WAYS]; count]);
        for slot in old.into_iter().flatten().filter(|slot| slot.paid > now) {
            // A set's keys spread over two sets: there is always room.
            if let Some(free) = self.set(slot.key).iter_mut().find(|s| s.paid == 0) {
                *free = slot;
            }
        }
    }
}
