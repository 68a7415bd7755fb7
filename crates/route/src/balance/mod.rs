//! Choosing an endpoint for a request.
//!
//! A [`Balancer`] is immutable and shared by the workers: the endpoints of one destination (service, port, subset), grouped by locality
//! and prepared for the algorithm of the DestinationRule. What changes with every request lies in each endpoint's [`State`], in atomics,
//! and outlives the balancer; what belongs to one worker lies in its [`Cursor`]. Time is whatever monotonic clock the caller has,
//! counted from any fixed start.

mod breaker;
mod cookie;
mod dice;
mod hash;
mod locality;
mod member;
mod outlier;
mod pick;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub use breaker::{Breaker, Permit, Refused, Use};
pub use cookie::{Hashed, SetCookie, hash_key};
pub use dice::Dice;
pub use hash::{Maglev, Ring, stable_hash};
pub use member::{Active, Member, Place, State};
pub use outlier::{Detector, Ejection, Outcome, Symptom};
pub use pick::Cursor;

use crate::resource::TrafficPolicy;
use locality::{Group, Grouping};
use pick::Picker;
use tulle_model::LoadBalancing;

/// Endpoints of one destination, ready to be chosen from.
#[derive(Debug)]
pub struct Balancer {
    members: Vec<Member>,
    groups: Vec<Prepared>,
    grouping: Grouping,
    detector: Option<Detector>,
    warm_up: Option<Duration>,
    /// The latest end of an ejection; before it, each endpoint is asked.
    ejections_end: AtomicU64,
}

#[derive(Debug)]
struct Prepared {
    group: Group,
    picker: Picker,
}

/// One choice.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// The caller's clock.
    pub now: Duration,
    /// Any number.
    pub dice: u64,
    /// Of the request's key, for consistent hashing ([`hash_key`]); without one the choice is random.
    pub hash: Option<u64>,
    /// Endpoints that were tried for this request: chosen again only if there is no other.
    pub tried: &'a [usize],
}

impl Balancer {
    /// `service` is what the service itself says about localities; it counts where the DestinationRule says nothing.
    pub fn new(
        policy: &TrafficPolicy,
        service: &LoadBalancing,
        client: &Place,
        members: Vec<Member>,
    ) -> Self {
        let detector = policy.outliers.map(Detector::new);
        let (grouping, groups) = locality::group(
            &members,
            client,
            policy.locality.as_ref(),
            service,
            detector.is_some(),
        );
        let groups = groups
            .into_iter()
            .map(|group| Prepared {
                picker: Picker::new(policy.balancing.as_ref(), &members, &group.members),
                group,
            })
            .collect();
        // Who does not detect outliers leaves nobody out, whatever an earlier setting did.
        let detects = detector.is_some();
        let ends = members.iter().map(|m| m.state.ejected_until());
        let end = ends.filter(|_| detects).max();
        Self {
            ejections_end: AtomicU64::new(end.unwrap_or_default()),
            members,
            groups,
            grouping,
            detector,
            warm_up: policy.warm_up.filter(|time| !time.is_zero()),
        }
    }

    /// The endpoints, in the order in which they were given.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Chooses an endpoint; `None` when there is none that may be used: answer with 503.
    pub fn choose(&self, draw: &Draw<'_>, cursor: &mut Cursor) -> Option<usize> {
        let mut dice = Dice::new(draw.dice);
        let ejections = draw.now < Duration::from_nanos(self.ejections_end.load(Relaxed));
        let (group, panic) = if ejections || self.grouping == Grouping::Shares {
            self.shares(draw.now, ejections).pick(&mut dice)?
        } else {
            (0, false)
        };
        let untried = |member: usize| !draw.tried.contains(&member);
        let healthy = |member: usize| panic || !ejections || !self.is_ejected(member, draw.now);
        let mut pick = |group: usize, usable: &dyn Fn(usize) -> bool| {
            self.pick(group, draw, usable, &mut dice, cursor)
        };
        let both = |member: usize| untried(member) && healthy(member);
        pick(group, &both)
            // Rather another group than the same endpoint again.
            .or_else(|| (0..self.groups.len()).find_map(|other| pick(other, &both)))
            .or_else(|| pick(group, &healthy))
    }

    fn pick(
        &self,
        group: usize,
        draw: &Draw<'_>,
        usable: &dyn Fn(usize) -> bool,
        dice: &mut Dice,
        cursor: &mut Cursor,
    ) -> Option<usize> {
        let prepared = self.groups.get(group)?;
        prepared.picker.pick(&mut pick::Pick {
            members: &self.members,
            group: &prepared.group.members,
            usable,
            warmth: &|member| self.warmth(member, draw.now),
            warming: self.warm_up.is_some(),
            hash: draw.hash,
            dice,
            cursor: cursor.group(group),
        })
    }

    /// How much of the traffic each group gets now.
    fn shares(&self, now: Duration, ejections: bool) -> locality::Shares {
        let health = self.groups.iter().map(|prepared| {
            let members = &prepared.group.members;
            let out = |member: &&usize| ejections && self.is_ejected(**member, now);
            locality::Health {
                weight: prepared.group.share,
                healthy: members.len() - members.iter().filter(out).count(),
                all: members.len(),
            }
        });
        let minimum = self.detector.as_ref().map_or(0, Detector::minimum_health);
        locality::shares(self.grouping, health, minimum)
    }

    fn is_ejected(&self, member: usize, now: Duration) -> bool {
        self.members
            .get(member)
            .is_some_and(|m| m.state.is_ejected(now))
    }

    /// From a tenth when it is new to 1 when it is warm.
    fn warmth(&self, member: usize, now: Duration) -> f64 {
        let (Some(time), Some(member)) = (self.warm_up, self.members.get(member)) else {
            return 1.0;
        };
        let age = now.saturating_sub(member.since);
        (age.as_secs_f64() / time.as_secs_f64()).clamp(WARMTH_AT_FIRST, 1.0)
    }

    /// Takes note of how a request to `member` ended. Says so when the endpoint is left out from now on.
    pub fn report(&self, member: usize, outcome: Outcome, now: Duration) -> Option<Ejection> {
        let detector = self.detector.as_ref()?;
        let state = &self.members.get(member)?.state;
        let ejected = || {
            let others = self.members.iter();
            others.filter(|m| m.state.is_ejected(now)).count()
        };
        let ejection = detector.report(state, outcome, now, self.members.len(), ejected)?;
        self.ejections_end.fetch_max(state.ejected_until(), Relaxed);
        Some(ejection)
    }
}

/// Istio's `minimumPercent`.
const WARMTH_AT_FIRST: f64 = 0.1;
