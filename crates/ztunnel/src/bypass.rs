//! What comes to a workload around its waypoint: counted, and refused where nobody may go around.

use tulle_model::{GatewayAddress, Identity, Mesh, Service, Workload};
use tulle_telemetry::{CounterFamily, Registry};

use crate::error::Failure;
use crate::outbound::route::waypoint;

/// A connection as it arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived<'a> {
    pub(crate) workload: &'a Workload,
    /// Port of the application.
    pub(crate) port: u16,
    /// Who opened it, if TLS proved that.
    pub(crate) peer: Option<&'a Identity>,
    /// The service that the peer says it addressed.
    pub(crate) addressed: Option<&'a Service>,
}

/// Counts connections that came around a waypoint.
#[derive(Clone, Debug)]
pub(crate) struct BypassMetric(CounterFamily);

impl BypassMetric {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self(registry.counter(
            "tulle_waypoint_bypassed",
            "Connections that came to a workload around its waypoint",
            &[
                "destination_workload",
                "destination_workload_namespace",
                "waypoint",
                "refused",
            ],
        ))
    }

    /// Counts, and refuses where the waypoint is enforced.
    pub(crate) fn judge(&self, mesh: &Mesh, arrived: Arrived<'_>) -> Result<(), Failure> {
        let Some(around) = around(mesh, arrived) else {
            return Ok(());
        };
        let workload = arrived.workload;
        let refused = if around.enforced { "true" } else { "false" };
        self.0
            .with(&[
                &workload.workload_name,
                &workload.namespace,
                &around.waypoint,
                refused,
            ])
            .inc();
        match around.enforced {
            true => Err(Failure::Bypassed(around.waypoint.into())),
            false => Ok(()),
        }
    }
}

/// Why a connection that is there already may not go on; it was counted when it came.
pub(crate) fn refusal(mesh: &Mesh, arrived: Arrived<'_>) -> Option<Failure> {
    let around = around(mesh, arrived).filter(|around| around.enforced)?;
    Some(Failure::Bypassed(around.waypoint.into()))
}

/// Which waypoint was passed by.
#[derive(Debug, PartialEq, Eq)]
struct Around {
    waypoint: String,
    enforced: bool,
}

/// A connection comes through a waypoint if its client is one: proved by its certificate, not by its address.
///
/// The waypoints of all services that lead to this port count, because the same pod and port may belong to several; and the
/// workload's own. A client that addressed a service goes past the workload's waypoint rightly, unless that is enforced: then
/// its word is not enough.
fn around(mesh: &Mesh, arrived: Arrived<'_>) -> Option<Around> {
    let workload = arrived.workload;
    let leads_here = workload
        .services
        .iter()
        .filter(|(_, ports)| ports.iter().any(|p| p.target_port == arrived.port))
        .filter_map(|(key, _)| mesh.service(key));
    let services: Vec<&Service> = leads_here
        .map(|service| &**service)
        .filter(|service| service.waypoints().next().is_some())
        .collect();
    let own_counts = workload.waypoint_enforced || arrived.addressed.is_none();
    let own = workload.waypoint.as_deref().filter(|_| own_counts);
    let may_come: Vec<&GatewayAddress> = services
        .iter()
        .flat_map(|service| service.waypoints())
        .chain(workload.waypoint.as_deref())
        .collect();
    let first = services
        .first()
        .and_then(|service| service.waypoints().next())
        .or(own)?;
    let is_waypoint = |peer: &Identity| {
        may_come
            .iter()
            .any(|gateway| mesh.any_behind(gateway, |w| w.identity() == *peer))
    };
    if arrived.peer.is_some_and(is_waypoint) {
        return None;
    }
    let by_service = services.iter().any(|service| service.waypoint_use.enforced);
    Some(Around {
        waypoint: waypoint::named(first),
        enforced: by_service || (workload.waypoint_enforced && own.is_some()),
    })
}

#[cfg(test)]
mod tests;
