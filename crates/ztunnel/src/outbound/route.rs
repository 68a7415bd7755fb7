//! Where an outbound connection goes: a pure decision over one snapshot.

pub(crate) mod waypoint;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// HBONE's port on every workload.
use tulle_api::contract::PORT_HBONE;
use tulle_model::{
    Chosen, Destination, Identity, Mode, NoEndpoint, Service, Tunnel, Workload, choose,
};

use crate::error::{Failure, NoEndpointText};
use crate::state::Snapshot;

/// The way of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) hop: Hop,
    /// Who is there, when the mesh knows. Where there is a waypoint in between, that.
    pub(crate) workload: Option<Arc<Workload>>,
    /// The service that was addressed.
    pub(crate) service: Option<Arc<Service>>,
    /// Another workload could be chosen instead.
    pub(crate) drawn: bool,
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
    /// Where DNS says; [`Hop::at`] makes it one of the others.
    Named {
        /// The name.
        hostname: Arc<str>,
        /// The port there.
        port: u16,
        /// Who may answer, if it speaks HBONE.
        expected: Option<Arc<[Identity]>>,
    },
}

impl Hop {
    /// The same with a name's address.
    pub(crate) fn at(&self, address: IpAddr) -> Self {
        match self {
            Self::Named { port, expected, .. } => {
                direct(SocketAddr::new(address, *port), expected.clone())
            }
            known => known.clone(),
        }
    }
}

/// What a decision is about.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) client: &'a Arc<Workload>,
    pub(crate) original: SocketAddr,
    /// Uids of endpoints that failed already; they are left out as long as there is another.
    pub(crate) tried: &'a [Arc<str>],
}

/// Decides.
pub(crate) fn route(
    snapshot: &Snapshot,
    asked: Question<'_>,
    dice: &mut dyn FnMut() -> u64,
) -> Result<Route, Failure> {
    let (client, original) = (asked.client, asked.original);
    let known = snapshot
        .mesh
        .destination(&client.network, original.ip(), &client.namespace);
    match known {
        Destination::Unknown => Ok(passed_through(original, None)),
        Destination::Workload(workload) => match &workload.waypoint {
            Some(waypoint) if !waypoint::is_behind(snapshot, waypoint, client) => {
                waypoint::through(snapshot, asked, waypoint, &workload.name, None, dice)
            }
            _ => to_workload(client, workload, None, original, original.port()),
        },
        Destination::Service(service) => to_service(snapshot, asked, service, dice),
    }
}

fn to_service(
    snapshot: &Snapshot,
    asked: Question<'_>,
    service: Arc<Service>,
    dice: &mut dyn FnMut() -> u64,
) -> Result<Route, Failure> {
    let (client, original) = (asked.client, asked.original);
    let mut waypoints = service.waypoints();
    if !waypoints.any(|waypoint| waypoint::is_behind(snapshot, waypoint, client))
        && let Some(waypoint) = service.draw_waypoint(dice())
    {
        let name = &service.hostname;
        return waypoint::through(snapshot, asked, waypoint, name, Some(&service), dice);
    }
    drop(waypoints);
    // From here on the waypoint of the chosen workload does not count: the service was addressed.
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
            None => Ok(passed_through(original, Some(service))),
        };
    }
    let chosen = draw(snapshot, asked, &service, original.port(), dice).map_err(|why| {
        Failure::NoEndpoint {
            service: service.key(),
            port: original.port(),
            why: NoEndpointText(why),
        }
    })?;
    to_workload(
        client,
        chosen.workload,
        Some(service),
        original,
        chosen.target_port,
    )
}

fn passed_through(original: SocketAddr, service: Option<Arc<Service>>) -> Route {
    Route {
        hop: Hop::Plain(original),
        workload: None,
        service,
        drawn: false,
    }
}

/// An endpoint that has not failed yet; if all have, better one of them than none.
fn draw(
    snapshot: &Snapshot,
    asked: Question<'_>,
    service: &Service,
    port: u16,
    dice: &mut dyn FnMut() -> u64,
) -> Result<Chosen, NoEndpoint> {
    let mut without = |failed: &[Arc<str>]| {
        let client = Some(&**asked.client);
        choose(&snapshot.mesh, service, port, client, failed, dice())
    };
    without(asked.tried).or_else(|_| without(&[]))
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
    let ip = match service {
        None => Some(original.ip()),
        Some(_) => address(&workload, original.ip()),
    };
    let expected = match workload.tunnel {
        Tunnel::None => None,
        Tunnel::Hbone => Some(expected(&workload, service.as_deref())),
    };
    let hop = match ip {
        Some(ip) => direct(SocketAddr::new(ip, port), expected),
        None if workload.hostname.is_empty() => {
            return Err(Failure::NoAddress(workload.name.clone()));
        }
        None => Hop::Named {
            hostname: workload.hostname.clone(),
            port,
            expected,
        },
    };
    Ok(Route {
        hop,
        drawn: service.is_some(),
        workload: Some(workload),
        service,
    })
}

/// To a workload itself: in a tunnel if somebody is expected to be at the end of one.
fn direct(target: SocketAddr, expected: Option<Arc<[Identity]>>) -> Hop {
    match expected {
        None => Hop::Plain(target),
        Some(expected) => Hop::Tunnel {
            to: SocketAddr::new(target.ip(), PORT_HBONE),
            authority: target,
            expected,
        },
    }
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
