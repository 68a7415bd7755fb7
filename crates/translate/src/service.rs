//! Services: facts, and what the mesh is told of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service as KubernetesService, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tulle_api::contract::{
    ANNOTATION_CONNECT_STRATEGY, ANNOTATION_EXPORT_TO, ANNOTATION_TRAFFIC_DISTRIBUTION,
    CONNECT_STRATEGY_RACE,
};
use tulle_api::networking::{Resolution, ServiceEntry};
use tulle_model::{
    AppProtocol, HealthPolicy, Interner, IpFamilies, LoadBalancing, Mode, NetworkAddress, Port,
    Scope, Service, ServiceKey, Visibility,
};

use crate::labels::Labels;
use crate::workload::WorkloadFacts;

/// Where a service comes from. In one namespace a Kubernetes Service wins over entries of the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceSource {
    /// A Kubernetes Service.
    Kubernetes,
    /// A host of a ServiceEntry.
    Entry,
}

/// Names one service among those of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId {
    /// Where it comes from.
    pub source: ServiceSource,
    /// Name of the resource.
    pub name: Arc<str>,
    /// Fully qualified host name.
    pub hostname: Arc<str>,
}

/// What matters of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Which one.
    pub id: ServiceId,
    /// Its key on the wire.
    pub key: ServiceKey,
    /// Virtual addresses and ranges.
    pub addresses: Vec<IpNet>,
    /// Its TCP ports.
    pub ports: Vec<PortFacts>,
    /// Endpoints by label; empty selects none.
    pub selector: Labels,
    /// Where traffic should stay, when the service itself says so.
    pub distribution: Option<Distribution>,
    /// Only to endpoints on the client's node (`internalTrafficPolicy: Local`).
    pub node_local: bool,
    /// Connections go to the address that was dialled (resolution NONE).
    pub passthrough: bool,
    /// Endpoints count before they are ready.
    pub publish_not_ready: bool,
    /// Further identities of endpoints.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Seconds since 1970; the oldest entry wins.
    pub created: i64,
    /// Families of its addresses.
    pub families: IpFamilies,
    /// Who may know of it.
    pub visibility: Visibility,
    /// Connections race to the addresses of its name (`istio.io/connect-strategy`): a waypoint's business.
    pub races: bool,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// On the service.
    pub number: u16,
    /// Its name, or empty.
    pub name: Arc<str>,
    /// Where it leads.
    pub target: Target,
    /// What is spoken.
    pub protocol: AppProtocol,
}

/// Where a port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This port of every endpoint.
    Number(u16),
    /// The container port of this name.
    Name(Arc<str>),
}

/// Where traffic should stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// Anywhere.
    Any,
    /// In the client's zone, if possible.
    SameZone,
    /// On the client's node, if possible.
    SameNode,
}

impl Distribution {
    /// As the field, or the annotation in any case, says. Unknown values mean anywhere, as in Istio.
    fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "preferclose" | "prefersamezone" => Self::SameZone,
            "prefersamenode" => Self::SameNode,
            _ => Self::Any,
        }
    }

    /// As the annotation of a service or namespace says; `None` without one.
    pub fn annotated(annotations: Option<&BTreeMap<String, String>>) -> Option<Self> {
        let text = annotations?.get(ANNOTATION_TRAFFIC_DISTRIBUTION)?;
        (!text.is_empty()).then(|| Self::parse(text))
    }
}

/// Seconds since 1970 of an object's creation; far in the future when it does not say.
pub(crate) fn created(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp
        .as_ref()
        .map_or(i64::MAX, |time| time.0.as_second())
}

/// Takes what matters of a Kubernetes Service; `None` for ExternalName, which is DNS only.
pub fn service_facts(
    service: &KubernetesService,
    domain: &str,
    texts: &mut Interner,
) -> Option<ServiceFacts> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref()?;
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let hostname: Arc<str> = format!("{name}.{namespace}.svc.{domain}").into();
    let annotated = Distribution::annotated(service.metadata.annotations.as_ref());
    let field = spec
        .traffic_distribution
        .as_deref()
        .map(Distribution::parse);
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| port_facts(port, texts));
    Some(ServiceFacts {
        ports: ports.collect(),
        key: ServiceKey::new(namespace, &hostname),
        id: ServiceId {
            source: ServiceSource::Kubernetes,
            name: texts.intern(name),
            hostname,
        },
        addresses: cluster_ips(spec).into_iter().map(IpNet::from).collect(),
        selector: Labels::of(spec.selector.as_ref(), texts),
        distribution: field.filter(|d| *d != Distribution::Any).or(annotated),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        passthrough: false,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        subject_alt_names: Vec::new(),
        created: created(&service.metadata),
        families: families(spec),
        visibility: annotated_visibility(service.metadata.annotations.as_ref()),
        races: false,
    })
}

