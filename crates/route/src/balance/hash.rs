//! Consistent hashing: the same endpoint for the same key, on every replica, and few keys move when endpoints come and go.

use super::dice::mix;
use crate::limits::{MAGLEV_ENTRIES, RING_POINTS};

/// The same number for the same bytes on every replica and in every version (FNV-1a, then mixed). Not for secrets.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    mix(bytes.iter().fold(start, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// Points on a circle, each of one endpoint; a key belongs to the next point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    points: Vec<(u64, u32)>,
}

/// Istio's default of `minimumRingSize`.
const RING_MINIMUM: u64 = 1024;

impl Ring {
    /// Of endpoints with their weights; each has at least one point, and the lightest keeps its share.
    pub fn new(members: &[(&str, u32)], minimum: Option<u64>) -> Self {
        let total: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let lightest = members.iter().map(|(_, w)| *w).filter(|w| *w > 0).min();
        let lightest = u64::from(lightest.unwrap_or(1));
        let most = RING_POINTS as u64;
        let wanted = minimum.unwrap_or(RING_MINIMUM).clamp(1, most);
        // Points of a weight of 1, in thousandths: enough for the ring, at least one for the lightest.
        let scale = (wanted * 1000 / total.max(1)).max(1000 / lightest).max(1);
        let mut points = Vec::new();
        for (index, (id, weight)) in members.iter().enumerate() {
            let count = (u64::from(*weight) * scale)
                .div_ceil(1000)
                .min(most.saturating_sub(points.len() as u64));
            let base = stable_hash(id.as_bytes());
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            points.extend((0..count).map(|n| (mix(base ^ mix(n + 1)), index)));
        }
        points.sort_unstable();
        Self { points }
    }

    /// Endpoints in the order in which `hash` meets them; the same one may come several times.
    pub fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at(start);
        after
            .iter()
            .chain(before)
            .filter_map(|(_, index)| usize::try_from(*index).ok())
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

/// A table of a prime size in which each endpoint takes turns at the free entries that it likes best (Maglev, NSDI 2016).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maglev {
    entries: Vec<u32>,
}

/// Envoy's default.
const MAGLEV_DEFAULT: u64 = 65_537;
const FREE: u32 = u32::MAX;

impl Maglev {
    /// Of endpoints with their weights. A size that is no prime is raised to the next one.
    pub fn new(members: &[(&str, u32)], size: Option<u64>) -> Self {
        let size = prime_from(size.unwrap_or(MAGLEV_DEFAULT).clamp(2, MAGLEV_ENTRIES));
        let mut turns: Vec<Turn> = members
            .iter()
            .enumerate()
            .filter(|(_, (_, weight))| *weight > 0)
            .filter_map(|(index, (id, weight))| Turn::new(index, id, *weight, size))
            .collect();
        // All replicas see endpoints in the same order, whatever order they came in.
        turns.sort_by_key(|turn| turn.order);
        let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(1);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let mut entries = vec![FREE; if turns.is_empty() { 0 } else { length }];
        let mut filled = 0;
        while filled < entries.len() {
            for turn in &mut turns {
                turn.credit += turn.weight;
                if turn.credit < heaviest {
                    continue;
                }
                turn.credit -= heaviest;
                turn.take(&mut entries, size);
                filled += 1;
                if filled == entries.len() {
                    break;
                }
            }
        }
        Self { entries }
    }

    /// Endpoints in the order in which `hash` meets them: when one is left out, its keys spread over the others.
    pub fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let size = self.entries.len() as u64;
        let step = 1 + mix(hash) % size.saturating_sub(1).max(1);
        (0..size)
            .map(move |n| (u128::from(hash) + u128::from(n) * u128::from(step)) % u128::from(size))
            .filter_map(|at| self.entries.get(usize::try_from(at).ok()?))
            .filter_map(|index| usize::try_from(*index).ok())
    }

    /// How many entries the table has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Without endpoints there is no table.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// One endpoint while the table is filled.
struct Turn {
    index: u32,
    order: u64,
    weight: u64,
    credit: u64,
    next: u64,
    skip: u64,
}

impl Turn {
    fn new(index: usize, id: &str, weight: u32, size: u64) -> Option<Self> {
        let hash = stable_hash(id.as_bytes());
        Some(Self {
            index: u32::try_from(index).ok()?,
            order: hash,
            weight: u64::from(weight),
            credit: 0,
            next: hash % size,
            skip: mix(!hash) % (size - 1) + 1,
        })
    }

    /// Its best free entry. The size is prime: every entry is tried before one comes again.
    fn take(&mut self, entries: &mut [u32], size: u64) {
        loop {
            let at = usize::try_from(self.next).unwrap_or_default();
            self.next = (self.next + self.skip) % size;
            if let Some(entry) = entries.get_mut(at).filter(|entry| **entry == FREE) {
                *entry = self.index;
                return;
            }
        }
    }
}

fn prime_from(number: u64) -> u64 {
    let is_prime = |n: u64| {
        n > 1
            && (2..)
                .take_while(|d| d * d <= n)
                .all(|d| !n.is_multiple_of(d))
    };
    (number..).find(|n| is_prime(*n)).unwrap_or(MAGLEV_DEFAULT)
}
