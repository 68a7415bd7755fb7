//! `/config_dump`, field by field as istioctl's `ztunnel-config` reads it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tulle_identity::{Dump, DumpedCertificate, Phase};
use tulle_model::{
    GatewayAddress, GatewayDestination, Health, HealthPolicy, IpFamilies, Mesh, Mode,
    NetworkAddress, Scope, Service, Tunnel, Visibility, WaypointUse, WeightedWaypoint, Workload,
};
use tulle_policy::{Action, Match, Policy, Scope as PolicyScope, StringMatch};
use tulle_telemetry::{Reporter, write_rfc3339};

use crate::connections::Shown;
use crate::pods::PodState;
use crate::worker::Shared;

/// Everything, sorted, so that two dumps can be compared.
pub(super) fn dump(
    shared: &Shared,
    pods: &BTreeMap<String, PodState>,
    connections: &[Shown],
) -> Value {
    let snapshot = shared.state.load();
    let mut workloads: Vec<_> = snapshot.mesh.workloads().collect();
    workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
    let mut services: Vec<_> = snapshot.mesh.services().collect();
    services.sort_by_key(|s| s.key());
    let mut policies: Vec<_> = snapshot.policies.iter().collect();
    policies.sort_by_key(|p| p.key());
    json!({
        "workloads": workloads.into_iter().map(|w| workload(w)).collect::<Vec<_>>(),
        "services": services.into_iter().map(|s| service(&snapshot.mesh, s)).collect::<Vec<_>>(),
        "policies": policies.into_iter().map(|p| policy(p)).collect::<Vec<_>>(),
        "certificates": shared.certificates.dump().iter().map(certificates).collect::<Vec<_>>(),
        "workloadState": pods.iter().map(|(uid, pod)| (uid.clone(), pod_state(uid, pod, connections))).collect::<Map<_, _>>(),
        "stagedServices": {},
        "staticConfig": {},
        "version": { "version": env!("CARGO_PKG_VERSION"), "gitRevision": "", "istioVersion": "" },
        "config": config(shared),
    })
}

fn config(shared: &Shared) -> Value {
    let options = &shared.options;
    json!({
        "xdsAddress": options.discovery.address,
        "caAddress": options.authority.address,
        "clusterId": options.cluster_id,
        "network": options.network,
        "localNode": options.node.node,
        "numWorkerThreads": options.workers,
        "inpodUds": options.agent_socket,
        "packetMark": options.mark,
        "requireOriginalSource": options.original_source,
        "selfTerminationDeadline": format!("{}s", options.drain.as_secs()),
        "windowSize": options.hbone.stream_window,
        "connectionWindowSize": options.hbone.connection_window,
        "frameSize": options.hbone.max_frame,
        "poolMaxStreamsPerConn": options.hbone.pool_max_streams,
        "poolUnusedReleaseTimeout": format!("{}s", options.hbone.pool_idle.as_secs()),
        "dnsProxy": options.dns,
        "secretTtl": format!("{}s", options.certificate_lifetime.as_secs()),
    })
}

fn workload(w: &Workload) -> Value {
    let mut value = json!({
        "uid": w.uid,
        "workloadIps": w.addresses,
        "protocol": match w.tunnel { Tunnel::Hbone => "HBONE", Tunnel::None => "TCP" },
        "name": w.name,
        "namespace": w.namespace,
        "serviceAccount": w.service_account,
        "trustDomain": w.trust_domain,
        "workloadName": w.workload_name,
        "workloadType": w.kind.as_str(),
        "canonicalName": w.canonical_name,
        "canonicalRevision": w.canonical_revision,
        "clusterId": w.cluster,
        "locality": { "region": w.locality.region, "zone": w.locality.zone, "subzone": w.locality.subzone },
        "node": w.node,
        "network": w.network,
        "networkMode": if w.host_network { "HostNetwork" } else { "Standard" },
        "nativeTunnel": w.native_tunnel,
        "status": match w.health { Health::Healthy => "Healthy", Health::Unhealthy => "Unhealthy" },
        "hostname": w.hostname,
        "capacity": w.capacity,
        "authorizationPolicies": w.policies,
        "services": w.services.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
    });
    insert_gateway(&mut value, "waypoint", w.waypoint.as_deref());
    if w.waypoint_enforced {
        value["waypointEnforced"] = json!(true);
    }
    insert_gateway(&mut value, "networkGateway", w.network_gateway.as_deref());
    value
}

