//! How a destination is used: DestinationRule, BackendTLSPolicy, XBackendTrafficPolicy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tulle_model::{AppProtocol, ServiceKey};

/// What was found out for one service and the proxies of one namespace, all objects of users merged as Istio does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationPolicy {
    /// For this service.
    pub service: ServiceKey,
    /// For proxies of this namespace: their own rules come first.
    #[serde(default)]
    pub client: Arc<str>,
    /// For all of it.
    #[serde(default)]
    pub policy: TrafficPolicy,
    /// For ports of it; what is set here counts instead, field by field of [`TrafficPolicy`].
    #[serde(default)]
    pub ports: Vec<PortPolicy>,
    /// Parts of it by labels of endpoints.
    #[serde(default)]
    pub subsets: Vec<Subset>,
}

impl DestinationPolicy {
    /// Its name on the wire: `namespace/hostname~namespace of the proxies`.
    pub fn name(&self) -> String {
        format!("{}~{}", self.service, self.client)
    }

    /// The service that a name on the wire is about.
    pub fn service_of(name: &str) -> Option<ServiceKey> {
        ServiceKey::parse(name.split_once('~').map_or(name, |(service, _)| service))
    }
}

/// For one port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortPolicy {
    /// On the service.
    pub port: u16,
    /// What is set.
    pub policy: TrafficPolicy,
}

/// Some of the endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subset {
    /// Routes name it.
    pub name: Arc<str>,
    /// All labels must be on the endpoint.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Uids of the workloads that carry them: proxies do not know labels.
    pub workloads: Vec<Arc<str>>,
    /// Instead of the service's, field by field.
    #[serde(default)]
    pub policy: TrafficPolicy,
    /// For ports.
    #[serde(default)]
    pub ports: Vec<PortPolicy>,
}

/// How connections and requests are made. `None` is the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicy {
    /// Choice of an endpoint.
    #[serde(default)]
    pub balancing: Option<Balancing>,
    /// Locality.
    #[serde(default)]
    pub locality: Option<LocalityBalancing>,
    /// New endpoints get their share slowly, over this time.
    #[serde(default)]
    pub warm_up: Option<Duration>,
    /// Limits that refuse rather than queue.
    #[serde(default)]
    pub breaker: Option<CircuitBreaker>,
    /// Connections.
    #[serde(default)]
    pub tcp: Option<TcpSettings>,
    /// Requests.
    #[serde(default)]
    pub http: Option<HttpSettings>,
    /// Endpoints that fail are left out for a while.
    #[serde(default)]
    pub outliers: Option<OutlierDetection>,
    /// TLS of ours, inside the tunnel if there is one.
    #[serde(default)]
    pub tls: Option<BackendTls>,
    /// PROXY protocol, 1 or 2.
    #[serde(default)]
    pub proxy_protocol: Option<u8>,
    /// What the endpoints speak, if the port does not say.
    #[serde(default)]
    pub protocol: Option<BackendProtocol>,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum BackendProtocol {
    Http1,
    Http2,
    Tcp,
}

impl BackendProtocol {
    /// What a port's protocol says; `None` when it says nothing.
    pub fn of(protocol: AppProtocol) -> Option<Self> {
        match protocol {
            AppProtocol::Http11 => Some(Self::Http1),
            AppProtocol::Http2 | AppProtocol::Grpc => Some(Self::Http2),
            AppProtocol::Tcp | AppProtocol::Tls => Some(Self::Tcp),
            AppProtocol::Unknown => None,
        }
    }
}

/// Choice among endpoints of equal rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Balancing {
    /// One after the other, by weight.
    RoundRobin,
    /// Of two at random, the one with fewer requests. The default.
    LeastRequest,
    /// At random, by weight.
    Random,
    /// To the address that was asked for.
    Passthrough,
    /// The same for the same key.
    Consistent(ConsistentHash),
}

/// Consistent hashing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// Table size of Maglev; `None` is a ring.
    #[serde(default)]
    pub maglev: Option<u64>,
    /// Points on the ring at least.
    #[serde(default)]
    pub minimum_ring: Option<u64>,
}

