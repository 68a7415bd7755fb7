//! The model to the wire.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use prost::Message;
use tulle_model::{
    AppProtocol, GatewayAddress, GatewayDestination, Health, HealthPolicy, IpFamilies,
    LoadBalancing, Locality, Mode, NetworkAddress, Port, Scope, Service, Tunnel, Visibility,
    Workload, WorkloadKind,
};
use tulle_policy as policy;

use crate::security;
use crate::workload as wire;

/// A workload as the value of an Address resource. Equal workloads give equal bytes.
pub fn encode_workload(workload: &Workload) -> Bytes {
    wire::Address::from(workload).encode_to_vec().into()
}

/// A service as the value of an Address resource. Equal services give equal bytes.
pub fn encode_service(service: &Service) -> Bytes {
    wire::Address::from(service).encode_to_vec().into()
}

/// A policy as the value of an Authorization resource. An unenforceable policy is sent as what it does: nothing that
/// an ALLOW policy matches, everything that a DENY policy matches.
pub fn encode_policy(policy: &policy::Policy) -> Bytes {
    security::Authorization::from(policy).encode_to_vec().into()
}

impl From<&Workload> for wire::Address {
    fn from(workload: &Workload) -> Self {
        Self {
            r#type: Some(wire::address::Type::Workload(workload.into())),
        }
    }
}

impl From<&Service> for wire::Address {
    fn from(service: &Service) -> Self {
        Self {
            r#type: Some(wire::address::Type::Service(service.into())),
        }
    }
}

impl From<&Workload> for wire::Workload {
    fn from(w: &Workload) -> Self {
        let trust_domain = if &*w.trust_domain == "cluster.local" {
            ""
        } else {
            &w.trust_domain
        };
        Self {
            uid: w.uid.to_string(),
            name: w.name.to_string(),
            namespace: w.namespace.to_string(),
            addresses: w.addresses.iter().map(octets).collect(),
            network: w.network.to_string(),
            tunnel_protocol: match w.tunnel {
                Tunnel::None => wire::TunnelProtocol::None,
                Tunnel::Hbone => wire::TunnelProtocol::Hbone,
            }
            .into(),
            trust_domain: trust_domain.to_string(),
            service_account: w.service_account.to_string(),
            waypoint: w.waypoint.as_deref().map(Into::into),
            node: w.node.to_string(),
            canonical_name: w.canonical_name.to_string(),
            canonical_revision: w.canonical_revision.to_string(),
            workload_type: match w.kind {
                WorkloadKind::Deployment => wire::WorkloadType::Deployment,
                WorkloadKind::CronJob => wire::WorkloadType::Cronjob,
                WorkloadKind::Pod => wire::WorkloadType::Pod,
                WorkloadKind::Job => wire::WorkloadType::Job,
            }
            .into(),
            workload_name: w.workload_name.to_string(),
            native_tunnel: w.native_tunnel,
            authorization_policies: strings(&w.policies),
            status: match w.health {
                Health::Healthy => wire::WorkloadStatus::Healthy,
                Health::Unhealthy => wire::WorkloadStatus::Unhealthy,
            }
            .into(),
            cluster_id: w.cluster.to_string(),
            network_gateway: w.network_gateway.as_deref().map(Into::into),
            hostname: w.hostname.to_string(),
            services: w
                .services
                .iter()
                .map(|(key, ports)| {
                    let ports = ports.iter().map(Into::into).collect();
                    (key.as_str().to_owned(), wire::PortList { ports })
                })
                .collect(),
            application_tunnel: None,
            locality: (w.locality != Locality::default()).then(|| wire::Locality {
                region: w.locality.region.to_string(),
                zone: w.locality.zone.to_string(),
                subzone: w.locality.subzone.to_string(),
            }),
            network_mode: if w.host_network {
                wire::NetworkMode::HostNetwork
            } else {
                wire::NetworkMode::Standard
            }
            .into(),
            extensions: enforced(w.waypoint_enforced),
            capacity: (w.capacity != 1).then_some(w.capacity),
        }
    }
}

