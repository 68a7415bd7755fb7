//! What a CONNECT asks for, and whether this waypoint may be asked for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tulle_model::{AppProtocol, Destination, Service, Workload};

use crate::limits::PEER_AUTHORITY;
use crate::state::Snapshot;

/// What a connection in a tunnel is addressed to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// Service or workload.
    pub(crate) what: Addressed,
    /// As the client addressed it.
    pub(crate) address: SocketAddr,
    /// What is spoken.
    pub(crate) protocol: AppProtocol,
}

/// One of the two.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Addressed {
    Service(Arc<Service>),
    Workload(Arc<Workload>),
}

impl Target {
    pub(crate) fn service(&self) -> Option<&Arc<Service>> {
        match &self.what {
            Addressed::Service(service) => Some(service),
            Addressed::Workload(_) => None,
        }
    }
}

/// Why a CONNECT is refused. The peer erred, or knows an older mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the authority {0:?} is neither address:port nor host:port")]
    Form(String),
    #[error("{0:?} is nothing that the mesh knows")]
    Unknown(String),
    #[error("{0:?} is not behind this waypoint; does its istio.io/use-waypoint name another one?")]
    Foreign(String),
    #[error("{0} has no port {1}")]
    Port(String, u16),
    #[error("port {0} of the proxy itself is nobody's destination")]
    OwnPort(u16),
    #[error("this waypoint does not serve {0} (istio.io/waypoint-for)")]
    Kind(&'static str),
    #[error("no Gateway of this proxy is a waypoint yet")]
    NoWaypoint,
}

impl Refusal {
    /// The status that the peer gets.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Form(_) => 400,
            Self::NoWaypoint => 503,
            _ => 404,
        }
    }
}

/// Judges an authority: `ip:port` of a service's virtual address or of a workload, or `host:port` of a service.
pub(crate) fn judge(
    snapshot: &Snapshot,
    network: &Arc<str>,
    namespace: &str,
    authority: &str,
    is_own_port: impl Fn(u16) -> bool,
) -> Result<Target, Refusal> {
    let text = || authority.chars().take(PEER_AUTHORITY).collect::<String>();
    let (_, services, workloads) = snapshot.waypoint().ok_or(Refusal::NoWaypoint)?;
    if let Ok(address) = authority.parse::<SocketAddr>() {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        return match snapshot.mesh.destination(network, address.ip(), namespace) {
            Destination::Service(service) if services => {
                to_service(snapshot, service, address, text)
            }
            Destination::Service(_) => Err(Refusal::Kind("services")),
            Destination::Workload(workload) if workloads => {
                to_workload(snapshot, workload, address, is_own_port, text)
            }
            Destination::Workload(_) => Err(Refusal::Kind("workloads")),
            Destination::Unknown => Err(Refusal::Unknown(text())),
        };
    }
    let (host, port) = host_and_port(authority).ok_or_else(|| Refusal::Form(text()))?;
    if !services {
        return Err(Refusal::Kind("services"));
    }
    let named = snapshot
        .mesh
        .services()
        .filter(|s| s.hostname.eq_ignore_ascii_case(host));
    let mine = |s: &&Arc<Service>| s.waypoints().any(|w| snapshot.own.is(w));
    let named: Vec<&Arc<Service>> = named.collect();
    let service = match named.iter().copied().find(mine) {
        Some(service) => service.clone(),
        None if named.is_empty() => return Err(Refusal::Unknown(text())),
        None => return Err(Refusal::Foreign(text())),
    };
    let ip = service
        .addresses
        .first()
        .map_or(IpAddr::from([0, 0, 0, 0]), |a| a.range.addr());
    to_service(snapshot, service, SocketAddr::new(ip, port), text)
}

fn to_service(
    snapshot: &Snapshot,
    service: Arc<Service>,
    address: SocketAddr,
    text: impl Fn() -> String,
) -> Result<Target, Refusal> {
    if !service.waypoints().any(|w| snapshot.own.is(w)) {
        return Err(Refusal::Foreign(text()));
    }
    let port = service
        .ports
        .iter()
        .find(|p| p.service_port == address.port());
    let port = port.ok_or_else(|| Refusal::Port(service.hostname.to_string(), address.port()))?;
    Ok(Target {
        protocol: port.protocol,
        what: Addressed::Service(service),
        address,
    })
}

fn to_workload(
    snapshot: &Snapshot,
    workload: Arc<Workload>,
    address: SocketAddr,
    is_own_port: impl Fn(u16) -> bool,
    text: impl Fn() -> String,
) -> Result<Target, Refusal> {
    let me = snapshot.own.workload.as_ref();
    if me.is_some_and(|me| me.uid == workload.uid) && is_own_port(address.port()) {
        return Err(Refusal::OwnPort(address.port()));
    }
    if !workload
        .waypoint
        .as_ref()
        .is_some_and(|w| snapshot.own.is(w))
    {
        return Err(Refusal::Foreign(text()));
    }
    // What is spoken there, if a service of the workload says so.
    let ports = workload.services.iter().flat_map(|(key, ports)| {
        let known = snapshot.mesh.service(key);
        ports.iter().filter_map(move |port| {
            let declared = known?.ports.iter();
            let mut same = declared.filter(|p| p.service_port == port.service_port);
            Some((port.target_port, same.next()?.protocol))
        })
    });
    let mut spoken = ports.filter(|(target, _)| *target == address.port());
    Ok(Target {
        protocol: spoken.next().map_or(AppProtocol::Unknown, |(_, p)| p),
        what: Addressed::Workload(workload),
        address,
    })
}

/// `host:port` with a plain DNS name.
fn host_and_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*');
    let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
    let port: u16 = port.parse().ok().filter(|p| *p != 0)?;
    is_name.then_some((host, port))
}

#[cfg(test)]
mod tests;