/// What is hashed. A request without it is balanced at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum HashKey {
    /// A header.
    Header(Arc<str>),
    /// A cookie; made here when it is not there and has a lifetime.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// For this path.
        path: Option<Arc<str>>,
        /// `None`: never made here; zero: for the session.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceAddress,
    /// A parameter of the query.
    Query(Arc<str>),
}

/// Locality of endpoints (`localityLbSetting`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalityBalancing {
    /// False: no preference.
    pub enabled: bool,
    /// Shares by the client's locality: `region/zone/subzone`, `*` at the end.
    #[serde(default)]
    pub distribute: Vec<LocalityShare>,
    /// From region to region.
    #[serde(default)]
    pub failover: Vec<(Arc<str>, Arc<str>)>,
    /// Labels, the most important first (`key` or `key=value`).
    #[serde(default)]
    pub priority: Vec<Arc<str>>,
}

/// Shares for clients of one locality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalityShare {
    /// Clients there.
    pub from: Arc<str>,
    /// Percent by locality of the endpoints.
    pub to: BTreeMap<Arc<str>, u32>,
}

/// Beyond a limit, requests are answered with 503 at once. `None` is no limit but the proxy's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are Istio's")]
pub struct CircuitBreaker {
    #[serde(default)]
    pub max_connections: Option<u32>,
    #[serde(default)]
    pub max_pending_requests: Option<u32>,
    #[serde(default)]
    pub max_requests: Option<u32>,
    #[serde(default)]
    pub max_retries: Option<u32>,
    /// Retries may be this share of active requests, in percent.
    #[serde(default)]
    pub retry_budget_percent: Option<u32>,
    /// But always this many.
    #[serde(default)]
    pub retry_budget_minimum: Option<u32>,
}

/// Connections to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are Istio's")]
pub struct TcpSettings {
    #[serde(default)]
    pub connect_timeout: Option<Duration>,
    #[serde(default)]
    pub max_connection_duration: Option<Duration>,
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
}

/// Requests to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are Istio's")]
pub struct HttpSettings {
    #[serde(default)]
    pub max_requests_per_connection: Option<u32>,
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    #[serde(default)]
    pub max_concurrent_streams: Option<u32>,
    #[serde(default)]
    pub upgrade: Option<UpgradeHttp2>,
    #[serde(default)]
    pub use_client_protocol: bool,
}

/// `h2UpgradePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum UpgradeHttp2 {
    Never,
    Always,
}

/// When an endpoint is left out. `None` is Istio's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are Istio's")]
pub struct OutlierDetection {
    #[serde(default)]
    pub consecutive_5xx_errors: Option<u32>,
    #[serde(default)]
    pub consecutive_gateway_errors: Option<u32>,
    #[serde(default)]
    pub consecutive_local_origin_failures: Option<u32>,
    #[serde(default)]
    pub split_external_local_origin_errors: bool,
    #[serde(default)]
    pub interval: Option<Duration>,
    #[serde(default)]
    pub base_ejection_time: Option<Duration>,
    #[serde(default)]
    pub max_ejection_percent: Option<u32>,
    #[serde(default)]
    pub min_health_percent: Option<u32>,
}

/// TLS to the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendTls {
    /// Sent as SNI; `None`: the request's host.
    #[serde(default)]
    pub sni: Option<Arc<str>>,
    /// PEM; `None`: the system's.
    #[serde(default)]
    pub roots: Option<Arc<str>>,
    /// Name of a [`super::Certificate`] to present.
    #[serde(default)]
    pub certificate: Option<Arc<str>>,
    /// Gateways present their own ([`super::Gateway::backend_certificate`]), where they have one.
    #[serde(default)]
    pub gateway_certificate: bool,
    /// Which names count.
    pub verify: VerifyNames,
}

/// What the certificate of the endpoint must say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum VerifyNames {
    /// The SNI.
    Sni,
    /// Any of these DNS names or URIs.
    AnyOf(Vec<Arc<str>>),
    /// Nothing is verified (`insecureSkipVerify`).
    Insecure,
}
