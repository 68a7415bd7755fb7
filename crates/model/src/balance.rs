//! Choosing one endpoint of a service.

use std::sync::Arc;

use crate::mesh::Mesh;
use crate::service::{HealthPolicy, Mode, Scope, Service};
use crate::workload::{Health, Workload};

/// An endpoint and the port on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The endpoint.
    pub workload: Arc<Workload>,
    /// Its port for the service port that was asked for.
    pub target_port: u16,
}

/// Why there is no endpoint: the connection must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// The service has no such port.
    Port,
    /// It has no endpoint at all.
    Empty,
    /// It has endpoints, but none is healthy.
    Unhealthy,
    /// Only endpoints outside of the strict scope are left.
    Scope,
}

/// Chooses an endpoint of `service` for `client`, at random by capacity among those that rank best. Those whose uids are in
/// `without` do not count.
///
/// `dice` is drawn once and may be any number: the caller owns the randomness.
pub fn choose(
    mesh: &Mesh,
    service: &Service,
    port: u16,
    client: Option<&Workload>,
    without: &[Arc<str>],
    dice: u64,
) -> Result<Chosen, NoEndpoint> {
    let key = service.key();
    if !service.ports.iter().any(|p| p.service_port == port) {
        return Err(NoEndpoint::Port);
    }
    let mut seen = NoEndpoint::Empty;
    let mut best_rank = 0;
    let mut best: Vec<(&Arc<Workload>, u16)> = Vec::new();
    let balancing = &service.load_balancing;
    for workload in mesh.endpoints(&key) {
        if without.contains(&workload.uid) {
            continue;
        }
        let healthy =
            workload.health == Health::Healthy || balancing.health == HealthPolicy::AllowAll;
        if !healthy {
            seen = worse(seen, NoEndpoint::Unhealthy);
            continue;
        }
        if workload.addresses.is_empty() && workload.hostname.is_empty() {
            // Nowhere: behind the gateway of another network, or not told yet.
            continue;
        }
        let Some(target) = target_port(workload, service, port) else {
            continue;
        };
        let rank = matching_scopes(&balancing.preference, client, workload);
        if balancing.mode == Mode::Strict && rank < balancing.preference.len() {
            seen = worse(seen, NoEndpoint::Scope);
            continue;
        }
        let rank = if balancing.mode == Mode::Failover {
            rank
        } else {
            0
        };
        if rank > best_rank {
            best.clear();
            best_rank = rank;
        }
        if rank == best_rank {
            best.push((workload, target));
        }
    }
    weighted(&best, dice)
        .map(|(workload, target_port)| Chosen {
            workload: workload.clone(),
            target_port,
        })
        .ok_or(seen)
}

/// Port of `workload` that serves `port` of the service; `None` when it has none (a named port that does not resolve).
fn target_port(workload: &Workload, service: &Service, port: u16) -> Option<u16> {
    let key = service.key();
    let (_, ports) = workload.services.iter().find(|(k, _)| *k == key)?;
    ports
        .iter()
        .find(|p| p.service_port == port)
        .map(|p| p.target_port)
        .filter(|p| *p != 0)
}

fn worse(old: NoEndpoint, new: NoEndpoint) -> NoEndpoint {
    if old == NoEndpoint::Scope { old } else { new }
}

/// How many leading scopes of the preference match.
fn matching_scopes(preference: &[Scope], client: Option<&Workload>, endpoint: &Workload) -> usize {
    let Some(client) = client else { return 0 };
    let same = |scope: &&Scope| {
        let (a, b) = (&client.locality, &endpoint.locality);
        match scope {
            Scope::Region => a.region == b.region,
            Scope::Zone => a.region == b.region && a.zone == b.zone,
            Scope::Subzone => a.region == b.region && a.zone == b.zone && a.subzone == b.subzone,
            Scope::Node => client.node == endpoint.node,
            Scope::Cluster => client.cluster == endpoint.cluster,
            Scope::Network => client.network == endpoint.network,
        }
    };
    preference.iter().take_while(same).count()
}

fn weighted<'a>(group: &[(&'a Arc<Workload>, u16)], dice: u64) -> Option<(&'a Arc<Workload>, u16)> {
    let total: u64 = group.iter().map(|(w, _)| u64::from(w.capacity)).sum();
    if total == 0 {
        return None;
    }
    let mut left = dice % total;
    group.iter().copied().find(|(w, _)| {
        let weight = u64::from(w.capacity);
        if left < weight {
            true
        } else {
            left -= weight;
            false
        }
    })
}
