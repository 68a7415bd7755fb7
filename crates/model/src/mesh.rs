//! The tables and their look-ups.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use crate::entry::{ByAddress, ByUid, Place};
use crate::service::{NetworkAddress, Service, ServiceKey};
use crate::workload::{GatewayAddress, GatewayDestination, Workload};

/// Everything a proxy knows of the mesh at one moment.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    workloads: HashMap<ByUid, ()>,
    by_address: HashMap<ByAddress, ()>,
    services: HashMap<ServiceKey, Arc<Service>>,
    by_vip: HashMap<NetworkAddress, Arc<[ServiceKey]>>,
    /// By host name in lower case; `*.` begins a wildcard.
    by_host: HashMap<Arc<str>, Arc<[ServiceKey]>>,
    /// Ranges that are wider than one host, few as a rule, longest prefix first.
    wide: Arc<[NetworkAddress]>,
    endpoints: HashMap<ServiceKey, OrdSet<ByUid>>,
}

/// What an address means to the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A virtual address of this service.
    Service(Arc<Service>),
    /// A workload's own address.
    Workload(Arc<Workload>),
    /// Nothing that the mesh knows: pass through.
    Unknown,
}

impl Mesh {
    /// Adds or replaces a workload. An older holder of one of its addresses loses that address: the newer pod has it now.
    pub fn insert_workload(&mut self, workload: Workload) {
        self.remove_workload(&workload.uid.clone());
        let workload = Arc::new(workload);
        if !workload.host_network {
            for entry in ByAddress::all(&workload) {
                self.by_address.insert(entry, ());
            }
        }
        for (service, _) in workload.services.iter() {
            self.endpoints
                .entry(service.clone())
                .or_default()
                .insert(ByUid(workload.clone()));
        }
        self.workloads.insert(ByUid(workload), ());
    }

    /// Removes a workload; false when it was not there.
    pub fn remove_workload(&mut self, uid: &str) -> bool {
        let Some((ByUid(old), ())) = self.workloads.remove_with_key(uid) else {
            return false;
        };
        for entry in ByAddress::all(&old) {
            let holder = self.by_address.get_key_value(&entry.place());
            if holder.is_some_and(|(holder, ())| holder.workload.uid == old.uid) {
                self.by_address.remove(&entry.place());
            }
        }
        for (service, _) in old.services.iter() {
            if let Some(endpoints) = self.endpoints.get_mut(service) {
                endpoints.remove(&*old.uid);
                if endpoints.is_empty() {
                    self.endpoints.remove(service);
                }
            }
        }
        true
    }

    /// Adds or replaces a service. Its endpoints may arrive before it.
    pub fn insert_service(&mut self, service: Service) {
        let key = service.key();
        self.remove_service(&key);
        let service = Arc::new(service);
        for address in &service.addresses {
            claim(&mut self.by_vip, address.clone(), &key);
        }
        claim(&mut self.by_host, host_key(&service), &key);
        let wide = service.addresses.iter().any(is_wide);
        self.services.insert(key, service);
        if wide {
            self.index_wide_ranges();
        }
    }

    /// Removes a service; false when it was not there.
    pub fn remove_service(&mut self, key: &ServiceKey) -> bool {
        let Some(old) = self.services.remove(key) else {
            return false;
        };
        for address in &old.addresses {
            disclaim(&mut self.by_vip, address, key);
        }
        disclaim(&mut self.by_host, &host_key(&old), key);
        if old.addresses.iter().any(is_wide) {
            self.index_wide_ranges();
        }
        true
    }

