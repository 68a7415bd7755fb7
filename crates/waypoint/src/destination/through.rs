//! A gateway's way through the waypoints of a service that asks for it (`istio.io/ingress-use-waypoint`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tulle_model::{GatewayDestination, Health, Service, ServiceKey, Workload};

use super::{Endpoint, Hop};
use crate::state::Snapshot;

/// The waypoints' pods, and what is asked of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Through {
    /// Of the service: what is asked for in the tunnel.
    address: IpAddr,
    gates: Vec<Gate>,
}

/// One pod of a waypoint.
#[derive(Clone, Debug, PartialEq)]
struct Gate {
    workload: Arc<Workload>,
    hbone_port: u16,
    /// Relative to all pods of all waypoints.
    weight: u32,
}

/// A percent of the requests, spread over the pods of one waypoint.
const PERCENT: u32 = 1000;

impl Through {
    pub(super) fn find(snapshot: &Snapshot, service: &Service) -> Option<Self> {
        let primary = service.waypoint.as_deref()?;
        if snapshot.waypoint().is_some() || !service.waypoint_use.ingress {
            return None;
        }
        let weighted = &service.waypoint_use.weighted;
        let shares = weighted.iter().map(|w| (&w.waypoint, w.weight));
        let only = weighted.is_empty().then_some((primary, 1));
        let named: Vec<(&ServiceKey, u16, u32)> = only
            .into_iter()
            .chain(shares)
            .filter_map(|(waypoint, share)| match &waypoint.destination {
                GatewayDestination::Service(key) => Some((key, waypoint.hbone_port, share)),
                GatewayDestination::Address(_) => None,
            })
            .collect();
        if named.is_empty() {
            return None;
        }
        let mut gates = Vec::new();
        for (waypoint, hbone_port, share) in named {
            let pods = snapshot.mesh.endpoints(waypoint);
            let pods: Vec<&Arc<Workload>> = pods.filter(|w| w.health == Health::Healthy).collect();
            let count = u32::try_from(pods.len()).unwrap_or(u32::MAX).max(1);
            let weight = match share {
                0 => 0,
                share => (share.saturating_mul(PERCENT) / count).max(1),
            };
            gates.extend(pods.into_iter().map(|workload| Gate {
                workload: workload.clone(),
                hbone_port,
                weight,
            }));
        }
        Some(Self {
            address: service.addresses.first()?.range.addr(),
            gates,
        })
    }

    /// The same pods, and the same of them.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same = |(a, b): (&Gate, &Gate)| {
            Arc::ptr_eq(&a.workload, &b.workload)
                && (a.hbone_port, a.weight) == (b.hbone_port, b.weight)
        };
        self.address == other.address
            && self.gates.len() == other.gates.len()
            && self.gates.iter().zip(&other.gates).all(same)
    }

    /// With their weights.
    pub(super) fn endpoints(&self, port: u16) -> impl Iterator<Item = (Endpoint, u32)> {
        self.gates.iter().filter_map(move |gate| {
            let ip = *gate.workload.addresses.first()?;
            let endpoint = Endpoint {
                port,
                hop: Hop::Tunnel {
                    to: SocketAddr::new(ip, gate.hbone_port),
                    authority: SocketAddr::new(self.address, port),
                    expected: [gate.workload.identity()].into(),
                },
                workload: Some(gate.workload.clone()),
            };
            Some((endpoint, gate.weight))
        })
    }
}
