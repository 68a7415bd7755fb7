//! A service: a name, its addresses and how to choose among its endpoints.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::workload::GatewayAddress;

/// `namespace/hostname`, the key of a service on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey(Arc<str>);

impl ServiceKey {
    /// Key of its two parts.
    pub fn new(namespace: &str, hostname: &str) -> Self {
        Self(format!("{namespace}/{hostname}").into())
    }

    /// Parses `namespace/hostname`; `None` unless both are there.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, hostname) = text.split_once('/')?;
        (!namespace.is_empty() && !hostname.is_empty()).then(|| Self(text.into()))
    }

    /// As [`ServiceKey::parse`], without a copy.
    pub fn shared(text: Arc<str>) -> Option<Self> {
        let (namespace, hostname) = text.split_once('/')?;
        (!namespace.is_empty() && !hostname.is_empty()).then_some(Self(text))
    }

    /// `namespace/hostname`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `namespace/hostname`, to share with others.
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.0
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// The fully qualified host name.
    pub fn hostname(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, hostname)| hostname)
    }
}

impl serde::Serialize for ServiceKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ServiceKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Arc::<str>::deserialize(deserializer)?;
        Self::shared(text)
            .ok_or_else(|| serde::de::Error::custom("not of the form namespace/hostname"))
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Kubernetes Service or one host of a ServiceEntry. As Istio's `istio.workload.Service`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Kubernetes name.
    pub name: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Fully qualified name, for example `details.default.svc.cluster.local`.
    pub hostname: Arc<str>,
    /// Virtual addresses; none when headless.
    pub addresses: Vec<NetworkAddress>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Further identities that its endpoints may present.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Its waypoint; boxed because few have one.
    pub waypoint: Option<Box<GatewayAddress>>,
    /// How the waypoint is used.
    pub waypoint_use: WaypointUse,
    /// How to choose.
    pub load_balancing: LoadBalancing,
    /// Wins over others that claim the same host name or address.
    pub canonical: bool,
    /// Families that its clients may be given, whatever addresses its endpoints have.
    pub families: IpFamilies,
    /// Which clients may know of it.
    pub visibility: Visibility,
}

impl Service {
    /// `namespace/hostname`.
    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(&self.namespace, &self.hostname)
    }

    /// Whether clients of this namespace may know of it.
    pub fn visible_to(&self, namespace: &str) -> bool {
        self.visibility == Visibility::Public || *self.namespace == *namespace
    }

    /// The waypoint that a new connection goes to: one of the weighted ones while traffic shifts between two, else the one
    /// that it has. `dice` may be any number: the caller owns the randomness.
    pub fn draw_waypoint(&self, dice: u64) -> Option<&GatewayAddress> {
        let weighted = &self.waypoint_use.weighted;
        let total: u64 = weighted.iter().map(|w| u64::from(w.weight)).sum();
        let mut left = match total {
            // Nothing to choose by: as if there were no weights.
            0 => return self.waypoint.as_deref(),
            total => dice % total,
        };
        let drawn = weighted.iter().find(|w| {
            let weight = u64::from(w.weight);
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        });
        drawn.map(|w| &w.waypoint)
    }

    /// All waypoints that traffic for it may come from.
    pub fn waypoints(&self) -> impl Iterator<Item = &GatewayAddress> {
        let weighted = self.waypoint_use.weighted.iter().map(|w| &w.waypoint);
        self.waypoint.as_deref().into_iter().chain(weighted)
    }
}

/// How the waypoint of a service is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WaypointUse {
    /// Waypoints and their shares of new connections, while traffic shifts from one to another; empty otherwise.
    pub weighted: Vec<WeightedWaypoint>,
    /// Ingress gateways send through the waypoint too (`istio.io/ingress-use-waypoint`).
    pub ingress: bool,
    /// What comes to an endpoint around the waypoint is refused.
    pub enforced: bool,
}

/// One of several waypoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightedWaypoint {
    /// Which.
    pub waypoint: GatewayAddress,
    /// Its share, of the sum of all.
    pub weight: u32,
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// Whatever addresses there are.
    #[default]
    Automatic,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

/// Which clients may know of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// All.
    #[default]
    Public,
    /// Those of its own namespace.
    Namespace,
}

/// An address, or a range of them, in one Istio network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkAddress {
    /// Empty is the default network.
    pub network: Arc<str>,
    /// A single host has the full prefix length.
    pub range: IpNet,
}

impl NetworkAddress {
    /// One host.
    pub fn host(network: Arc<str>, address: IpAddr) -> Self {
        Self {
            network,
            range: IpNet::from(address),
        }
    }
}

/// A port of a service and where it leads on an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// On the service.
    pub service_port: u16,
    /// On the endpoint; 0 when each endpoint has its own.
    pub target_port: u16,
    /// What is spoken.
    pub protocol: AppProtocol,
}

/// Application protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AppProtocol {
    #[default]
    Unknown,
    Http11,
    Http2,
    Grpc,
    Tcp,
    Tls,
}

/// How to choose among the endpoints of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoadBalancing {
    /// Scopes, the most important first.
    pub preference: Vec<Scope>,
    /// What a mismatch means.
    pub mode: Mode,
    /// Which endpoints count.
    pub health: HealthPolicy,
}

/// Where an endpoint may match the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scope {
    Region,
    Zone,
    Subzone,
    Node,
    Cluster,
    Network,
}

/// What to do with endpoints that match fewer scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// No preference.
    #[default]
    Standard,
    /// Only endpoints that match every scope.
    Strict,
    /// The group that matches most scopes.
    Failover,
    /// Not balanced: to the address that was dialled.
    Passthrough,
}

/// Which endpoints count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HealthPolicy {
    /// Healthy ones.
    #[default]
    OnlyHealthy,
    /// All (`publishNotReadyAddresses`).
    AllowAll,
}
