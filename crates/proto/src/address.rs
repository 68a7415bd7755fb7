//! Workloads and services from the wire.

use std::net::IpAddr;

use ipnet::IpNet;
use prost::Message;
use tulle_model::{
    AppProtocol, GatewayAddress, GatewayDestination, Health, HealthPolicy, Interner, IpFamilies,
    LoadBalancing, Locality, Mode, NetworkAddress, Port, Scope, Service, ServiceKey, Tunnel,
    Visibility, WaypointUse, WeightedWaypoint, Workload, WorkloadKind,
};

use crate::error::DecodeError;
use crate::workload as wire;

/// Trust domain that the wire leaves out.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// Service account that the wire leaves out.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// Cluster that the wire leaves out.
const DEFAULT_CLUSTER: &str = "Kubernetes";
/// Name of the extension on workloads and services whose waypoint nobody may go around. It has no body.
pub(crate) const ENFORCED_EXTENSION: &str = "mesh.tulle/waypoint-enforced";
/// HBONE port of a gateway that names none.
const DEFAULT_HBONE_PORT: u16 = 15008;

/// One resource of the Address type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressItem {
    /// A workload.
    Workload(Workload),
    /// A service.
    Service(Service),
}

/// Decodes the value of one Address resource. Texts that repeat are shared through `texts`.
pub fn decode_address(bytes: &[u8], texts: &mut Interner) -> Result<AddressItem, DecodeError> {
    let message = wire::Address::decode(bytes).map_err(|error| DecodeError::Malformed {
        message: "istio.workload.Address",
        why: error.to_string(),
    })?;
    match message.r#type {
        Some(wire::address::Type::Workload(workload)) => {
            workload_from(workload, texts).map(AddressItem::Workload)
        }
        Some(wire::address::Type::Service(service)) => {
            service_from(service, texts).map(AddressItem::Service)
        }
        None => Err(DecodeError::field(
            "address",
            "type",
            "nothing",
            "is neither a workload nor a service",
        )),
    }
}

impl TryFrom<wire::Workload> for Workload {
    type Error = DecodeError;

    fn try_from(message: wire::Workload) -> Result<Self, DecodeError> {
        workload_from(message, &mut Interner::default())
    }
}

impl TryFrom<wire::Service> for Service {
    type Error = DecodeError;

    fn try_from(message: wire::Service) -> Result<Self, DecodeError> {
        service_from(message, &mut Interner::default())
    }
}

fn workload_from(message: wire::Workload, texts: &mut Interner) -> Result<Workload, DecodeError> {
    let object = format!("workload {}", message.uid);
    if message.uid.is_empty() {
        return Err(DecodeError::field(&object, "uid", "", "must not be empty"));
    }
    let addresses = all(message.addresses.iter(), |bytes| {
        ip(&object, "addresses", bytes)
    })?;
    let tunnel = match wire::TunnelProtocol::try_from(message.tunnel_protocol) {
        Ok(wire::TunnelProtocol::Hbone) => Tunnel::Hbone,
        // Sidecars accept plaintext where they are not strict; this proxy speaks no mTLS of theirs.
        Ok(wire::TunnelProtocol::None | wire::TunnelProtocol::LegacyIstioMtls) => Tunnel::None,
        Err(_) => {
            let value = message.tunnel_protocol;
            return Err(DecodeError::field(&object, "tunnel_protocol", value, NEWER));
        }
    };
    let host_network = match wire::NetworkMode::try_from(message.network_mode) {
        Ok(mode) => mode == wire::NetworkMode::HostNetwork,
        Err(_) => {
            let value = message.network_mode;
            return Err(DecodeError::field(&object, "network_mode", value, NEWER));
        }
    };
    let mut services = all(message.services.iter(), |(key, ports)| {
        let key = service_key(&object, key, texts)?;
        Ok((key, ports_from(&object, &ports.ports)?))
    })?;
    services.sort_by(|(a, _), (b, _)| a.cmp(b));
    let locality = message.locality.unwrap_or_default();
    Ok(Workload {
        uid: message.uid.into(),
        name: message.name.into(),
        namespace: texts.intern(&message.namespace),
        trust_domain: texts.intern(or(&message.trust_domain, DEFAULT_TRUST_DOMAIN)),
        service_account: texts.intern(or(&message.service_account, DEFAULT_SERVICE_ACCOUNT)),
        node: texts.intern(&message.node),
        network: texts.intern(&message.network),
        cluster: texts.intern(or(&message.cluster_id, DEFAULT_CLUSTER)),
        addresses,
        hostname: texts.intern(&message.hostname),
        tunnel,
        native_tunnel: message.native_tunnel,
        health: match wire::WorkloadStatus::try_from(message.status) {
            Ok(wire::WorkloadStatus::Healthy) => Health::Healthy,
            Ok(wire::WorkloadStatus::Unhealthy) | Err(_) => Health::Unhealthy,
        },
        host_network,
        canonical_name: texts.intern(&message.canonical_name),
        canonical_revision: texts.intern(&message.canonical_revision),
        workload_name: texts.intern(&message.workload_name),
        // For telemetry only, so an unknown kind does no harm.
        kind: match wire::WorkloadType::try_from(message.workload_type) {
            Ok(wire::WorkloadType::Deployment) => WorkloadKind::Deployment,
            Ok(wire::WorkloadType::Cronjob) => WorkloadKind::CronJob,
            Ok(wire::WorkloadType::Job) => WorkloadKind::Job,
            Ok(wire::WorkloadType::Pod) | Err(_) => WorkloadKind::Pod,
        },
        services: texts.memberships(&services),
        policies: message
            .authorization_policies
            .iter()
            .map(|p| texts.intern(p))
            .collect(),
        locality: Locality {
            region: texts.intern(&locality.region),
            zone: texts.intern(&locality.zone),
            subzone: texts.intern(&locality.subzone),
        },
        capacity: message.capacity.unwrap_or(1),
        waypoint: gateway(&object, "waypoint", message.waypoint, texts)?,
        waypoint_enforced: is_enforced(&message.extensions),
        network_gateway: gateway(&object, "network_gateway", message.network_gateway, texts)?,
    })
}

