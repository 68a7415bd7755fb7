//! The way through a waypoint. Whatever keeps it from being taken is an error: nothing is ever led past a waypoint.

use std::net::SocketAddr;
use std::sync::Arc;

use tulle_model::{Destination, GatewayAddress, GatewayDestination, NoEndpoint, Service, Workload};

use super::{Hop, Question, Route, address, draw, expected};
use crate::error::{Failure, NoWaypoint};
use crate::state::Snapshot;

/// Whether the client is the waypoint itself: what it sends is not led to it again.
pub(super) fn is_behind(snapshot: &Snapshot, waypoint: &GatewayAddress, client: &Workload) -> bool {
    snapshot.mesh.any_behind(waypoint, |w| w.uid == client.uid)
}

/// To a workload of the waypoint, which is asked for what the client dialled, untranslated.
pub(super) fn through(
    snapshot: &Snapshot,
    asked: Question<'_>,
    waypoint: &GatewayAddress,
    of: &Arc<str>,
    service: Option<&Arc<Service>>,
    dice: &mut dyn FnMut() -> u64,
) -> Result<Route, Failure> {
    let (client, original) = (asked.client, asked.original);
    let refused = |why: NoWaypoint| Failure::Waypoint {
        of: of.clone(),
        waypoint: named(waypoint).into(),
        why,
    };
    let found = find(snapshot, asked, waypoint, dice).map_err(refused)?;
    if found.workload.network != client.network {
        return Err(Failure::OtherNetwork(found.workload.name.clone()));
    }
    let ip = address(&found.workload, original.ip())
        .ok_or_else(|| Failure::NoAddress(found.workload.name.clone()))?;
    Ok(Route {
        hop: Hop::Tunnel {
            to: SocketAddr::new(ip, found.port),
            authority: original,
            expected: expected(&found.workload, found.own_service.as_deref()),
        },
        workload: Some(found.workload),
        service: service.cloned(),
        drawn: found.own_service.is_some(),
    })
}

/// A workload of a waypoint.
struct Found {
    workload: Arc<Workload>,
    port: u16,
    /// The waypoint's own service, which may say more of its identities.
    own_service: Option<Arc<Service>>,
}

fn find(
    snapshot: &Snapshot,
    asked: Question<'_>,
    waypoint: &GatewayAddress,
    dice: &mut dyn FnMut() -> u64,
) -> Result<Found, NoWaypoint> {
    let service = match &waypoint.destination {
        GatewayDestination::Service(key) => snapshot
            .mesh
            .service(key)
            .ok_or(NoWaypoint::Unknown)?
            .clone(),
        GatewayDestination::Address(at) => {
            let namespace = &asked.client.namespace;
            let mesh = &snapshot.mesh;
            match mesh.destination(&at.network, at.range.addr(), namespace) {
                Destination::Service(service) => service,
                Destination::Workload(workload) => {
                    return Ok(Found {
                        workload,
                        port: waypoint.hbone_port,
                        own_service: None,
                    });
                }
                Destination::Unknown => return Err(NoWaypoint::Unknown),
            }
        }
    };
    let chosen =
        draw(snapshot, asked, &service, waypoint.hbone_port, dice).map_err(|why| match why {
            NoEndpoint::Port => NoWaypoint::Port(waypoint.hbone_port),
            NoEndpoint::Empty => NoWaypoint::Empty,
            NoEndpoint::Unhealthy => NoWaypoint::Unhealthy,
            NoEndpoint::Scope => NoWaypoint::Scope,
        })?;
    Ok(Found {
        workload: chosen.workload,
        port: chosen.target_port,
        own_service: Some(service),
    })
}

/// A waypoint in a message.
pub(crate) fn named(waypoint: &GatewayAddress) -> String {
    match &waypoint.destination {
        GatewayDestination::Service(key) => key.to_string(),
        GatewayDestination::Address(at) => at.range.addr().to_string(),
    }
}
