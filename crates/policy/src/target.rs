//! What a layer 7 policy is attached to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tulle_model::ServiceKey;

/// What a layer 7 policy is attached to. A request has several: its gateway, its service, and all waypoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Everything that a waypoint or gateway serves: `namespace/name`.
    Gateway(Arc<str>),
    /// What is addressed to one service.
    Service(ServiceKey),
    /// Everything that any waypoint of the mesh serves.
    Waypoints,
}

/// What is left of a policy that cannot be decoded: enough to refuse requests to what it was to protect.
///
/// Decoded on its own, unknown fields left aside, when the whole is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// `namespace/name` of the policy.
    pub name: Arc<str>,
    /// What it is attached to.
    pub targets: Vec<Target>,
}
