//! Virtual addresses for hosts of ServiceEntries that have none of their own, as Istio's controller allocates them: one of
//! 240.240.0.0/16 and one of 2001:2::/48 for each host, kept in `status.addresses`.
//!
//! An address begins as a hash of its host, so that two control planes, or one that lost the status, choose the same; the older
//! entry keeps an address that two claim.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use tulle_api::networking::{Resolution, ServiceEntry};

use super::Name;
use crate::cluster::Cluster;
use crate::service::{ServiceFacts, ServiceId, ServiceSource, created};

/// Label that says whether an entry gets addresses.
const LABEL_ENABLE: &str = "networking.istio.io/enable-autoallocate-ip";
/// Last octets that are used: neither the range's own address nor its broadcast address.
const FIRST: u16 = 1;
const LAST: u16 = u16::MAX - 1;

/// Hosts and their addresses, in order.
pub type HostAddresses = Vec<(Arc<str>, IpAddr)>;

/// Which host of which entry has which address.
#[derive(Debug, Default)]
pub(crate) struct Allocations {
    entries: BTreeMap<Name, Entry>,
    /// By the last 16 bits, which are the same in both families.
    used: HashMap<u16, (Name, Arc<str>)>,
    pending: BTreeSet<Name>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    created: i64,
    /// Hosts that need addresses, in order, each once.
    hosts: Vec<Arc<str>>,
    /// As the status has them.
    reported: HostAddresses,
    /// As they are.
    given: BTreeMap<Arc<str>, u16>,
}

impl Allocations {
    fn set(&mut self, name: Name, new: Option<(i64, Vec<Arc<str>>, HostAddresses)>) {
        let Some((created, hosts, reported)) = new else {
            if let Some(old) = self.entries.remove(&name) {
                self.release(&old);
            }
            self.pending.remove(&name);
            return;
        };
        let entry = self.entries.entry(name.clone()).or_default();
        if (entry.created, &entry.hosts, &entry.reported) != (created, &hosts, &reported) {
            (entry.created, entry.hosts, entry.reported) = (created, hosts, reported);
            self.pending.insert(name);
        }
    }

    fn release(&mut self, entry: &Entry) {
        for suffix in entry.given.values() {
            self.used.remove(suffix);
        }
    }

    /// Gives what is asked for; entries whose addresses are others now.
    fn settle(&mut self) -> BTreeSet<Name> {
        let mut changed = BTreeSet::new();
        while let Some(name) = self.next_pending() {
            self.pending.remove(&name);
            let Some(entry) = self.entries.get(&name) else {
                continue;
            };
            let before = entry.given.clone();
            let (created, hosts, reported) =
                (entry.created, entry.hosts.clone(), entry.reported.clone());
            for suffix in before.values() {
                self.used.remove(suffix);
            }
            let mut given = BTreeMap::new();
            for host in &hosts {
                let own = reported
                    .iter()
                    .filter(|(h, _)| h == host)
                    .find_map(|(_, address)| suffix_of(*address));
                let kept = own.into_iter().chain(before.get(host).copied());
                let kept: Vec<u16> = kept
                    .filter(|suffix| !given.values().any(|other| other == suffix))
                    .collect();
                let kept = kept
                    .into_iter()
                    .find(|suffix| self.take_over(*suffix, created, &name));
                if let Some(suffix) = kept.or_else(|| self.free(&name, host)) {
                    self.used.insert(suffix, (name.clone(), host.clone()));
                    given.insert(host.clone(), suffix);
                }
            }
            if given != before {
                changed.insert(name.clone());
            }
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.given = given;
            }
        }
        changed
    }

    /// The oldest first, so that it keeps what others claim.
    fn next_pending(&self) -> Option<Name> {
        let age = |name: &&Name| {
            (
                self.entries.get(*name).map(|entry| entry.created),
                (*name).clone(),
            )
        };
        self.pending.iter().min_by_key(age).cloned()
    }

    /// Whether an entry may have an address that it had: nobody has it, or somebody younger, who then looks for another.
    fn take_over(&mut self, suffix: u16, created: i64, name: &Name) -> bool {
        let Some((holder, host)) = self.used.get(&suffix).cloned() else {
            return true;
        };
        let Some(entry) = self.entries.get_mut(&holder) else {
            return true;
        };
        if (entry.created, &holder) < (created, name) {
            return false;
        }
        entry.given.remove(&host);
        self.used.remove(&suffix);
        self.pending.insert(holder);
        true
    }

    /// A free address, from the hash on; none when all are used.
    fn free(&self, name: &Name, host: &str) -> Option<u16> {
        let count = u32::from(LAST - FIRST) + 1;
        let start = hash(name, host) % count;
        let mut candidates = (0..count).map(|step| (start + step) % count);
        candidates.find_map(|at| {
            let suffix = u16::try_from(at).ok()? + FIRST;
            (!self.used.contains_key(&suffix)).then_some(suffix)
        })
    }

    /// Addresses of a host; none as long as it waits for them.
    pub(super) fn of(&self, name: &Name, host: &str) -> Vec<IpAddr> {
        let suffix = self
            .entries
            .get(name)
            .and_then(|entry| entry.given.get(host));
        suffix
            .map(|suffix| addresses(*suffix).to_vec())
            .unwrap_or_default()
    }

    fn wants(&self, name: &Name, host: &str) -> bool {
        self.entries
            .get(name)
            .is_some_and(|entry| entry.hosts.iter().any(|known| **known == *host))
    }

    /// Entries whose status says something else than what is.
    fn unwritten(&self) -> impl Iterator<Item = (&Name, HostAddresses)> {
        self.entries.iter().filter_map(|(name, entry)| {
            let wanted: HostAddresses = entry
                .hosts
                .iter()
                .filter_map(|host| Some((host, entry.given.get(host)?)))
                .flat_map(|(host, suffix)| {
                    addresses(*suffix).map(|address| (host.clone(), address))
                })
                .collect();
            (wanted != entry.reported).then_some((name, wanted))
        })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.used.is_empty() && self.pending.is_empty()
    }
}