impl From<&Service> for wire::Service {
    fn from(s: &Service) -> Self {
        Self {
            name: s.name.to_string(),
            namespace: s.namespace.to_string(),
            hostname: s.hostname.to_string(),
            addresses: s.addresses.iter().map(Into::into).collect(),
            ports: s.ports.iter().map(Into::into).collect(),
            subject_alt_names: strings(&s.subject_alt_names),
            waypoint: s.waypoint.as_deref().map(Into::into),
            load_balancing: (s.load_balancing != LoadBalancing::default())
                .then(|| (&s.load_balancing).into()),
            ip_families: match s.families {
                IpFamilies::Automatic => wire::IpFamilies::Automatic,
                IpFamilies::V4 => wire::IpFamilies::Ipv4Only,
                IpFamilies::V6 => wire::IpFamilies::Ipv6Only,
                IpFamilies::Dual => wire::IpFamilies::Dual,
            }
            .into(),
            extensions: enforced(s.waypoint_use.enforced),
            canonical: s.canonical,
            ingress_use_waypoint: s.waypoint_use.ingress,
            weighted_waypoints: s
                .waypoint_use
                .weighted
                .iter()
                .map(|weighted| wire::WeightedWaypoint {
                    destination: Some((&weighted.waypoint).into()),
                    weight: weighted.weight,
                })
                .collect(),
            visibility: match s.visibility {
                Visibility::Public => wire::service::Visibility::Public,
                Visibility::Namespace => wire::service::Visibility::Namespace,
            }
            .into(),
        }
    }
}

