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
    /// How to choose.
    pub load_balancing: LoadBalancing,
    /// Wins over others that claim the same host name or address.
    pub canonical: bool,
}

impl Service {
    /// `namespace/hostname`.
    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(&self.namespace, &self.hostname)
    }
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