/// Families that the user asks for; a headless service may have endpoints of both.
fn families(spec: &ServiceSpec) -> IpFamilies {
    let listed: Vec<&str> = spec
        .ip_families
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    match listed[..] {
        ["IPv4"] => IpFamilies::V4,
        ["IPv6"] => IpFamilies::V6,
        [_, _] => IpFamilies::Dual,
        _ => IpFamilies::Automatic,
    }
}

/// `exportTo`: the mesh knows "all" and "its own namespace"; whoever lists others is seen by all.
fn visibility<'a>(mut export_to: impl Iterator<Item = &'a str>) -> Visibility {
    match export_to.next() {
        Some("." | "~") if export_to.next().is_none() => Visibility::Namespace,
        _ => Visibility::Public,
    }
}

fn annotated_visibility(annotations: Option<&BTreeMap<String, String>>) -> Visibility {
    let text = annotations.and_then(|annotations| annotations.get(ANNOTATION_EXPORT_TO));
    visibility(
        text.iter()
            .flat_map(|text| text.split(','))
            .map(str::trim)
            .filter(|part| !part.is_empty()),
    )
}

/// Virtual addresses; a headless service has none.
fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let texts = match spec.cluster_ips.as_deref() {
        Some(all) if !all.is_empty() => all,
        _ => spec.cluster_ip.as_slice(),
    };
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Only TCP: nothing else is redirected.
fn port_facts(port: &ServicePort, texts: &mut Interner) -> Option<PortFacts> {
    if port
        .protocol
        .as_deref()
        .is_some_and(|protocol| protocol != "TCP")
    {
        return None;
    }
    let number = u16::try_from(port.port).ok()?;
    let target = match &port.target_port {
        None | Some(IntOrString::Int(0)) => Target::Number(number),
        Some(IntOrString::Int(target)) => Target::Number(u16::try_from(*target).ok()?),
        // A number as text is a name to nobody.
        Some(IntOrString::String(target)) => match target.parse() {
            Ok(target) => Target::Number(target),
            Err(_) => Target::Name(texts.intern(target)),
        },
    };
    let name = port.name.as_deref().unwrap_or_default();
    Some(PortFacts {
        number,
        name: texts.intern(name),
        target,
        protocol: app_protocol(port.app_protocol.as_deref(), name),
    })
}

/// What is spoken: `appProtocol`, else the part of the port's name before the first `-`.
fn app_protocol(field: Option<&str>, name: &str) -> AppProtocol {
    let lower = field
        .unwrap_or_else(|| name.split('-').next().unwrap_or_default())
        .to_ascii_lowercase();
    match lower.as_str() {
        "http" | "kubernetes.io/ws" => AppProtocol::Http11,
        "http2" | "kubernetes.io/h2c" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tcp" => AppProtocol::Tcp,
        "tls" | "https" | "kubernetes.io/wss" => AppProtocol::Tls,
        _ => AppProtocol::Unknown,
    }
}

/// Takes what matters of a ServiceEntry: one service for each host. Addresses that cannot be read refuse them all, as
/// in Istio.
pub fn entry_facts(entry: &ServiceEntry, texts: &mut Interner) -> Vec<ServiceFacts> {
    let namespace = entry.metadata.namespace.as_deref().unwrap_or_default();
    let name = texts.intern(entry.metadata.name.as_deref().unwrap_or_default());
    let spec = &entry.spec;
    let addresses: Result<Vec<IpNet>, _> = spec
        .addresses
        .iter()
        .map(|text| parse_net(text).ok_or(()))
        .collect();
    let Ok(addresses) = addresses else {
        return Vec::new();
    };
    let ports: Vec<PortFacts> = spec
        .ports
        .iter()
        .filter_map(|port| {
            let number = u16::try_from(port.number).ok()?;
            let target = port
                .target_port
                .filter(|target| *target != 0)
                .unwrap_or(port.number);
            Some(PortFacts {
                number,
                name: texts.intern(&port.name),
                target: Target::Number(u16::try_from(target).ok()?),
                protocol: app_protocol(Some(&port.protocol), ""),
            })
        })
        .collect();
    let selector = spec.workload_selector.as_ref();
    let selector = selector.map_or_else(Labels::default, |s| Labels::new(&s.labels, texts));
    let passthrough = spec.resolution.unwrap_or_default() == Resolution::None;
    let annotations = entry.metadata.annotations.as_ref();
    let strategy = annotations.and_then(|all| all.get(ANNOTATION_CONNECT_STRATEGY));
    let races = strategy.is_some_and(|text| text.eq_ignore_ascii_case(CONNECT_STRATEGY_RACE));
    let facts = |host: &String| ServiceFacts {
        id: ServiceId {
            source: ServiceSource::Entry,
            name: name.clone(),
            hostname: host.as_str().into(),
        },
        key: ServiceKey::new(namespace, host),
        addresses: addresses.clone(),
        ports: ports.clone(),
        selector: selector.clone(),
        distribution: Distribution::annotated(entry.metadata.annotations.as_ref()),
        node_local: false,
        passthrough,
        publish_not_ready: false,
        subject_alt_names: spec
            .subject_alt_names
            .iter()
            .map(|s| s.as_str().into())
            .collect(),
        created: created(&entry.metadata),
        families: IpFamilies::Automatic,
        visibility: visibility(spec.export_to.iter().map(String::as_str)),
        races,
    };
    spec.hosts
        .iter()
        .filter(|host| !host.is_empty())
        .map(facts)
        .collect()
}

