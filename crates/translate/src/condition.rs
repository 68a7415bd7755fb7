//! What the control plane tells users about their objects.

use std::sync::Arc;

/// A status condition. Compared as a whole; the time of a transition is the writer's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Type, for example `ZtunnelAccepted`.
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: bool,
    /// One word.
    pub reason: &'static str,
    /// For people: what, and what to do.
    pub message: String,
    /// Generation of the object that this is about.
    pub observed_generation: Option<i64>,
}

/// Whose conditions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// Kinds that get conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the resources'")]
pub enum ObjectKind {
    AuthorizationPolicy,
    PeerAuthentication,
    Service,
    ServiceEntry,
    WorkloadEntry,
    VirtualService,
    DestinationRule,
    RequestAuthentication,
    Telemetry,
    RateLimitPolicy,
    IstioGateway,
    /// The namespace is empty.
    GatewayClass,
    Gateway,
    ListenerSet,
    HttpRoute,
    GrpcRoute,
    TcpRoute,
    TlsRoute,
    BackendTlsPolicy,
}

/// Condition for kinds that this version accepts and does not act on (EnvoyFilter, WasmPlugin, Sidecar, ...).
pub fn unsupported_kind(kind: &str, generation: Option<i64>) -> Condition {
    Condition {
        kind: tulle_api::contract::CONDITION_WAYPOINT_ACCEPTED,
        status: false,
        reason: reason::UNSUPPORTED_VALUE,
        message: format!(
            "{kind} has no effect: it is made for Envoy or for sidecars, which this mesh does not have"
        ),
        observed_generation: generation,
    }
}

/// Istio's reasons.
pub(crate) mod reason {
    pub(crate) const ACCEPTED: &str = "Accepted";
    pub(crate) const INVALID: &str = "Invalid";
    pub(crate) const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    pub(crate) const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    pub(crate) const TARGET_NOT_FOUND: &str = "TargetNotFound";
    pub(crate) const ANCESTOR_NOT_BOUND: &str = "AncestorNotBound";
    pub(crate) const WAYPOINT_IS_NOT_READY: &str = "WaypointIsNotReady";
}
