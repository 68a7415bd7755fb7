//! The mesh as an immutable value: workloads, services, look-ups and endpoint choice.
//!
//! Pure: no async, no sockets, no clock, no dice. A [`Mesh`] is cheap to clone (its tables share structure), so a
//! proxy changes a private copy and publishes it whole; readers never see a half-applied update.

mod balance;
mod entry;
mod identity;
mod intern;
mod mesh;
mod service;
mod workload;

pub use balance::{Chosen, NoEndpoint, choose};
pub use identity::{Identity, IdentityError};
pub use intern::Interner;
pub use mesh::{Destination, Mesh};
pub use service::{
    AppProtocol, HealthPolicy, IpFamilies, LoadBalancing, Mode, NetworkAddress, Port, Scope,
    Service, ServiceKey, Visibility, WaypointUse, WeightedWaypoint,
};
pub use workload::{
    GatewayAddress, GatewayDestination, Health, Locality, Membership, Tunnel, Workload,
    WorkloadKind,
};

#[cfg(test)]
mod tests;