/// An address or a range.
fn parse_net(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().ok().map(|net| net.trunc()),
    }
}

impl ServiceFacts {
    /// The service as the mesh sees it. `inherited` is what the namespace says about distribution.
    pub(crate) fn service(
        &self,
        namespace: &Arc<str>,
        network: &Arc<str>,
        inherited: Option<Distribution>,
        canonical: bool,
    ) -> Service {
        let address = |range: &IpNet| NetworkAddress {
            network: network.clone(),
            range: *range,
        };
        let port = |port: &PortFacts| Port {
            service_port: port.number,
            target_port: match port.target {
                Target::Number(target) => target,
                Target::Name(_) => 0,
            },
            protocol: port.protocol,
        };
        Service {
            name: self.id.name.clone(),
            namespace: namespace.clone(),
            hostname: self.id.hostname.clone(),
            addresses: self.addresses.iter().map(address).collect(),
            ports: self.ports.iter().map(port).collect(),
            subject_alt_names: self.subject_alt_names.clone(),
            waypoint: None,
            waypoint_use: Default::default(),
            load_balancing: self.balancing(inherited),
            canonical,
            families: self.families,
            visibility: self.visibility,
        }
    }

    fn balancing(&self, inherited: Option<Distribution>) -> LoadBalancing {
        if self.passthrough {
            let (mode, health) = (Mode::Passthrough, HealthPolicy::AllowAll);
            return LoadBalancing {
                preference: Vec::new(),
                mode,
                health,
            };
        }
        let zone = [Scope::Network, Scope::Region, Scope::Zone];
        let (preference, mode) = if self.node_local {
            (vec![Scope::Node], Mode::Strict)
        } else {
            match self.distribution.or(inherited).unwrap_or(Distribution::Any) {
                Distribution::Any => (Vec::new(), Mode::Standard),
                Distribution::SameZone => (zone.to_vec(), Mode::Failover),
                Distribution::SameNode => (
                    [&zone[..], &[Scope::Subzone, Scope::Node]].concat(),
                    Mode::Failover,
                ),
            }
        };
        let health = if self.publish_not_ready {
            HealthPolicy::AllowAll
        } else {
            HealthPolicy::OnlyHealthy
        };
        LoadBalancing {
            preference,
            mode,
            health,
        }
    }

    /// Ports of this service on a pod. A named port that the pod does not have is left out.
    pub(crate) fn ports_on_pod(&self, pod: &WorkloadFacts) -> Vec<Port> {
        self.resolve(|port| match &port.target {
            Target::Name(name) => pod.port(name),
            Target::Number(target) if self.id.source == ServiceSource::Entry => {
                Some(pod.port(&port.name).unwrap_or(*target))
            }
            Target::Number(target) => Some(*target),
        })
    }

    /// Ports of this service on a WorkloadEntry, which knows ports by the service's names.
    pub(crate) fn ports_on_entry(&self, entry: &WorkloadFacts) -> Vec<Port> {
        self.resolve(|port| match &port.target {
            Target::Name(name) => entry.port(name),
            Target::Number(target) => Some(entry.port(&port.name).unwrap_or(*target)),
        })
    }

    /// Ports of this service on an endpoint of a slice, which has them by name.
    pub(crate) fn ports_on_slice(&self, ports: &[(Arc<str>, u16)]) -> Vec<Port> {
        self.resolve(|port| {
            ports
                .iter()
                .find(|(name, _)| *name == port.name)
                .map(|(_, target)| *target)
        })
    }

    fn resolve(&self, target: impl Fn(&PortFacts) -> Option<u16>) -> Vec<Port> {
        let resolved = self.ports.iter().filter_map(|port| {
            target(port).map(|target_port| Port {
                service_port: port.number,
                target_port,
                // The service says it; endpoints need not repeat it.
                protocol: AppProtocol::Unknown,
            })
        });
        resolved.collect()
    }
}
