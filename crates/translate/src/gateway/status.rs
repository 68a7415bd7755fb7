//! What users of the Gateway API are told about their objects.

use std::sync::Arc;

use tulle_api::gateway::ParentReference;

use crate::condition::Condition;

/// All of an object's status that is ours to write. The writer keeps the times of transitions, and what other controllers wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Of a GatewayClass.
    GatewayClass(GatewayClassStatus),
    /// Of a Gateway.
    Gateway(GatewayStatus),
    /// Of a ListenerSet.
    ListenerSet(ListenerSetStatus),
    /// Of a route.
    Route(RouteStatus),
    /// Of a policy with targets.
    Policy(PolicyStatus),
}

/// Of a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayClassStatus {
    /// `Accepted`.
    pub conditions: Vec<Condition>,
    /// Names of Gateway API features, sorted.
    pub supported_features: Vec<&'static str>,
}

/// Of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayStatus {
    /// Where it can be reached.
    pub addresses: Vec<StatusAddress>,
    /// `Accepted`, `Programmed`, and more.
    pub conditions: Vec<Condition>,
    /// In the order of the specification.
    pub listeners: Vec<ListenerStatus>,
    /// Accepted ListenerSets.
    pub attached_listener_sets: u32,
}

/// An address of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusAddress {
    /// `IPAddress` or `Hostname`.
    pub kind: &'static str,
    /// The address.
    pub value: Arc<str>,
}

/// Of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: Arc<str>,
    /// Kinds of routes (group, kind) that may attach.
    pub supported_kinds: Vec<(&'static str, &'static str)>,
    /// How many did.
    pub attached_routes: u32,
    /// `Accepted`, `Programmed`, `ResolvedRefs`, `Conflicted`.
    pub conditions: Vec<Condition>,
}

/// Of a ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerSetStatus {
    /// `Accepted`, `Programmed`.
    pub conditions: Vec<Condition>,
    /// In the order of the specification; none when it is not allowed.
    pub listeners: Vec<ListenerStatus>,
}

/// Of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteStatus {
    /// Parents that are ours.
    pub parents: Vec<ParentStatus>,
}

/// Of a route at one parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParentStatus {
    /// As the route names it.
    pub parent: ParentReference,
    /// Whose status this is.
    pub controller: &'static str,
    /// `Accepted`, `ResolvedRefs`.
    pub conditions: Vec<Condition>,
}

/// Of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyStatus {
    /// Gateways, or targets, where it counts.
    pub ancestors: Vec<AncestorStatus>,
}

/// Of a policy at one ancestor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AncestorStatus {
    /// The ancestor.
    pub ancestor: ParentReference,
    /// Whose status this is.
    pub controller: &'static str,
    /// `Accepted`, `ResolvedRefs`.
    pub conditions: Vec<Condition>,
}

/// Which of the two classes that this mesh serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Gateways: `istio.io/gateway-controller`.
    Gateway,
    /// Waypoints: `istio.io/mesh-controller`.
    Waypoint,
}
