//! The tables and their look-ups.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdSet};

use crate::service::{NetworkAddress, Service, ServiceKey};
use crate::workload::Workload;

/// Everything a proxy knows of the mesh at one moment.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    workloads: HashMap<Arc<str>, Arc<Workload>>,
    by_address: HashMap<(Arc<str>, IpAddr), Arc<Workload>>,
    services: HashMap<ServiceKey, Arc<Service>>,
    by_vip: HashMap<NetworkAddress, Arc<[ServiceKey]>>,
    /// Ranges that are wider than one host, few as a rule, longest prefix first.
    wide: Arc<[NetworkAddress]>,
    endpoints: HashMap<ServiceKey, OrdSet<Arc<str>>>,
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
            for address in &workload.addresses {
                self.by_address
                    .insert((workload.network.clone(), *address), workload.clone());
            }
        }
        for (service, _) in &workload.services {
            self.endpoints
                .entry(service.clone())
                .or_default()
                .insert(workload.uid.clone());
        }
        self.workloads.insert(workload.uid.clone(), workload);
    }

    /// Removes a workload; false when it was not there.
    pub fn remove_workload(&mut self, uid: &str) -> bool {
        let Some(old) = self.workloads.remove(uid) else {
            return false;
        };
        for address in &old.addresses {
            let key = (old.network.clone(), *address);
            if self.by_address.get(&key).is_some_and(|w| w.uid == old.uid) {
                self.by_address.remove(&key);
            }
        }
        for (service, _) in &old.services {
            if let Some(uids) = self.endpoints.get_mut(service) {
                uids.remove(&old.uid);
                if uids.is_empty() {
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
            let mut claims: Vec<ServiceKey> = self
                .by_vip
                .get(address)
                .map_or_else(Vec::new, |c| c.to_vec());
            claims.push(key.clone());
            claims.sort();
            self.by_vip.insert(address.clone(), claims.into());
        }
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
            let left: Vec<ServiceKey> = self.by_vip.get(address).map_or_else(Vec::new, |c| {
                c.iter().filter(|k| *k != key).cloned().collect()
            });
            if left.is_empty() {
                self.by_vip.remove(address);
            } else {
                self.by_vip.insert(address.clone(), left.into());
            }
        }
        if old.addresses.iter().any(is_wide) {
            self.index_wide_ranges();
        }
        true
    }

    /// A workload by uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload that owns an address.
    pub fn workload_at(&self, network: &Arc<str>, address: IpAddr) -> Option<&Arc<Workload>> {
        self.by_address.get(&(network.clone(), address))
    }

    /// A service by key.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// All workloads, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
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
            .flat_map(|uids| uids.iter())
            .filter_map(|uid| self.workloads.get(uid))
    }

    /// How many endpoints a service has, healthy or not.
    pub fn endpoint_count(&self, key: &ServiceKey) -> usize {
        self.endpoints.get(key).map_or(0, OrdSet::len)
    }

    /// What an address means to a client in `namespace`: exact virtual address, then the longest range, then a workload.
    /// Among several claims on one address the client's own namespace wins, then the canonical service, then the
    /// first by name (Istio's order).
    pub fn destination(&self, network: &Arc<str>, address: IpAddr, namespace: &str) -> Destination {
        let exact = NetworkAddress::host(network.clone(), address);
        if let Some(service) = self.claimed(&exact, namespace) {
            return Destination::Service(service.clone());
        }
        let wide = self
            .wide
            .iter()
            .find(|range| range.network == *network && range.range.contains(&address));
        if let Some(service) = wide.and_then(|range| self.claimed(range, namespace)) {
            return Destination::Service(service.clone());
        }
        match self.workload_at(network, address) {
            Some(workload) => Destination::Workload(workload.clone()),
            None => Destination::Unknown,
        }
    }

    fn claimed(&self, address: &NetworkAddress, namespace: &str) -> Option<&Arc<Service>> {
        let claims = self.by_vip.get(address)?;
        let mut best: Option<&Arc<Service>> = None;
        let rank = |s: &Service| (&*s.namespace == namespace, s.canonical);
        for service in claims.iter().filter_map(|key| self.services.get(key)) {
            if best.is_none_or(|old| rank(service) > rank(old)) {
                best = Some(service);
            }
        }
        best
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

fn is_wide(address: &NetworkAddress) -> bool {
    address.range.prefix_len() < address.range.max_prefix_len()
}