fn service(mesh: &Mesh, s: &Service) -> Value {
    let key = s.key();
    let exact = |a: &&NetworkAddress| a.range.prefix_len() == a.range.max_prefix_len();
    let endpoints = mesh.endpoints(&key).map(|w| {
        let ports = w
            .services
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, ports)| ports);
        let ports: Map<String, Value> = ports
            .into_iter()
            .flatten()
            .map(|p| (p.service_port.to_string(), json!(p.target_port)))
            .collect();
        let status = match w.health {
            Health::Healthy => "Healthy",
            Health::Unhealthy => "Unhealthy",
        };
        let value = json!({ "workloadUid": w.uid, "service": "", "port": ports, "status": status });
        (w.uid.to_string(), value)
    });
    let ports = s
        .ports
        .iter()
        .map(|p| (p.service_port.to_string(), json!(p.target_port)));
    let wide = s.addresses.iter().filter(|a| !exact(a));
    let mut value = json!({
        "name": s.name,
        "namespace": s.namespace,
        "hostname": s.hostname,
        "vips": s.addresses.iter().filter(exact).map(|a| format!("{}/{}", a.network, a.range.addr())).collect::<Vec<_>>(),
        "cidrVips": wide.map(|a| format!("{}/{}", a.network, a.range)).collect::<Vec<_>>(),
        "ports": ports.collect::<Map<_, _>>(),
        "endpoints": endpoints.collect::<Map<_, _>>(),
        "subjectAltNames": s.subject_alt_names,
        "ipFamilies": match s.families {
            IpFamilies::Automatic => Value::Null,
            IpFamilies::V4 => json!("IPv4"),
            IpFamilies::V6 => json!("IPv6"),
            IpFamilies::Dual => json!("Dual"),
        },
        "canonical": s.canonical,
        "visibility": match s.visibility {
            Visibility::Public => "Public",
            Visibility::Namespace => "Namespace",
        },
    });
    let balancing = &s.load_balancing;
    if *balancing != tulle_model::LoadBalancing::default() {
        value["loadBalancer"] = json!({
            "mode": match balancing.mode {
                Mode::Standard => "Standard",
                Mode::Strict => "Strict",
                Mode::Failover => "Failover",
                Mode::Passthrough => "Passthrough",
            },
            "routingPreferences": balancing.preference.iter().map(scope).collect::<Vec<_>>(),
            "healthPolicy": match balancing.health {
                HealthPolicy::OnlyHealthy => "OnlyHealthy",
                HealthPolicy::AllowAll => "AllowAll",
            },
        });
    }
    insert_gateway(&mut value, "waypoint", s.waypoint.as_deref());
    insert_waypoint_use(&mut value, &s.waypoint_use);
    value
}

fn insert_waypoint_use(value: &mut Value, waypoints: &WaypointUse) {
    if !waypoints.weighted.is_empty() {
        let one = |w: &WeightedWaypoint| json!({ "destination": gateway(&w.waypoint), "weight": w.weight });
        value["weightedWaypoints"] = waypoints.weighted.iter().map(one).collect();
    }
    if waypoints.ingress {
        value["ingressUseWaypoint"] = json!(true);
    }
    if waypoints.enforced {
        value["waypointEnforced"] = json!(true);
    }
}

fn scope(scope: &Scope) -> &'static str {
    match scope {
        Scope::Region => "Region",
        Scope::Zone => "Zone",
        Scope::Subzone => "Subzone",
        Scope::Node => "Node",
        Scope::Cluster => "Cluster",
        Scope::Network => "Network",
    }
}

fn insert_gateway(value: &mut Value, name: &str, of: Option<&GatewayAddress>) {
    if let Some(of) = of {
        value[name] = gateway(of);
    }
}

fn gateway(gateway: &GatewayAddress) -> Value {
    let destination = match &gateway.destination {
        GatewayDestination::Service(key) => key.to_string(),
        GatewayDestination::Address(a) => format!("{}/{}", a.network, a.range.addr()),
    };
    json!({ "destination": destination, "hboneMtlsPort": gateway.hbone_port })
}

