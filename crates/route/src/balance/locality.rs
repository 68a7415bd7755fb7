//! Endpoints in groups: by how near they are, or by the shares that a user gives to localities.

use std::collections::BTreeMap;

use tulle_model::{LoadBalancing, Locality, Mode, Scope};

use super::{Dice, Member, Place};
use crate::resource::{LocalityBalancing, LocalityShare};

/// Endpoints of equal rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Indices.
    pub(super) members: Vec<usize>,
    /// In [`Grouping::Shares`], its share.
    pub(super) share: u64,
}

/// How groups are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// One after the other, as far as endpoints are healthy.
    Priority,
    /// Each gets its share.
    Shares,
}

/// What the DestinationRule says counts before what the service says; without either, failover by locality only together with outlier
/// detection, which is Istio's default.
pub(super) fn group(
    members: &[Member],
    client: &Place,
    locality: Option<&LocalityBalancing>,
    service: &LoadBalancing,
    detects_outliers: bool,
) -> (Grouping, Vec<Group>) {
    match locality {
        Some(locality) if !locality.enabled => by_rank(members, |_| Some(0)),
        Some(locality) if !locality.distribute.is_empty() => {
            let shares = locality.distribute.iter();
            match shares
                .into_iter()
                .find(|s| lies_in(&client.locality, &s.from))
            {
                Some(share) => (Grouping::Shares, by_share(members, share)),
                None => by_rank(members, |_| Some(0)),
            }
        }
        Some(locality) if detects_outliers => by_rank(members, |place| {
            Some(failover_rank(locality, client, place))
        }),
        Some(_) => by_rank(members, |_| Some(0)),
        None if !service.preference.is_empty() && service.mode != Mode::Standard => {
            by_rank(members, |place| scope_rank(service, client, place))
        }
        None if detects_outliers => by_rank(members, |place| {
            Some(nearness(&client.locality, &place.locality))
        }),
        None => by_rank(members, |_| Some(0)),
    }
}

/// Lower ranks first; `None` is left out.
fn by_rank(members: &[Member], rank: impl Fn(&Place) -> Option<usize>) -> (Grouping, Vec<Group>) {
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (index, member) in weighty(members) {
        if let Some(rank) = rank(&member.place) {
            groups.entry(rank).or_default().members.push(index);
        }
    }
    (Grouping::Priority, groups.into_values().collect())
}

fn weighty(members: &[Member]) -> impl Iterator<Item = (usize, &Member)> {
    members.iter().enumerate().filter(|(_, m)| m.weight > 0)
}

/// How many of the service's scopes do not match, from the first mismatch on.
fn scope_rank(service: &LoadBalancing, client: &Place, endpoint: &Place) -> Option<usize> {
    let (a, b) = (&client.locality, &endpoint.locality);
    let same = |scope: &&Scope| match scope {
        Scope::Region => a.region == b.region,
        Scope::Zone => a.region == b.region && a.zone == b.zone,
        Scope::Subzone => a.region == b.region && a.zone == b.zone && a.subzone == b.subzone,
        Scope::Node => client.node == endpoint.node,
        Scope::Cluster => client.cluster == endpoint.cluster,
        Scope::Network => client.network == endpoint.network,
    };
    let missing = service.preference.len() - service.preference.iter().take_while(same).count();
    (service.mode != Mode::Strict || missing == 0).then_some(missing)
}

/// 0: same subzone; 1: same zone; 2: same region; 3: elsewhere.
fn nearness(client: &Locality, endpoint: &Locality) -> usize {
    if client.region != endpoint.region {
        3
    } else if client.zone != endpoint.zone {
        2
    } else if client.subzone != endpoint.subzone {
        1
    } else {
        0
    }
}

/// Labels first, then localities and regions to fail over to, as Istio composes them.
fn failover_rank(locality: &LocalityBalancing, client: &Place, endpoint: &Place) -> usize {
    let by_labels = label_rank(&locality.priority, client, endpoint);
    if !locality.priority.is_empty() && locality.failover.is_empty() {
        return by_labels;
    }
    let near = nearness(&client.locality, &endpoint.locality);
    let target = locality
        .failover
        .iter()
        .find(|(from, _)| *from == client.locality.region);
    let elsewhere = near == 3 && target.is_some_and(|(_, to)| *to != endpoint.locality.region);
    by_labels * RANKS_BY_LOCALITY + near + usize::from(elsewhere)
}

