//! One of the endpoints of a group.

use super::Member;
use super::dice::Dice;
use super::hash::{Maglev, Ring};
use crate::limits::{DRAWS, PROBES};
use crate::resource::Balancing;

/// What one worker remembers between choices; for one balancer, made anew with it.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    groups: Vec<Turns>,
}

/// Round robin in one group.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    next: usize,
    credits: Vec<f64>,
}

impl Cursor {
    pub(super) fn group(&mut self, index: usize) -> &mut Turns {
        if self.groups.len() <= index {
            self.groups.resize_with(index + 1, Turns::default);
        }
        &mut self.groups[index]
    }
}

/// A group, prepared for its algorithm.
#[derive(Debug)]
pub(super) struct Picker {
    algorithm: Algorithm,
    /// Sums of weights up to and including each member; empty when all weigh the same.
    sums: Vec<u64>,
}

#[derive(Debug)]
enum Algorithm {
    RoundRobin,
    LeastRequest,
    Random,
    Ring(Ring),
    Maglev(Maglev),
}

/// What a choice needs to know.
pub(super) struct Pick<'a> {
    pub(super) members: &'a [Member],
    /// Indices into `members`.
    pub(super) group: &'a [usize],
    pub(super) usable: &'a dyn Fn(usize) -> bool,
    pub(super) warmth: &'a dyn Fn(usize) -> f64,
    /// Whether `warmth` can be anything but 1.
    pub(super) warming: bool,
    pub(super) hash: Option<u64>,
    pub(super) dice: &'a mut Dice,
    pub(super) cursor: &'a mut Turns,
}

impl Picker {
    pub(super) fn new(balancing: Option<&Balancing>, members: &[Member], group: &[usize]) -> Self {
        let in_group = || group.iter().filter_map(|index| members.get(*index));
        let by_id = || -> Vec<(&str, u32)> { in_group().map(|m| (&*m.id, m.weight)).collect() };
        let algorithm = match balancing {
            Some(Balancing::RoundRobin) => Algorithm::RoundRobin,
            Some(Balancing::Random) => Algorithm::Random,
            Some(Balancing::Consistent(hash)) => match hash.maglev {
                Some(size) => Algorithm::Maglev(Maglev::new(&by_id(), Some(size))),
                None => Algorithm::Ring(Ring::new(&by_id(), hash.minimum_ring)),
            },
            None | Some(Balancing::LeastRequest | Balancing::Passthrough) => {
                Algorithm::LeastRequest
            }
        };
        let first = in_group().next().map(|m| m.weight);
        let equal = in_group().all(|m| Some(m.weight) == first);
        let mut sum = 0;
        let sums = in_group().map(|m| {
            sum += u64::from(m.weight);
            sum
        });
        Self {
            algorithm,
            sums: if equal { Vec::new() } else { sums.collect() },
        }
    }

    pub(super) fn pick(&self, pick: &mut Pick<'_>) -> Option<usize> {
        let hash = pick.hash;
        match (&self.algorithm, hash) {
            (Algorithm::RoundRobin, _) if self.sums.is_empty() && !pick.warming => pick.next(),
            (Algorithm::RoundRobin, _) => pick.next_by_weight(),
            (Algorithm::LeastRequest, _) => self.least_request(pick),
            (Algorithm::Ring(ring), Some(hash)) => self.first_usable(ring.from(hash), pick),
            (Algorithm::Maglev(table), Some(hash)) => self.first_usable(table.from(hash), pick),
            (Algorithm::Random | Algorithm::Ring(_) | Algorithm::Maglev(_), _) => self.random(pick),
        }
    }

    /// The less busy of two, for its weight; the first of two that are equally so.
    fn least_request(&self, pick: &mut Pick<'_>) -> Option<usize> {
        let first = self.random(pick)?;
        let second = self.random(pick)?;
        let load = |index: usize| {
            let member = pick.members.get(index);
            member.map_or(f64::MAX, |m| {
                f64::from(m.state.active()) / f64::from(m.weight.max(1))
            })
        };
        Some(if load(second) < load(first) {
            second
        } else {
            first
        })
    }

    /// By weight. Endpoints that may not be used, or are too cold for this draw, are drawn again; when that does not help, all are
    /// walked.
    fn random(&self, pick: &mut Pick<'_>) -> Option<usize> {
        for _ in 0..DRAWS {
            let at = match self.sums.last() {
                None => usize::try_from(pick.dice.below(pick.group.len() as u64)).ok()?,
                Some(total) => {
                    let drawn = pick.dice.below(*total);
                    self.sums.partition_point(|sum| *sum <= drawn)
                }
            };
            let index = *pick.group.get(at)?;
            let warm = !pick.warming || pick.dice.share() < (pick.warmth)(index);
            if warm && (pick.usable)(index) {
                return Some(index);
            }
        }
        pick.walk()
    }

    fn first_usable(
        &self,
        order: impl Iterator<Item = usize>,
        pick: &mut Pick<'_>,
    ) -> Option<usize> {
        let mut last = None;
        let found = order
            .filter(|at| last.replace(*at) != Some(*at))
            .take(PROBES)
            .filter_map(|at| pick.group.get(at).copied())
            .find(|index| (pick.usable)(*index));
        found.or_else(|| pick.walk())
    }
}

impl Pick<'_> {
    fn weight(&self, index: usize) -> f64 {
        let weight = self.members.get(index).map_or(0, |m| m.weight);
        f64::from(weight) * (self.warmth)(index)
    }

    /// One after the other.
    fn next(&mut self) -> Option<usize> {
        let length = self.group.len();
        for step in 0..length {
            let at = (self.cursor.next + step) % length;
            let index = *self.group.get(at)?;
            if (self.usable)(index) {
                self.cursor.next = at + 1;
                return Some(index);
            }
        }
        None
    }

    /// Smooth: everybody earns his weight, the richest is chosen and pays what all have earned together.
    fn next_by_weight(&mut self) -> Option<usize> {
        self.cursor.credits.resize(self.group.len(), 0.0);
        let mut total = 0.0;
        let mut best: Option<(usize, usize)> = None;
        for (at, index) in self.group.iter().enumerate() {
            if !(self.usable)(*index) {
                continue;
            }
            let weight = self.weight(*index);
            total += weight;
            self.cursor.credits[at] += weight;
            let richer =
                best.is_none_or(|(best, _)| self.cursor.credits[at] > self.cursor.credits[best]);
            if richer {
                best = Some((at, *index));
            }
        }
        let (at, index) = best?;
        self.cursor.credits[at] -= total;
        Some(index)
    }

    /// One usable endpoint by weight, looking at all of them.
    fn walk(&mut self) -> Option<usize> {
        let usable: Vec<(usize, f64)> = self
            .group
            .iter()
            .filter(|index| (self.usable)(**index))
            .map(|index| (*index, self.weight(*index)))
            .collect();
        let total: f64 = usable.iter().map(|(_, weight)| weight).sum();
        let mut left = self.dice.share() * total;
        let hit = usable.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        hit.or(usable.last()).map(|(index, _)| *index)
    }
}