fn policy(p: &Policy) -> Value {
    let rules: Vec<Vec<Vec<Value>>> = p
        .rules
        .iter()
        .map(|rule| {
            let clauses = rule.clauses.iter();
            clauses
                .map(|clause| clause.matches.iter().map(matching).collect())
                .collect()
        })
        .collect();
    let mut value = json!({
        "name": p.name,
        "namespace": p.namespace,
        "scope": match p.scope {
            PolicyScope::Global => "Global",
            PolicyScope::Namespace => "Namespace",
            PolicyScope::Workload => "WorkloadSelector",
        },
        "action": match p.action { Action::Allow => "Allow", Action::Deny => "Deny" },
        "dryRun": p.dry_run,
        "rules": rules,
    });
    if let Some(why) = &p.unenforceable {
        value["unenforceable"] = json!(why);
    }
    value
}

fn matching(m: &Match) -> Value {
    let texts = |list: &[StringMatch]| -> Value {
        list.iter()
            .map(|text| match text {
                StringMatch::Exact(t) => json!({ "Exact": t }),
                StringMatch::Prefix(t) => json!({ "Prefix": t }),
                StringMatch::Suffix(t) => json!({ "Suffix": t }),
                StringMatch::Presence => json!({ "Presence": {} }),
            })
            .collect()
    };
    let accounts = |list: &[tulle_policy::ServiceAccountMatch]| -> Value {
        let one = |a: &tulle_policy::ServiceAccountMatch| json!({ "namespace": a.namespace, "serviceAccount": a.service_account });
        list.iter().map(one).collect()
    };
    let fields = [
        ("namespaces", texts(&m.namespaces)),
        ("notNamespaces", texts(&m.not_namespaces)),
        ("principals", texts(&m.principals)),
        ("notPrincipals", texts(&m.not_principals)),
        ("serviceAccounts", accounts(&m.service_accounts)),
        ("notServiceAccounts", accounts(&m.not_service_accounts)),
        ("sourceIps", json!(m.source_ips)),
        ("notSourceIps", json!(m.not_source_ips)),
        ("destinationIps", json!(m.destination_ips)),
        ("notDestinationIps", json!(m.not_destination_ips)),
        ("destinationPorts", json!(m.destination_ports)),
        ("notDestinationPorts", json!(m.not_destination_ports)),
    ];
    let filled = fields
        .into_iter()
        .filter(|(_, v)| v.as_array().is_some_and(|a| !a.is_empty()));
    filled
        .map(|(name, v)| (name.to_owned(), v))
        .collect::<Map<_, _>>()
        .into()
}

fn certificates(dump: &Dump) -> Value {
    json!({
        "identity": dump.identity.to_string(),
        "state": match (dump.phase, &dump.error) {
            (Phase::Available, _) => "Available".to_owned(),
            (Phase::Initializing, _) => "Initializing".to_owned(),
            (Phase::Unavailable, error) => format!("Unavailable: {}", error.as_deref().unwrap_or("")),
        },
        "certChain": dump.chain.iter().map(certificate).collect::<Vec<_>>(),
        "rootCerts": dump.roots.iter().map(certificate).collect::<Vec<_>>(),
    })
}

/// The PEM goes out once more in base64, as istioctl expects it.
fn certificate(certificate: &DumpedCertificate) -> Value {
    json!({
        "pem": base64(certificate.pem.as_bytes()),
        "serialNumber": certificate.serial,
        "validFrom": write_rfc3339(certificate.not_before),
        "expirationTime": write_rfc3339(certificate.not_after),
    })
}

fn pod_state(uid: &str, pod: &PodState, connections: &[Shown]) -> Value {
    let of = |reporter: Reporter| {
        let own = connections
            .iter()
            .filter(move |c| *c.pod == *uid && c.reporter == reporter);
        own.map(connection).collect::<Vec<_>>()
    };
    json!({
        "state": if pod.up { "Up" } else { "Pending" },
        "connections": { "inbound": of(Reporter::Destination), "outbound": of(Reporter::Source) },
        "info": {
            "name": pod.info.name,
            "namespace": pod.info.namespace,
            "trustDomain": pod.trust_domain,
            "serviceAccount": pod.info.service_account,
        },
    })
}

fn connection(c: &Shown) -> Value {
    json!({
        "src": c.source,
        "originalDst": c.original,
        "actualDst": c.actual,
        "protocol": if c.tunnel { "HBONE" } else { "TCP" },
    })
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = (at(0) << 16) | (at(1) << 8) | at(2);
        for i in 0..4 {
            let index = (group >> (18 - 6 * i)) & 63;
            text.push(if i <= chunk.len() {
                char::from(ALPHABET[index as usize])
            } else {
                '='
            });
        }
    }
    text
}