const RANKS_BY_LOCALITY: usize = 5;

/// How many labels are left from the first mismatch on. A network that comes first is set apart: whatever matches in another network
/// comes after everything in the own one.
fn label_rank(labels: &[std::sync::Arc<str>], client: &Place, endpoint: &Place) -> usize {
    let count = labels.len();
    let mut other_network = 0;
    for (at, label) in labels.iter().enumerate() {
        let (key, wanted) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (&**label, client.label(label)),
        };
        if wanted.unwrap_or_default() == endpoint.label(key).unwrap_or_default() {
            continue;
        }
        if at == 0 && key == "topology.istio.io/network" {
            other_network = count;
            continue;
        }
        return count - at + other_network;
    }
    other_network
}

/// Endpoints that no share names get nothing.
fn by_share(members: &[Member], share: &LocalityShare) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut taken = vec![false; members.len()];
    // The longer pattern is the more specific one.
    let mut targets: Vec<_> = share.to.iter().collect();
    targets.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.trim_end_matches('*').len()));
    for (pattern, percent) in targets {
        let mut group = Group {
            share: u64::from(*percent),
            ..Group::default()
        };
        for (index, member) in weighty(members) {
            let free = taken.get(index) == Some(&false);
            if free && lies_in(&member.place.locality, pattern) {
                taken[index] = true;
                group.members.push(index);
            }
        }
        if !group.members.is_empty() && group.share > 0 {
            groups.push(group);
        }
    }
    groups
}

/// `region/zone/subzone`; what is left out or `*` is any.
fn lies_in(locality: &Locality, pattern: &str) -> bool {
    let parts = [&locality.region, &locality.zone, &locality.subzone];
    let mut wanted = pattern.split('/');
    for part in parts {
        match wanted.next() {
            None | Some("*") => return true,
            Some(wanted) if wanted == &**part => {}
            Some(_) => return false,
        }
    }
    true
}

/// A group at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) weight: u64,
    /// That may be chosen.
    pub(super) healthy: usize,
    pub(super) all: usize,
}

/// How much of the traffic each group gets, and whether it is in panic: then its ejected endpoints are used, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares(Vec<(u64, bool)>);

impl Shares {
    /// A group and its panic.
    pub(super) fn pick(&self, dice: &mut Dice) -> Option<(usize, bool)> {
        let mut groups = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, (share, _))| *share > 0);
        let total: u64 = self.0.iter().map(|(share, _)| *share).sum();
        let only = self.0.iter().filter(|(share, _)| *share > 0).count() == 1;
        if only {
            return groups.next().map(|(index, (_, panic))| (index, *panic));
        }
        let mut left = dice.below(total);
        groups
            .find(|(_, (share, _))| {
                let hit = left < *share;
                left = left.saturating_sub(*share);
                hit
            })
            .map(|(index, (_, panic))| (index, *panic))
    }
}

/// A group is as good as whole while 1/1.4 of it is healthy (Envoy's overprovisioning factor).
const OVERPROVISIONING: u64 = 140;

pub(super) fn shares(
    grouping: Grouping,
    health: impl Iterator<Item = Health>,
    minimum_health: u32,
) -> Shares {
    let health: Vec<Health> = health.collect();
    let available: Vec<u64> = health
        .iter()
        .map(|h| (h.healthy as u64 * OVERPROVISIONING / (h.all as u64).max(1)).min(100))
        .collect();
    let total: u64 = available.iter().sum();
    let below = |h: &Health| h.healthy as u64 * 100 < u64::from(minimum_health) * h.all as u64;
    let panics = |h: &Health| below(h) && (grouping == Grouping::Shares || total < 100);
    let mut left = 100;
    let of_group = |(h, available): (&Health, &u64)| match grouping {
        Grouping::Shares if panics(h) => (h.weight * 100, true),
        Grouping::Shares => (h.weight * available, false),
        // Nothing is healthy anywhere: the nearest group that may panic takes all.
        Grouping::Priority if total == 0 => {
            let taken = if panics(h) && h.all > 0 { left } else { 0 };
            left -= taken;
            (taken, true)
        }
        Grouping::Priority => {
            let taken = (*available).min(left);
            left -= taken;
            (taken, panics(h))
        }
    };
    Shares(health.iter().zip(&available).map(of_group).collect())
}
