//! Rate limits: so many requests per key, in the long run and at once.
//!
//! [`Gcra`] is the arithmetic, [`Keys`] a bounded table of its states, [`Limits`] all limits of a proxy. Limits that replicas share are
//! counted by each replica, and each tells the others what it let through ([`Limits::spent`], [`Limits::charge`]): between two
//! exchanges a key may get at most what it may get from each replica.

mod gcra;
mod keys;
mod subject;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tulle_policy::Target;

pub use gcra::{Gcra, Room};
pub use keys::{Key, Keys};
pub use subject::Subject;

use crate::compiled::CompiledMatch;
use crate::error::PatternError;
use crate::limits::{RATE_KEYS, RATE_KEYS_MAX};
use crate::resource::{Limit, LimitScope, ObjectKey, RateLimit};
use crate::text::Patterns;

/// All limits of a proxy. Cheap to clone; clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    policies: HashMap<Arc<str>, Arc<Policy>>,
    by_target: HashMap<Target, Vec<Arc<Policy>>>,
    patterns: Patterns,
}

#[derive(Debug)]
struct Policy {
    resource: RateLimit,
    matches: Box<[CompiledMatch]>,
    counters: Vec<Arc<Counter>>,
}

/// One limit and its keys; outlives updates that do not change the limit.
#[derive(Debug)]
struct Counter {
    limit: Limit,
    /// The same on every replica.
    id: u64,
    gcra: Gcra,
    keys: Keys,
}

/// What the limits say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateDecision {
    /// Refused with this; `None` lets it pass.
    pub limited: Option<Limited>,
    /// The limit with the least room left, for `RateLimit` headers.
    pub tightest: Option<Room>,
    /// Policies that only watch and would have refused it.
    pub dry_run: Vec<ObjectKey>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// What the request is answered with.
    pub status: u16,
    /// Whose limit it is.
    pub policy: ObjectKey,
    /// Name of the limit.
    pub limit: Option<Arc<str>>,
    /// Requests that may come at once.
    pub burst: u64,
    /// When there will be room for one request; `None` is never.
    pub retry_after: Option<Duration>,
}

/// What a replica let through and the others have not heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spent {
    /// Which limit.
    pub limit: u64,
    /// Which key of it.
    pub key: Key,
    /// How many requests.
    pub requests: u32,
}

impl Limits {
    /// Adds or replaces a policy. Limits that did not change keep their counts. On an error all is as it was.
    pub fn insert(&mut self, resource: RateLimit) -> Result<(), PatternError> {
        let matches = if resource.matches.is_empty() {
            Box::default()
        } else {
            CompiledMatch::compile_all(&resource.matches, &mut self.patterns)?
        };
        let name = resource.object.text().clone();
        let old = self.policies.get(&name).cloned();
        let kept = |limit: &Limit| {
            let counters = old.iter().flat_map(|old| &old.counters);
            counters.into_iter().find(|c| c.limit == *limit).cloned()
        };
        let counters = resource
            .limits
            .iter()
            .enumerate()
            .map(|(index, limit)| {
                kept(limit).unwrap_or_else(|| Arc::new(Counter::new(&name, index, limit)))
            })
            .collect();
        self.remove(&name);
        let policy = Arc::new(Policy {
            resource,
            matches,
            counters,
        });
        for target in &policy.resource.targets {
            let policies = self.by_target.entry(target.clone()).or_default();
            policies.push(policy.clone());
            policies.sort_by(|a, b| a.resource.object.cmp(&b.resource.object));
        }
        self.policies.insert(name, policy);
        Ok(())
    }