    /// A workload by uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        let (ByUid(workload), ()) = self.workloads.get_key_value(uid)?;
        Some(workload)
    }

    /// The workload that owns an address.
    pub fn workload_at(&self, network: &Arc<str>, address: IpAddr) -> Option<&Arc<Workload>> {
        let place = Place {
            network,
            address: Some(&address),
        };
        let (entry, ()) = self.by_address.get_key_value(&place)?;
        Some(&entry.workload)
    }

    /// A service by key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.keys().map(|ByUid(workload)| workload)
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The endpoints of a service, in order of uid; a service may have none.
    pub fn endpoints(&self, key: &ServiceKey) -> impl Iterator<Item = &Arc<Workload>> {
        self.endpoints
            .get(key)
            .into_iter()
            .flat_map(|endpoints| endpoints.iter())
            .map(|ByUid(workload)| workload)
    }

    /// How many endpoints a service has, healthy or not.
    pub fn endpoint_count(&self, key: &ServiceKey) -> usize {
        self.endpoints.get(key).map_or(0, OrdSet::len)
    }

    /// The service of a host name (lower case, no trailing dot; `*.` begins a wildcard) for a client in `namespace`, of those
    /// that `usable` takes.
    pub fn service_at_host(
        &self,
        host: &str,
        namespace: &str,
        usable: impl Fn(&Service) -> bool,
    ) -> Option<&Arc<Service>> {
        let claims = self.by_host.get(host)?;
        best(self.known(claims).filter(|s| usable(s)), namespace)
    }

    /// Whether `is` holds for any workload behind a waypoint or gateway, ready or not.
    pub fn any_behind(&self, gateway: &GatewayAddress, is: impl Fn(&Workload) -> bool) -> bool {
        let endpoints = |key: &ServiceKey| self.endpoints(key).any(|w| is(w));
        match &gateway.destination {
            GatewayDestination::Service(key) => endpoints(key),
            GatewayDestination::Address(at) => {
                let address = at.range.addr();
                match self.destination(&at.network, address, "") {
                    Destination::Service(service) => endpoints(&service.key()),
                    Destination::Workload(workload) => is(&workload),
                    Destination::Unknown => false,
                }
            }
        }
    }

    /// What an address means to a client in `namespace`: exact virtual address, then a range, then a workload.
    /// Among several claims on one address the client's own namespace wins, then the canonical service, then the
    /// first by name (Istio's order). What the client may not know of is as if it were not there.
    pub fn destination(&self, network: &Arc<str>, address: IpAddr, namespace: &str) -> Destination {
        let exact = NetworkAddress::host(network.clone(), address);
        if let Some(service) = self.claimed(&exact, namespace) {
            return Destination::Service(service.clone());
        }
        if let Some(service) = self.in_range(network, address, namespace) {
            return Destination::Service(service.clone());
        }
        match self.workload_at(network, address) {
            Some(workload) => Destination::Workload(workload.clone()),
            None => Destination::Unknown,
        }
    }

    /// Of the ranges around an address, that of the client's own namespace, else the longest.
    fn in_range(
        &self,
        network: &Arc<str>,
        address: IpAddr,
        namespace: &str,
    ) -> Option<&Arc<Service>> {
        let around =
            |range: &&NetworkAddress| range.network == *network && range.range.contains(&address);
        let mut longest = None;
        for range in self.wide.iter().filter(around) {
            let Some(service) = self.claimed(range, namespace) else {
                continue;
            };
            if *service.namespace == *namespace {
                return Some(service);
            }
            longest = longest.or(Some(service));
        }
        longest
    }

    fn claimed(&self, address: &NetworkAddress, namespace: &str) -> Option<&Arc<Service>> {
        best(self.known(self.by_vip.get(address)?), namespace)
    }

    fn known<'a>(&'a self, keys: &'a [ServiceKey]) -> impl Iterator<Item = &'a Arc<Service>> {
        keys.iter().filter_map(|key| self.services.get(key))
    }

    /// Ranges are few and change rarely: all of them again, from the claims.
    fn index_wide_ranges(&mut self) {
        let mut wide: Vec<NetworkAddress> =
            self.by_vip.keys().filter(|a| is_wide(a)).cloned().collect();
        wide.sort_by(|a, b| {
            b.range
                .prefix_len()
                .cmp(&a.range.prefix_len())
                .then_with(|| a.range.cmp(&b.range))
                .then_with(|| a.network.cmp(&b.network))
        });
        self.wide = wide.into();
    }
}

/// The one that a client in `namespace` means: of its own namespace, else the canonical one, else the first by name.
fn best<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    namespace: &str,
) -> Option<&'a Arc<Service>> {
    let rank = |s: &Service| (*s.namespace == *namespace, s.canonical);
    let mut best: Option<&Arc<Service>> = None;
    for service in services.filter(|s| s.visible_to(namespace)) {
        if best.is_none_or(|old| rank(service) > rank(old)) {
            best = Some(service);
        }
    }
    best
}

fn host_key(service: &Service) -> Arc<str> {
    if service.hostname.bytes().any(|b| b.is_ascii_uppercase()) {
        service.hostname.to_ascii_lowercase().into()
    } else {
        service.hostname.clone()
    }
}

fn claim<K: Clone + Eq + Hash>(
    claims: &mut HashMap<K, Arc<[ServiceKey]>>,
    of: K,
    key: &ServiceKey,
) {
    let mut keys: Vec<ServiceKey> = claims.get(&of).map_or_else(Vec::new, |c| c.to_vec());
    keys.push(key.clone());
    keys.sort();
    claims.insert(of, keys.into());
}

fn disclaim<K: Clone + Eq + Hash>(
    claims: &mut HashMap<K, Arc<[ServiceKey]>>,
    of: &K,
    key: &ServiceKey,
) {
    let Some(old) = claims.get(of) else { return };
    let left: Vec<ServiceKey> = old.iter().filter(|k| *k != key).cloned().collect();
    if left.is_empty() {
        claims.remove(of);
    } else {
        claims.insert(of.clone(), left.into());
    }
}

fn is_wide(address: &NetworkAddress) -> bool {
    address.range.prefix_len() < address.range.max_prefix_len()
}
