//! Where an outbound connection goes: a pure decision over one snapshot.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tulle_model::{Chosen, Destination, Identity, Mode, Service, Tunnel, Workload, choose};

use crate::error::{Failure, NoEndpointText};
use crate::limits::REDRAWS;
use crate::state::Snapshot;

/// HBONE's port on every workload.
use tulle_api::contract::PORT_HBONE;

/// The way of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) hop: Hop,
    /// Who is there, when the mesh knows.
    pub(crate) workload: Option<Arc<Workload>>,
    /// The service that was addressed.
    pub(crate) service: Option<Arc<Service>>,
}

/// The next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// Plain TCP.
    Plain(SocketAddr),
    /// HBONE.
    Tunnel {
        /// The peer's HBONE port.
        to: SocketAddr,
        /// What is asked for in the tunnel.
        authority: SocketAddr,
        /// Who may answer.
        expected: Arc<[Identity]>,
    },
}

/// Decides. `tried` are uids of endpoints that failed already; they are left out as long as there is another.
pub(crate) fn route(
    snapshot: &Snapshot,
    client: &Arc<Workload>,
    original: SocketAddr,
    tried: &[Arc<str>],
    dice: &mut dyn FnMut() -> u64,
) -> Result<Route, Failure> {
    let known = snapshot
        .mesh
        .destination(&client.network, original.ip(), &client.namespace);
    match known {
        Destination::Unknown => Ok(Route {
            hop: Hop::Plain(original),
            workload: None,
            service: None,
        }),
        Destination::Workload(workload) => {
            if workload.waypoint.is_some() {
                return Err(Failure::Waypoint(workload.name.clone()));
            }
            to_workload(client, workload, None, original, original.port())
        }
        Destination::Service(service) => {
            to_service(snapshot, client, service, original, tried, dice)
        }
    }
}

fn to_service(
    snapshot: &Snapshot,
    client: &Arc<Workload>,
    service: Arc<Service>,
    original: SocketAddr,
    tried: &[Arc<str>],
    dice: &mut dyn FnMut() -> u64,
) -> Result<Route, Failure> {
    if service.waypoint.is_some() {
        return Err(Failure::Waypoint(service.hostname.clone()));
    }
    if service.load_balancing.mode == Mode::Passthrough {
        // Not balanced: the address that was dialled is the endpoint's own.
        return match snapshot.mesh.workload_at(&client.network, original.ip()) {
            Some(workload) => to_workload(
                client,
                workload.clone(),
                Some(service),
                original,
                original.port(),
            ),
            None => Ok(Route {
                hop: Hop::Plain(original),
                workload: None,
                service: Some(service),
            }),
        };
    }
    let chosen = draw(snapshot, client, &service, original.port(), tried, dice)?;
    to_workload(
        client,
        chosen.workload,
        Some(service),
        original,
        chosen.target_port,
    )
}

fn draw(
    snapshot: &Snapshot,
    client: &Workload,
    service: &Service,
    port: u16,
    tried: &[Arc<str>],
    dice: &mut dyn FnMut() -> u64,
) -> Result<Chosen, Failure> {
    let mut once = || {
        choose(&snapshot.mesh, service, port, Some(client), dice()).map_err(|why| {
            Failure::NoEndpoint {
                service: service.key(),
                port,
                why: NoEndpointText(why),
            }
        })
    };
    let mut chosen = once()?;
    for _ in 0..REDRAWS {
        if !tried.contains(&chosen.workload.uid) {
            break;
        }
        chosen = once()?;
    }
    Ok(chosen)
}

fn to_workload(
    client: &Workload,
    workload: Arc<Workload>,
    service: Option<Arc<Service>>,
    original: SocketAddr,
    port: u16,
) -> Result<Route, Failure> {
    if workload.network != client.network {
        return Err(Failure::OtherNetwork(workload.name.clone()));
    }
    let ip = if service.is_none() {
        original.ip()
    } else {
        address(&workload, original.ip())
            .ok_or_else(|| Failure::NoAddress(workload.name.clone()))?
    };
    let target = SocketAddr::new(ip, port);
    let hop = match workload.tunnel {
        Tunnel::None => Hop::Plain(target),
        Tunnel::Hbone => Hop::Tunnel {
            to: SocketAddr::new(ip, PORT_HBONE),
            authority: target,
            expected: expected(&workload, service.as_deref()),
        },
    };
    Ok(Route {
        hop,
        workload: Some(workload),
        service,
    })
}

/// An address of the family that the client dialled, else the first.
fn address(workload: &Workload, like: IpAddr) -> Option<IpAddr> {
    let addresses = &workload.addresses;
    let same = addresses.iter().find(|a| a.is_ipv4() == like.is_ipv4());
    same.or_else(|| addresses.first()).copied()
}

/// The workload's own identity, and those that the service says its endpoints may present.
fn expected(workload: &Workload, service: Option<&Service>) -> Arc<[Identity]> {
    let further = service.map_or(&[][..], |s| &s.subject_alt_names);
    std::iter::once(workload.identity())
        .chain(further.iter().filter_map(|name| name.parse().ok()))
        .collect()
}
