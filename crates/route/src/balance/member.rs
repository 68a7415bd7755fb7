//! Endpoints and what is remembered of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tulle_model::{Locality, Workload};

/// An endpoint as balancers see it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The same on every replica and after every update (a workload's uid, or an address): consistent hashing hashes it.
    pub id: Arc<str>,
    /// Relative; 0 is never chosen.
    pub weight: u32,
    /// Where it is.
    pub place: Place,
    /// When it was first seen, for warm-up.
    pub since: Duration,
    /// Kept over updates by whoever builds balancers.
    pub state: Arc<State>,
}

/// Where an endpoint or a client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Region, zone, subzone.
    pub locality: Locality,
    /// Kubernetes node.
    pub node: Arc<str>,
    /// Cluster id.
    pub cluster: Arc<str>,
    /// Istio network.
    pub network: Arc<str>,
    /// Further labels that `failoverPriority` names, as far as they are known.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Place {
    /// Where a workload runs.
    pub fn of(workload: &Workload) -> Self {
        Self {
            locality: workload.locality.clone(),
            node: workload.node.clone(),
            cluster: workload.cluster.clone(),
            network: workload.network.clone(),
            labels: BTreeMap::new(),
        }
    }

    /// A label of it; the topology labels are known even where labels are not.
    pub fn label(&self, key: &str) -> Option<&str> {
        let known = match key {
            "topology.kubernetes.io/region" => &self.locality.region,
            "topology.kubernetes.io/zone" => &self.locality.zone,
            "topology.istio.io/subzone" => &self.locality.subzone,
            "kubernetes.io/hostname" => &self.node,
            "topology.istio.io/cluster" => &self.cluster,
            "topology.istio.io/network" => &self.network,
            _ => return self.labels.get(key).map(|value| &**value),
        };
        Some(&**known)
    }
}

/// What happens at an endpoint, counted by all workers.
#[derive(Debug, Default)]
pub struct State {
    active: AtomicU32,
    pub(super) server_errors: AtomicU32,
    pub(super) gateway_errors: AtomicU32,
    pub(super) local_failures: AtomicU32,
    /// How often it was left out lately.
    pub(super) ejections: AtomicU32,
    /// In nanoseconds of the callers' clock.
    pub(super) ejected_until: AtomicU64,
}

impl State {
    /// Counts a request until the answer is dropped.
    pub fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Relaxed);
        Active(self.clone())
    }

    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Left out for now.
    pub fn is_ejected(&self, now: Duration) -> bool {
        now < Duration::from_nanos(self.ejected_until())
    }

    pub(super) fn ejected_until(&self) -> u64 {
        self.ejected_until.load(Relaxed)
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Active(Arc<State>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