    /// Removes the policy with this resource name; false when there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(old) = self.policies.remove(name) else {
            return false;
        };
        for target in &old.resource.targets {
            if let Some(policies) = self.by_target.get_mut(target) {
                policies.retain(|policy| !Arc::ptr_eq(policy, &old));
                if policies.is_empty() {
                    self.by_target.remove(target);
                }
            }
        }
        true
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// All of them, by name.
    pub fn policies(&self) -> impl Iterator<Item = &RateLimit> {
        let mut all: Vec<_> = self.policies.values().map(|p| &p.resource).collect();
        all.sort_by(|a, b| a.object.cmp(&b.object));
        all.into_iter()
    }

    /// Whether replicas count together under any of them.
    pub fn is_shared(&self) -> bool {
        self.counters().any(|c| c.limit.scope == LimitScope::Shared)
    }

    /// Counts a request and says whether it may pass. A refused request uses up nothing. `targets` are those of the request, `route`
    /// is the object that routes it, `now` the caller's clock.
    pub fn check(
        &self,
        targets: &[Target],
        route: Option<&ObjectKey>,
        subject: &Subject<'_>,
        now: Duration,
    ) -> RateDecision {
        let mut decision = RateDecision {
            limited: None,
            tightest: None,
            dry_run: Vec::new(),
        };
        let mut taken: Vec<(Arc<Counter>, Key)> = Vec::new();
        for policy in self.policies_of(targets) {
            if !policy.applies(route, subject) {
                continue;
            }
            match policy.take(subject, now, &mut taken) {
                // Who is only watched is not told.
                Ok(_) if policy.resource.dry_run => {}
                Ok(room) => {
                    decision.tightest = tighter(decision.tightest, room);
                }
                Err(limited) if policy.resource.dry_run => decision.dry_run.push(limited.policy),
                Err(limited) => {
                    for (counter, key) in &taken {
                        counter.keys.give_back(*key, &counter.gcra);
                    }
                    decision.limited = Some(limited);
                    return decision;
                }
            }
        }
        for (counter, key) in taken {
            if counter.limit.scope == LimitScope::Shared {
                counter.keys.note(key);
            }
        }
        decision
    }

    /// What was let through under shared limits since the last call.
    pub fn spent(&self) -> Vec<Spent> {
        let shared = self
            .counters()
            .filter(|c| c.limit.scope == LimitScope::Shared);
        shared
            .flat_map(|counter| {
                let noted = counter.keys.take_noted();
                noted.into_iter().map(|(key, requests)| Spent {
                    limit: counter.id,
                    key,
                    requests,
                })
            })
            .collect()
    }

    /// Takes account of what other replicas let through.
    pub fn charge(&self, spent: &[Spent], now: Duration) {
        let counters: HashMap<u64, &Arc<Counter>> = self.counters().map(|c| (c.id, c)).collect();
        for spent in spent {
            if let Some(counter) = counters.get(&spent.limit) {
                counter
                    .keys
                    .charge(spent.key, spent.requests, &counter.gcra, now);
            }
        }
    }

    fn counters(&self) -> impl Iterator<Item = &Arc<Counter>> {
        self.policies.values().flat_map(|policy| &policy.counters)
    }

    /// Each policy once, though several targets may lead to it.
    fn policies_of(&self, targets: &[Target]) -> Vec<&Arc<Policy>> {
        let mut found: Vec<&Arc<Policy>> = Vec::new();
        for policy in targets
            .iter()
            .filter_map(|t| self.by_target.get(t))
            .flatten()
        {
            if !found.iter().any(|other| Arc::ptr_eq(other, policy)) {
                found.push(policy);
            }
        }
        found
    }
}

fn tighter(a: Option<Room>, b: Option<Room>) -> Option<Room> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
        (a, b) => a.or(b),
    }
}

impl Policy {
    fn applies(&self, route: Option<&ObjectKey>, subject: &Subject<'_>) -> bool {
        let routes = &self.resource.routes;
        let routed = routes.is_empty() || route.is_some_and(|route| routes.contains(route));
        let matched = self.matches.is_empty()
            || self
                .matches
                .iter()
                .any(|m| m.test(subject.request).is_some());
        routed && matched
    }

    /// Counts the request under all limits, or under none of them.
    fn take(
        &self,
        subject: &Subject<'_>,
        now: Duration,
        taken: &mut Vec<(Arc<Counter>, Key)>,
    ) -> Result<Option<Room>, Limited> {
        let mut tightest = None;
        let before = taken.len();
        for counter in &self.counters {
            let key = subject.key(&counter.limit.key);
            match counter.keys.take(key, &counter.gcra, now) {
                Ok(room) => {
                    taken.push((counter.clone(), key));
                    tightest = tighter(tightest, Some(room));
                }
                Err(retry_after) => {
                    for (counter, key) in taken.drain(before..) {
                        counter.keys.give_back(key, &counter.gcra);
                    }
                    return Err(Limited {
                        status: self.resource.status.unwrap_or(TOO_MANY_REQUESTS),
                        policy: self.resource.object.clone(),
                        limit: counter.limit.name.clone(),
                        burst: counter.gcra.burst(),
                        retry_after,
                    });
                }
            }
        }
        Ok(tightest)
    }
}

const TOO_MANY_REQUESTS: u16 = 429;

impl Counter {
    fn new(policy: &str, index: usize, limit: &Limit) -> Self {
        let keys = match limit.keys {
            _ if limit.key.is_empty() => 1,
            Some(keys) => usize::try_from(keys).unwrap_or(RATE_KEYS_MAX),
            None => RATE_KEYS,
        };
        Self {
            limit: limit.clone(),
            id: crate::balance::stable_hash(format!("{policy}#{index}").as_bytes()),
            gcra: Gcra::new(limit.rate, limit.burst),
            keys: Keys::new(keys.clamp(1, RATE_KEYS_MAX)),
        }
    }
}