/// Both addresses of a host.
fn addresses(suffix: u16) -> [IpAddr; 2] {
    let [high, low] = suffix.to_be_bytes();
    let v6 = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, suffix);
    [
        IpAddr::V4(Ipv4Addr::new(240, 240, high, low)),
        IpAddr::V6(v6),
    ]
}

/// Of an address that can be one of ours.
fn suffix_of(address: IpAddr) -> Option<u16> {
    let suffix = match address {
        IpAddr::V4(v4) => match v4.octets() {
            [240, 240, high, low] => u16::from_be_bytes([high, low]),
            _ => return None,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0x2001, 2, 0, 0, 0, 0, 0, suffix] => suffix,
            _ => return None,
        },
    };
    (FIRST..=LAST).contains(&suffix).then_some(suffix)
}

/// FNV-1a: the same in every version of this program.
fn hash((namespace, name): &Name, host: &str) -> u32 {
    let bytes = [
        namespace.as_bytes(),
        b"/",
        name.as_bytes(),
        b"/",
        host.as_bytes(),
    ];
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes
        .iter()
        .flat_map(|part| part.iter())
        .fold(0x811c_9dc5, step)
}

/// Hosts that get addresses.
fn hosts(entry: &ServiceEntry) -> Vec<Arc<str>> {
    let spec = &entry.spec;
    let resolution = spec.resolution.unwrap_or_default();
    let labels = entry.metadata.labels.as_ref();
    let refused = labels
        .and_then(|labels| labels.get(LABEL_ENABLE))
        .is_some_and(|value| value.eq_ignore_ascii_case("false"));
    if resolution == Resolution::None || refused || !spec.addresses.is_empty() {
        return Vec::new();
    }
    let mut hosts: Vec<Arc<str>> = Vec::new();
    for host in &spec.hosts {
        let wild = host.starts_with('*');
        let known = hosts.iter().any(|known| **known == **host);
        if !host.is_empty() && !known && (!wild || resolution == Resolution::DynamicDns) {
            hosts.push(host.as_str().into());
        }
    }
    hosts
}

impl Cluster {
    /// An entry appeared, changed, or went: its hosts may need addresses.
    pub(crate) fn note_entry(&mut self, name: &Name, entry: Option<&ServiceEntry>) {
        let new = entry.map(|entry| {
            let status = entry.status.iter().flat_map(|status| &status.addresses);
            let reported =
                status.filter_map(|a| Some((a.host.as_str().into(), a.value.parse().ok()?)));
            (created(&entry.metadata), hosts(entry), reported.collect())
        });
        self.networking.allocations.set(name.clone(), new);
    }

    /// Services of an entry with the addresses that their hosts have.
    pub(crate) fn with_allocated(
        &self,
        name: &Name,
        facts: Vec<ServiceFacts>,
    ) -> Vec<ServiceFacts> {
        let allocations = &self.networking.allocations;
        let with = |facts: ServiceFacts| match allocations.of(name, &facts.id.hostname) {
            addresses if addresses.is_empty() || !facts.addresses.is_empty() => facts,
            addresses => ServiceFacts {
                addresses: addresses.into_iter().map(IpNet::from).collect(),
                ..facts
            },
        };
        facts.into_iter().map(with).collect()
    }

    /// Gives addresses to hosts that wait for them. Once all entries are known: those that have one keep it.
    pub(crate) fn allocate_addresses(&mut self) {
        for name in self.networking.allocations.settle() {
            let Some(state) = self.namespaces.get(&name.0) else {
                continue;
            };
            let own = |id: &&ServiceId| id.source == ServiceSource::Entry && id.name == name.1;
            let wanting = |id: &&ServiceId| self.networking.allocations.wants(&name, &id.hostname);
            let ids: Vec<ServiceId> = state
                .services
                .keys()
                .filter(own)
                .filter(wanting)
                .cloned()
                .collect();
            for id in ids {
                let addresses = self.networking.allocations.of(&name, &id.hostname);
                let facts = self
                    .namespaces
                    .get(&name.0)
                    .and_then(|state| state.services.get(&id))
                    .cloned();
                if let Some(facts) = facts {
                    let addresses = addresses.into_iter().map(IpNet::from).collect();
                    self.set_one_service(&name.0, &id, Some(ServiceFacts { addresses, ..facts }));
                }
            }
        }
    }

    /// ServiceEntries whose `status.addresses` must be written, and all that they shall hold: host and address, in order.
    /// Whoever leads writes them, after [`Cluster::take_changes`].
    pub fn unwritten_addresses(&self) -> Vec<(Name, HostAddresses)> {
        self.networking
            .allocations
            .unwritten()
            .map(|(name, addresses)| (name.clone(), addresses))
            .collect()
    }
}
