//! A workload: one place where connections end.

use std::net::IpAddr;
use std::sync::Arc;

use crate::identity::Identity;
use crate::service::{NetworkAddress, Port, ServiceKey};

/// A pod, a WorkloadEntry or an inline endpoint. Field by field as Istio's `istio.workload.Workload`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// `<cluster>//Pod/<ns>/<name>` for pods; opaque to proxies.
    pub uid: Arc<str>,
    /// Kubernetes name.
    pub name: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Trust domain of its identity; never empty.
    pub trust_domain: Arc<str>,
    /// Service account; never empty.
    pub service_account: Arc<str>,
    /// Kubernetes node, or empty.
    pub node: Arc<str>,
    /// Istio network; empty is the default one.
    pub network: Arc<str>,
    /// Cluster id, for example `Kubernetes`.
    pub cluster: Arc<str>,
    /// Its addresses, primary first.
    pub addresses: Vec<IpAddr>,
    /// A name to resolve when there is no address; or empty.
    pub hostname: Arc<str>,
    /// How to reach it.
    pub tunnel: Tunnel,
    /// Speaks HBONE itself, without a node proxy.
    pub native_tunnel: bool,
    /// Whether it may receive new connections.
    pub health: Health,
    /// Shares its node's addresses; never found by address.
    pub host_network: bool,
    /// `service.istio.io/canonical-name`.
    pub canonical_name: Arc<str>,
    /// `service.istio.io/canonical-revision`.
    pub canonical_revision: Arc<str>,
    /// The owner's name, for example the Deployment's.
    pub workload_name: Arc<str>,
    /// The owner's kind.
    pub kind: WorkloadKind,
    /// Ports by service that it belongs to: the same for all replicas, and shared by them.
    pub services: Arc<[Membership]>,
    /// Names (`namespace/name`) of the policies that select it; namespace and mesh policies are found by scope.
    pub policies: Vec<Arc<str>>,
    /// Region, zone, subzone.
    pub locality: Locality,
    /// Relative weight, at least 1 unless deliberately 0.
    pub capacity: u32,
    /// Its waypoint; boxed because few have one.
    pub waypoint: Option<Box<GatewayAddress>>,
    /// What comes to it around its waypoint is refused.
    pub waypoint_enforced: bool,
    /// Gateway of its network, when that is another one.
    pub network_gateway: Option<Box<GatewayAddress>>,
}

/// A service that a workload belongs to, and the workload's ports for it.
pub type Membership = (ServiceKey, Vec<Port>);

impl Workload {
    /// The SPIFFE identity that its proxy presents.
    pub fn identity(&self) -> Identity {
        Identity {
            trust_domain: self.trust_domain.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }
}

/// How connections to a workload travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// Plain TCP.
    #[default]
    None,
    /// HTTP/2 CONNECT in mTLS on port 15008.
    Hbone,
}

/// Readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Ready and not terminating.
    #[default]
    Healthy,
    /// Everything else.
    Unhealthy,
}

/// Kind of the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// A bare pod, or unknown.
    #[default]
    Pod,
    /// A Job.
    Job,
}

impl WorkloadKind {
    /// Lower-case name as in baggage and config dumps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }
}

/// Where a workload runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// `topology.kubernetes.io/region` of the node, or empty.
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`, or empty.
    pub zone: Arc<str>,
    /// `topology.istio.io/subzone`, or empty.
    pub subzone: Arc<str>,
}

/// Address of a waypoint or network gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// Which one.
    pub destination: GatewayDestination,
    /// Its HBONE port, 15008 as a rule.
    pub hbone_port: u16,
}

/// The two ways to name a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// By service.
    Service(ServiceKey),
    /// By address.
    Address(NetworkAddress),
}
