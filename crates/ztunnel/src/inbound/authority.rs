//! What a CONNECT asks for, and whether this pod may be asked for it.

use std::net::SocketAddr;
use std::sync::Arc;

use tulle_model::{Service, Workload};

use crate::error::Failure;
use crate::limits::{PEER_AUTHORITY, PEER_HEADER};
use crate::state::Snapshot;

/// Where a CONNECT leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Always an address of this pod.
    pub(crate) destination: SocketAddr,
    /// The service, for telemetry.
    pub(crate) service: Option<Arc<Service>>,
    /// The peer says that it addressed this service; else it is a guess by the port.
    pub(crate) addressed: bool,
}

/// Judges an authority; a refusal comes with the status that the peer gets.
///
/// `ip:port` must be the address that the tunnel came to. `host:port` must name a service of which the pod is an
/// endpoint; it is delivered to the pod itself.
pub(crate) fn target(
    snapshot: &Snapshot,
    workload: &Workload,
    local: SocketAddr,
    authority: &str,
    forwarded_host: Option<&str>,
) -> Result<Target, (u16, Failure)> {
    let text = || {
        authority
            .chars()
            .take(PEER_AUTHORITY)
            .collect::<String>()
            .into()
    };
    let (destination, named, guessed) = match authority.parse::<SocketAddr>() {
        Ok(wanted) => {
            if wanted.ip().to_canonical() != local.ip() || wanted.port() == 0 {
                return Err((400, Failure::Authority(text())));
            }
            let named = forwarded_host.and_then(|host| served(snapshot, workload, host));
            let guessed = by_port(snapshot, workload, wanted.port());
            (SocketAddr::new(local.ip(), wanted.port()), named, guessed)
        }
        Err(_) => {
            let (host, port) =
                host_and_port(authority).ok_or_else(|| (400, Failure::Authority(text())))?;
            let unknown = || (503, Failure::UnknownService(text()));
            let service = served(snapshot, workload, host).ok_or_else(unknown)?;
            let port = target_port(workload, &service, port).ok_or_else(unknown)?;
            (SocketAddr::new(local.ip(), port), Some(service), None)
        }
    };
    if crate::is_own_port(destination.port()) {
        return Err((503, Failure::OwnPort(destination.port())));
    }
    Ok(Target {
        destination,
        addressed: named.is_some(),
        service: named.or(guessed),
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

/// The service of that name which the workload serves.
fn served(snapshot: &Snapshot, workload: &Workload, host: &str) -> Option<Arc<Service>> {
    let keys = workload.services.iter().map(|(key, _)| key);
    let mut named = keys.filter(|key| key.hostname().eq_ignore_ascii_case(host));
    named.find_map(|key| snapshot.mesh.service(key)).cloned()
}

/// The first service, by name, that leads to this port of the workload: what plain `ip:port` most likely meant.
fn by_port(snapshot: &Snapshot, workload: &Workload, port: u16) -> Option<Arc<Service>> {
    let leads = workload
        .services
        .iter()
        .filter(|(_, ports)| ports.iter().any(|p| p.target_port == port));
    let first = leads.map(|(key, _)| key).min()?;
    snapshot.mesh.service(first).cloned()
}

fn target_port(workload: &Workload, service: &Service, port: u16) -> Option<u16> {
    let key = service.key();
    let (_, ports) = workload.services.iter().find(|(k, _)| *k == key)?;
    let found = ports.iter().find(|p| p.service_port == port)?;
    (found.target_port != 0).then_some(found.target_port)
}

/// `host` of a `forwarded` header, if it is one.
pub(crate) fn forwarded_host(header: Option<&str>) -> Option<&str> {
    let header = header.filter(|h| h.len() <= PEER_HEADER)?;
    let mut parts = header
        .split(';')
        .filter_map(|part| part.trim().split_once('='));
    let (_, host) = parts.find(|(name, _)| name.eq_ignore_ascii_case("host"))?;
    Some(host.trim_matches('"'))
}
