//! What the control plane tells a waypoint or gateway. Travels as JSON; a field that the receiver does not know is an error, so
//! that nothing a newer control plane asks for is silently left out.

mod destination;
mod gateway;
mod http;
mod rate;
mod stream;
mod text;

pub use destination::{
    BackendProtocol, BackendTls, Balancing, CircuitBreaker, ConsistentHash, DestinationPolicy,
    HashKey, HttpSettings, LocalityBalancing, LocalityShare, OutlierDetection, PortPolicy, Subset,
    TcpSettings, TrafficPolicy, UpgradeHttp2, VerifyNames,
};
pub use gateway::{
    Certificate, ClientValidation, Gateway, Listener, Protocol, Role, Termination, TlsVersion,
};
pub use http::{
    Abort, Backend, BackendTarget, Cors, Delay, DirectResponse, Fault, Filter, Fraction,
    HeaderEdits, HttpRoute, Match, Mirror, PathMatch, PathRewrite, Precedence, Redirect, Retry,
    RetryOn, Rewrite, Rule, RuleAction, Timeouts, Unroutable,
};
pub use rate::{KeyPart, Limit, LimitScope, Rate, RateLimit};
pub use stream::{StreamMatch, StreamRoute, StreamRule};
pub use text::{HostPattern, NamedMatch, TextMatch};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tulle_model::ServiceKey;

/// The object of a user that a resource was made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectKey {
    /// For example `HTTPRoute`.
    pub kind: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Kubernetes name.
    pub name: Arc<str>,
}

impl std::fmt::Display for ObjectKey {
    /// `Kind/namespace/name`: the name of the resource on the wire.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// What a route is attached to. The control plane has checked that it may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Parent {
    /// One listener of a gateway.
    Listener {
        /// `namespace/name` of the Gateway.
        gateway: Arc<str>,
        /// Name of the listener.
        listener: Arc<str>,
        /// Host names of route and listener, intersected; empty matches any.
        hostnames: Vec<HostPattern>,
    },
    /// A service behind a waypoint (GAMMA, or a VirtualService's host): all its ports, or one.
    Service {
        /// Which.
        service: ServiceKey,
        /// On the service.
        port: Option<u16>,
    },
}
