//! Resources to the model, with a typed answer for everything refused.
//!
//! Pure: objects go in through [`Cluster`], changes of the mesh come out. Each object is reduced to the few facts that
//! matter when it arrives; nothing of the object itself is kept. Each output is a pure function of facts
//! and is computed again when one of its inputs changed, so the incremental result equals a computation from nothing.

mod authorization;
mod cluster;
mod condition;
mod gateway;
mod labels;
mod limits;
mod networking;
mod peer;
mod pod;
mod resource;
mod selectors;
mod service;
mod settings;
mod slice;
mod waypoint;
mod workload;

pub use authorization::{AuthorizationFacts, authorization_policy};
pub use cluster::{Changes, Cluster, GatewayName};
pub use condition::{Condition, ObjectKind, ObjectRef, unsupported_kind};
pub use gateway::{
    AncestorStatus, Class, Deployable, DeployedPort, GatewayClassStatus, GatewayStatus,
    ListenerSetStatus, ListenerStatus, NotDeployed, ParentStatus, PolicyStatus, RouteStatus,
    Status, StatusAddress,
};
pub use labels::Labels;
pub use networking::HostAddresses;
pub use peer::{Level, PeerFacts, converted};
pub use pod::{Rejected, pod_facts};
pub use resource::{Audience, Resource, ResourceKey};
pub use service::{
    Distribution, ServiceFacts, ServiceId, ServiceSource, entry_facts, service_facts,
};
pub use settings::Settings;
pub use slice::{SliceFacts, slice_facts};
pub use workload::{WorkloadFacts, entry_workload_facts};

#[cfg(test)]
mod tests;