fn service_from(message: wire::Service, texts: &mut Interner) -> Result<Service, DecodeError> {
    let object = format!("service {}/{}", message.namespace, message.hostname);
    if message.namespace.is_empty() || message.hostname.is_empty() {
        return Err(DecodeError::field(
            &object,
            "hostname",
            "",
            "needs a namespace and a host name",
        ));
    }
    let addresses = message
        .addresses
        .into_iter()
        .map(|address| network_address(&object, address, texts))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Service {
        name: texts.intern(&message.name),
        namespace: texts.intern(&message.namespace),
        addresses,
        ports: ports_from(&object, &message.ports)?,
        subject_alt_names: message
            .subject_alt_names
            .iter()
            .map(|n| texts.intern(n))
            .collect(),
        waypoint: gateway(&object, "waypoint", message.waypoint, texts)?,
        waypoint_use: WaypointUse {
            weighted: message
                .weighted_waypoints
                .into_iter()
                .map(|weighted| weighted_waypoint(&object, weighted, texts))
                .collect::<Result<_, _>>()?,
            ingress: message.ingress_use_waypoint,
            enforced: is_enforced(&message.extensions),
        },
        load_balancing: balancing(&object, message.load_balancing)?,
        canonical: message.canonical,
        // Hints to clients: what is unknown hides nothing and forbids nothing.
        families: match wire::IpFamilies::try_from(message.ip_families) {
            Ok(wire::IpFamilies::Ipv4Only) => IpFamilies::V4,
            Ok(wire::IpFamilies::Ipv6Only) => IpFamilies::V6,
            Ok(wire::IpFamilies::Dual) => IpFamilies::Dual,
            Ok(wire::IpFamilies::Automatic) | Err(_) => IpFamilies::Automatic,
        },
        visibility: match wire::service::Visibility::try_from(message.visibility) {
            Ok(wire::service::Visibility::Public) => Visibility::Public,
            Ok(wire::service::Visibility::Namespace) => Visibility::Namespace,
            Err(_) => {
                let value = message.visibility;
                return Err(DecodeError::field(&object, "visibility", value, NEWER));
            }
        },
        hostname: message.hostname.into(),
    })
}

fn weighted_waypoint(
    object: &str,
    message: wire::WeightedWaypoint,
    texts: &mut Interner,
) -> Result<WeightedWaypoint, DecodeError> {
    let waypoint = gateway(object, "weighted_waypoints", message.destination, texts)?;
    let nowhere = || {
        DecodeError::field(
            object,
            "weighted_waypoints",
            "nothing",
            "has no destination",
        )
    };
    Ok(WeightedWaypoint {
        waypoint: *waypoint.ok_or_else(nowhere)?,
        weight: message.weight,
    })
}

/// Whether what comes around the waypoint is refused: an extension of ours, which other proxies pass over.
fn is_enforced(extensions: &[wire::Extension]) -> bool {
    extensions.iter().any(|e| e.name == ENFORCED_EXTENSION)
}

/// All of them, in exactly the memory that they need: collecting results begins with room for four, and workloads have one
/// address and one service as a rule.
fn all<T, U>(
    items: impl ExactSizeIterator<Item = T>,
    mut convert: impl FnMut(T) -> Result<U, DecodeError>,
) -> Result<Vec<U>, DecodeError> {
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.push(convert(item)?);
    }
    Ok(all)
}

/// Why an enum value is refused.
const NEWER: &str = "is unknown to this proxy; is the control plane newer?";

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn ip(object: &str, field: &'static str, bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(v6))
    } else {
        let value = format!("{} bytes", bytes.len());
        Err(DecodeError::field(
            object,
            field,
            value,
            "is no IP address (4 or 16 bytes)",
        ))
    }
}

fn service_key(object: &str, text: &str, texts: &mut Interner) -> Result<ServiceKey, DecodeError> {
    ServiceKey::shared(texts.intern(text))
        .ok_or_else(|| DecodeError::field(object, "services", text, "is not namespace/hostname"))
}

