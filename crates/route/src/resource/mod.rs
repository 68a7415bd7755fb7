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

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tulle_model::ServiceKey;

/// The object of a user that a resource was made of: `Kind/namespace/name`, which is also the resource's name on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Key of its parts: for example `HTTPRoute`, Kubernetes namespace and name.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self(format!("{kind}/{namespace}/{name}").into())
    }

    /// Parses `Kind/namespace/name` without a copy; `None` unless all three are there.
    pub fn shared(text: Arc<str>) -> Option<Self> {
        let key = Self(text);
        let (kind, namespace, name) = key.parts();
        let whole = [kind, namespace, name].iter().all(|part| !part.is_empty());
        whole.then_some(key)
    }

    /// `Kind/namespace/name`.
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }

    /// For example `HTTPRoute`.
    pub fn kind(&self) -> &str {
        self.parts().0
    }

    /// Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        self.parts().1
    }

    /// Kubernetes name.
    pub fn name(&self) -> &str {
        self.parts().2
    }

    fn parts(&self) -> (&str, &str, &str) {
        let (kind, rest) = self.0.split_once('/').unwrap_or_default();
        let (namespace, name) = rest.split_once('/').unwrap_or_default();
        (kind, namespace, name)
    }
}

/// By kind, then namespace, then name.
impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Arc::<str>::deserialize(deserializer)?;
        Self::shared(text)
            .ok_or_else(|| serde::de::Error::custom("not of the form Kind/namespace/name"))
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
