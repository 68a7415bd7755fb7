//! What the proxies are told: services with one endpoint, and routes to them.

use std::net::{IpAddr, Ipv4Addr};

use tulle_model::{
    AppProtocol, GatewayAddress, GatewayDestination, Health, Identity, LoadBalancing, Locality,
    NetworkAddress, Port, Service, ServiceKey, Tunnel, Workload, WorkloadKind,
};
use tulle_route::resource::{
    Backend, BackendTarget, Gateway, HostPattern, HttpRoute, Listener, Match, ObjectKey, Parent,
    PathMatch, Precedence, Protocol, Role, Rule, RuleAction, Timeouts,
};

/// Namespace and name of our proxies' Gateway.
pub(super) const GATEWAY: &str = "bench/proxy";
/// Where a gateway listens.
pub(super) const PORT_GATEWAY: u16 = 8000;
/// Where the application answers in clear.
pub(super) const PORT_APPLICATION: u16 = 8080;
/// Routes of one service in a large mesh.
pub(super) const ROUTES_PER_SERVICE: usize = 10;

/// What a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP in, HTTP out.
    Gateway,
    /// HBONE in, HBONE out.
    Waypoint,
}

/// What it is told.
pub(super) struct Mesh {
    pub(super) gateway: Gateway,
    pub(super) services: Vec<Service>,
    pub(super) workloads: Vec<Workload>,
    pub(super) routes: Vec<HttpRoute>,
}

/// The name that route `n` matches.
pub(super) fn host(n: usize) -> String {
    format!("r{n}.bench.example")
}

/// What a client in a tunnel asks for.
pub(super) fn authority() -> String {
    format!("{}:80", virtual_ip(0))
}

pub(super) fn identity(name: &str) -> Identity {
    Identity::new("cluster.local", "bench", name)
}

impl Mesh {
    /// With so many routes; the application is at `application`, the proxy and its client are where they say.
    pub(super) fn new(
        kind: Kind,
        routes: usize,
        proxy: IpAddr,
        client: IpAddr,
        application: IpAddr,
    ) -> Self {
        let backends: Vec<Service> = (0..routes.div_ceil(ROUTES_PER_SERVICE))
            .map(|n| service(kind, &format!("s{n}"), virtual_ip(n)))
            .collect();
        let of = |services: &[Service]| -> Vec<_> {
            let all = services.iter();
            all.map(|s| (s.key(), s.ports.clone())).collect()
        };
        let mut own = service(kind, "proxy", Ipv4Addr::new(10, 96, 0, 1).into());
        own.waypoint = None;
        let mut me = workload("proxy", proxy, Tunnel::Hbone);
        me.services = of(std::slice::from_ref(&own)).into();
        let tunnel = match kind {
            Kind::Gateway => Tunnel::None,
            Kind::Waypoint => Tunnel::Hbone,
        };
        let mut server = workload("server", application, tunnel);
        server.services = of(&backends).into();
        let routes = (0..routes).filter_map(|n| {
            let service = backends.get(n / ROUTES_PER_SERVICE)?;
            Some(route(kind, n, service))
        });
        Self {
            gateway: gateway(kind),
            routes: routes.collect(),
            workloads: vec![me, server, workload("client", client, Tunnel::Hbone)],
            services: backends.into_iter().chain([own]).collect(),
        }
    }
}

fn virtual_ip(n: usize) -> IpAddr {
    let [.., high, low] = n.to_be_bytes();
    Ipv4Addr::new(10, 97, high, low).into()
}

fn gateway(kind: Kind) -> Gateway {
    Gateway {
        namespace: "bench".into(),
        name: "proxy".into(),
        role: match kind {
            Kind::Gateway => Role::Gateway,
            Kind::Waypoint => Role::Waypoint {
                services: true,
                workloads: false,
            },
        },
        listeners: match kind {
            Kind::Waypoint => Vec::new(),
            Kind::Gateway => vec![Listener {
                name: "http".into(),
                port: PORT_GATEWAY,
                service_port: 80,
                hostname: None,
                protocol: Protocol::Http,
            }],
        },
        backend_certificate: None,
        client_identity: Default::default(),
    }
}

fn service(kind: Kind, name: &str, ip: IpAddr) -> Service {
    let waypoint = GatewayAddress {
        destination: GatewayDestination::Service(ServiceKey::new(
            "bench",
            "proxy.bench.svc.cluster.local",
        )),
        hbone_port: 15008,
    };
    Service {
        name: name.into(),
        namespace: "bench".into(),
        hostname: format!("{name}.bench.svc.cluster.local").into(),
        addresses: vec![NetworkAddress::host("".into(), ip)],
        ports: vec![Port {
            service_port: 80,
            target_port: PORT_APPLICATION,
            protocol: AppProtocol::Http11,
        }],
        subject_alt_names: Vec::new(),
        waypoint: (kind == Kind::Waypoint).then(|| Box::new(waypoint)),
        waypoint_use: Default::default(),
        load_balancing: LoadBalancing::default(),
        canonical: true,
        families: Default::default(),
        visibility: Default::default(),
    }
}

fn workload(name: &str, ip: IpAddr, tunnel: Tunnel) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/bench/{name}").into(),
        name: name.into(),
        namespace: "bench".into(),
        trust_domain: "cluster.local".into(),
        service_account: name.into(),
        node: "node".into(),
        network: "".into(),
        cluster: "Kubernetes".into(),
        addresses: vec![ip],
        hostname: "".into(),
        tunnel,
        native_tunnel: false,
        health: Health::Healthy,
        host_network: false,
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        workload_name: name.into(),
        kind: WorkloadKind::Deployment,
        services: [].into(),
        policies: Vec::new(),
        locality: Locality::default(),
        capacity: 1,
        waypoint: None,
        waypoint_enforced: false,
        network_gateway: None,
    }
}

/// Route `n`: its host, any path, to the service.
fn route(kind: Kind, n: usize, service: &Service) -> HttpRoute {
    let parent = match kind {
        Kind::Gateway => Parent::Listener {
            gateway: GATEWAY.into(),
            listener: "http".into(),
            hostnames: vec![HostPattern(host(n).into())],
        },
        Kind::Waypoint => Parent::Service {
            service: service.key(),
            port: None,
        },
    };
    HttpRoute {
        object: ObjectKey::new("HTTPRoute", "bench", &format!("r{n}")),
        parents: vec![parent],
        created: 0,
        precedence: Precedence::Specific,
        rules: vec![Rule {
            name: None,
            matches: vec![Match {
                path: Some(PathMatch::Prefix("/".into())),
                ..Match::default()
            }],
            filters: Vec::new(),
            action: RuleAction::Forward(vec![Backend {
                weight: 1,
                target: BackendTarget::Service {
                    service: service.key(),
                    port: Some(80),
                    subset: None,
                },
                filters: Vec::new(),
            }]),
            timeouts: Timeouts::default(),
            retry: None,
        }],
    }
}