fn enforced(is: bool) -> Vec<wire::Extension> {
    let extension = wire::Extension {
        name: crate::address::ENFORCED_EXTENSION.to_owned(),
        config: None,
    };
    is.then_some(extension).into_iter().collect()
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn strings(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

impl From<&Port> for wire::Port {
    fn from(port: &Port) -> Self {
        Self {
            service_port: port.service_port.into(),
            target_port: port.target_port.into(),
            app_protocol: match port.protocol {
                AppProtocol::Unknown => wire::AppProtocol::Unknown,
                AppProtocol::Http11 => wire::AppProtocol::Http11,
                AppProtocol::Http2 => wire::AppProtocol::Http2,
                AppProtocol::Grpc => wire::AppProtocol::Grpc,
                AppProtocol::Tcp => wire::AppProtocol::Tcp,
                AppProtocol::Tls => wire::AppProtocol::Tls,
            }
            .into(),
        }
    }
}

impl From<&NetworkAddress> for wire::NetworkAddress {
    fn from(address: &NetworkAddress) -> Self {
        let host = address.range.prefix_len() == address.range.max_prefix_len();
        Self {
            network: address.network.to_string(),
            address: octets(&address.range.addr()),
            length: (!host).then(|| address.range.prefix_len().into()),
        }
    }
}

impl From<&GatewayAddress> for wire::GatewayAddress {
    fn from(gateway: &GatewayAddress) -> Self {
        use wire::gateway_address::Destination;
        let destination = match &gateway.destination {
            GatewayDestination::Service(key) => Destination::Hostname(wire::NamespacedHostname {
                namespace: key.namespace().to_owned(),
                hostname: key.hostname().to_owned(),
            }),
            GatewayDestination::Address(address) => Destination::Address(address.into()),
        };
        let hbone_mtls_port = gateway.hbone_port.into();
        Self {
            destination: Some(destination),
            hbone_mtls_port,
        }
    }
}

impl From<&LoadBalancing> for wire::LoadBalancing {
    fn from(balancing: &LoadBalancing) -> Self {
        use wire::load_balancing as lb;
        let scope = |scope: &Scope| {
            i32::from(match scope {
                Scope::Region => lb::Scope::Region,
                Scope::Zone => lb::Scope::Zone,
                Scope::Subzone => lb::Scope::Subzone,
                Scope::Node => lb::Scope::Node,
                Scope::Cluster => lb::Scope::Cluster,
                Scope::Network => lb::Scope::Network,
            })
        };
        Self {
            routing_preference: balancing.preference.iter().map(scope).collect(),
            mode: match balancing.mode {
                Mode::Standard => lb::Mode::UnspecifiedMode,
                Mode::Strict => lb::Mode::Strict,
                Mode::Failover => lb::Mode::Failover,
                Mode::Passthrough => lb::Mode::Passthrough,
            }
            .into(),
            health_policy: match balancing.health {
                HealthPolicy::OnlyHealthy => lb::HealthPolicy::OnlyHealthy,
                HealthPolicy::AllowAll => lb::HealthPolicy::AllowAll,
            }
            .into(),
        }
    }
}

impl From<&policy::Policy> for security::Authorization {
    fn from(p: &policy::Policy) -> Self {
        let rules = match (&p.unenforceable, p.action) {
            (None, _) => p.rules.iter().map(Into::into).collect(),
            (Some(_), policy::Action::Allow) => Vec::new(),
            (Some(_), policy::Action::Deny) => vec![security::Rule::default()],
        };
        Self {
            name: p.name.to_string(),
            namespace: p.namespace.to_string(),
            scope: match p.scope {
                policy::Scope::Global => security::Scope::Global,
                policy::Scope::Namespace => security::Scope::Namespace,
                policy::Scope::Workload => security::Scope::WorkloadSelector,
            }
            .into(),
            action: match p.action {
                policy::Action::Allow => security::Action::Allow,
                policy::Action::Deny => security::Action::Deny,
            }
            .into(),
            rules,
            dry_run: p.dry_run,
            extensions: Vec::new(),
        }
    }
}

impl From<&policy::Rule> for security::Rule {
    fn from(rule: &policy::Rule) -> Self {
        let clause = |clause: &policy::Clause| security::Clause {
            matches: clause.matches.iter().map(Into::into).collect(),
        };
        Self {
            clauses: rule.clauses.iter().map(clause).collect(),
        }
    }
}

impl From<&policy::Match> for security::Match {
    fn from(m: &policy::Match) -> Self {
        let texts = |texts: &[policy::StringMatch]| texts.iter().map(Into::into).collect();
        let nets = |nets: &[IpNet]| nets.iter().map(Into::into).collect();
        let ports = |ports: &[u16]| ports.iter().copied().map(u32::from).collect();
        let accounts = |accounts: &[policy::ServiceAccountMatch]| {
            accounts
                .iter()
                .map(|account| security::ServiceAccountMatch {
                    namespace: account.namespace.to_string(),
                    service_account: account.service_account.to_string(),
                })
                .collect()
        };
        Self {
            namespaces: texts(&m.namespaces),
            not_namespaces: texts(&m.not_namespaces),
            principals: texts(&m.principals),
            not_principals: texts(&m.not_principals),
            source_ips: nets(&m.source_ips),
            not_source_ips: nets(&m.not_source_ips),
            destination_ips: nets(&m.destination_ips),
            not_destination_ips: nets(&m.not_destination_ips),
            destination_ports: ports(&m.destination_ports),
            not_destination_ports: ports(&m.not_destination_ports),
            service_accounts: accounts(&m.service_accounts),
            not_service_accounts: accounts(&m.not_service_accounts),
            extensions: Vec::new(),
        }
    }
}

impl From<&policy::StringMatch> for security::StringMatch {
    fn from(text: &policy::StringMatch) -> Self {
        use security::string_match::MatchType;
        let match_type = match text {
            policy::StringMatch::Exact(exact) => MatchType::Exact(exact.to_string()),
            policy::StringMatch::Prefix(prefix) => MatchType::Prefix(prefix.to_string()),
            policy::StringMatch::Suffix(suffix) => MatchType::Suffix(suffix.to_string()),
            policy::StringMatch::Presence => MatchType::Presence(()),
        };
        Self {
            match_type: Some(match_type),
        }
    }
}

impl From<&IpNet> for security::Address {
    fn from(net: &IpNet) -> Self {
        Self {
            address: octets(&net.addr()),
            length: net.prefix_len().into(),
        }
    }
}