fn ports_from(object: &str, ports: &[wire::Port]) -> Result<Vec<Port>, DecodeError> {
    let number = |value: u32, field: &'static str| {
        u16::try_from(value)
            .map_err(|_| DecodeError::field(object, field, value, "is no port (0 to 65535)"))
    };
    all(ports.iter(), |port| {
        Ok(Port {
            service_port: number(port.service_port, "service_port")?,
            target_port: number(port.target_port, "target_port")?,
            // A hint, so an unknown protocol does no harm.
            protocol: match wire::AppProtocol::try_from(port.app_protocol) {
                Ok(wire::AppProtocol::Http11) => AppProtocol::Http11,
                Ok(wire::AppProtocol::Http2) => AppProtocol::Http2,
                Ok(wire::AppProtocol::Grpc) => AppProtocol::Grpc,
                Ok(wire::AppProtocol::Tcp) => AppProtocol::Tcp,
                Ok(wire::AppProtocol::Tls) => AppProtocol::Tls,
                Ok(wire::AppProtocol::Unknown) | Err(_) => AppProtocol::Unknown,
            },
        })
    })
}

fn network_address(
    object: &str,
    message: wire::NetworkAddress,
    texts: &mut Interner,
) -> Result<NetworkAddress, DecodeError> {
    let address = ip(object, "addresses", &message.address)?;
    let range = match message.length {
        None => IpNet::from(address),
        Some(length) => u8::try_from(length)
            .ok()
            .and_then(|length| IpNet::new(address, length).ok())
            .ok_or_else(|| DecodeError::field(object, "length", length, "is no prefix length"))?
            .trunc(),
    };
    let network = texts.intern(&message.network);
    Ok(NetworkAddress { network, range })
}

fn gateway(
    object: &str,
    field: &'static str,
    message: Option<wire::GatewayAddress>,
    texts: &mut Interner,
) -> Result<Option<Box<GatewayAddress>>, DecodeError> {
    use wire::gateway_address::Destination;
    let Some(message) = message else {
        return Ok(None);
    };
    let destination = match message.destination {
        Some(Destination::Hostname(name)) => {
            let text = format!("{}/{}", name.namespace, name.hostname);
            let key = ServiceKey::shared(texts.intern(&text)).ok_or_else(|| {
                DecodeError::field(object, field, &text, "needs a namespace and a host name")
            })?;
            GatewayDestination::Service(key)
        }
        Some(Destination::Address(address)) => {
            GatewayDestination::Address(network_address(object, address, texts)?)
        }
        None => {
            return Err(DecodeError::field(
                object,
                field,
                "nothing",
                "names no destination",
            ));
        }
    };
    let hbone_port = match u16::try_from(message.hbone_mtls_port) {
        Ok(0) => DEFAULT_HBONE_PORT,
        Ok(port) => port,
        Err(_) => {
            let value = message.hbone_mtls_port;
            return Err(DecodeError::field(
                object,
                "hbone_mtls_port",
                value,
                "is no port",
            ));
        }
    };
    Ok(Some(Box::new(GatewayAddress {
        destination,
        hbone_port,
    })))
}

fn balancing(
    object: &str,
    message: Option<wire::LoadBalancing>,
) -> Result<LoadBalancing, DecodeError> {
    use wire::load_balancing as lb;
    let Some(message) = message else {
        return Ok(LoadBalancing::default());
    };
    let scope = |value: &i32| match lb::Scope::try_from(*value) {
        Ok(lb::Scope::Region) => Ok(Scope::Region),
        Ok(lb::Scope::Zone) => Ok(Scope::Zone),
        Ok(lb::Scope::Subzone) => Ok(Scope::Subzone),
        Ok(lb::Scope::Node) => Ok(Scope::Node),
        Ok(lb::Scope::Cluster) => Ok(Scope::Cluster),
        Ok(lb::Scope::Network) => Ok(Scope::Network),
        Ok(lb::Scope::UnspecifiedScope) | Err(_) => Err(DecodeError::field(
            object,
            "routing_preference",
            value,
            NEWER,
        )),
    };
    Ok(LoadBalancing {
        preference: message
            .routing_preference
            .iter()
            .map(scope)
            .collect::<Result<_, _>>()?,
        mode: match lb::Mode::try_from(message.mode) {
            Ok(lb::Mode::UnspecifiedMode) => Mode::Standard,
            Ok(lb::Mode::Strict) => Mode::Strict,
            Ok(lb::Mode::Failover) => Mode::Failover,
            Ok(lb::Mode::Passthrough) => Mode::Passthrough,
            Err(_) => {
                let value = message.mode;
                return Err(DecodeError::field(
                    object,
                    "load_balancing.mode",
                    value,
                    NEWER,
                ));
            }
        },
        health: match lb::HealthPolicy::try_from(message.health_policy) {
            Ok(lb::HealthPolicy::AllowAll) => HealthPolicy::AllowAll,
            Ok(lb::HealthPolicy::OnlyHealthy) | Err(_) => HealthPolicy::OnlyHealthy,
        },
    })
}
