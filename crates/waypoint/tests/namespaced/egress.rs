//! Out of the mesh: TLS that begins here, names, addresses that are not balanced, and who the client was.

use tulle_identity::gateway::{ClientCertificates, ServerTls, Settings, Version};
use tulle_model::{
    AppProtocol, GatewayAddress, GatewayDestination, LoadBalancing, Mode, NetworkAddress, Service,
    Tunnel, WeightedWaypoint,
};
use tulle_proto::{CERTIFICATE_TYPE, HTTP_ROUTE_TYPE};
use tulle_route::resource::{
    Backend, BackendTarget, BackendTls, Certificate, Gateway, HttpRoute, Listener, ObjectKey,
    Parent, Precedence, Protocol, Role, Rule, RuleAction, Timeouts, TrafficPolicy, VerifyNames,
};

use crate::application;
use crate::client::{ask, ask_gateway, get};
use crate::destinations::world;
use crate::mesh::{Mesh, Pod, service, workload};

struct Made {
    chain: String,
    key: String,
}

fn made(name: &str) -> Made {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Made {
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

fn server(own: &Made, clients: ClientCertificates) -> ServerTls {
    ServerTls::new(&Settings {
        certificates: vec![(&own.chain, &own.key)],
        clients,
        minimum: Version::V1_2,
        maximum: Version::V1_3,
        alpn: &[b"http/1.1"],
    })
    .unwrap()
}

fn tls(roots: Option<&Made>, verify: VerifyNames, certificate: Option<&str>) -> TrafficPolicy {
    TrafficPolicy {
        tls: Some(BackendTls {
            sni: None,
            roots: roots.map(|made| made.chain.as_str().into()),
            certificate: certificate.map(Into::into),
            gateway_certificate: false,
            verify,
        }),
        ..TrafficPolicy::default()
    }
}

#[test]
fn tls_begins_here_and_endpoints_are_verified() {
    let (own, other) = (made("secure.example"), made("secure.example"));
    let mut world = world(tls(Some(&own), VerifyNames::Sni, None));
    let serving = server(&own, ClientCertificates::None);
    let serve = |pod: &Pod| application::secure(&pod.netns, 8080, serving);
    world.endpoint("secure", serve, |_| {});
    // The request's host is the name that counts.
    let named = |host: &str| http::Request::builder().uri("/").header("host", host);
    let answer = world.ask(named("secure.example"));
    assert_eq!((answer.status, answer.from()), (200, "secure"));
    assert_eq!(world.ask(named("wrong.example")).status, 503);
    world.mesh.logged(&[" 503 UF", "TLS to the endpoint"]);

    world.policy(tls(Some(&other), VerifyNames::Sni, None));
    world
        .mesh
        .eventually("somebody else's roots do not do", || {
            (world.ask(named("secure.example")).status == 503).then_some(())
        });
    world.policy(tls(Some(&other), VerifyNames::Insecure, None));
    world.mesh.eventually("unverified", || {
        (world.ask(named("wrong.example")).status == 200).then_some(())
    });
}

#[test]
fn a_certificate_is_presented_to_who_asks_for_one() {
    let (own, client) = (made("secure.example"), made("client.example"));
    let policy = || tls(Some(&own), VerifyNames::Sni, Some("shop/client"));
    let mut world = world(tls(Some(&own), VerifyNames::Sni, None));
    let roots = ClientCertificates::Required(client.chain.as_str().into(), Vec::new());
    let serving = server(&own, roots);
    let serve = |pod: &Pod| application::secure(&pod.netns, 8080, serving);
    world.endpoint("secure", serve, |_| {});
    let status = || {
        let request = http::Request::builder()
            .uri("/")
            .header("host", "secure.example");
        let answer = world.ask(request);
        (answer.status, answer.body.contains("client.example"))
    };
    assert_eq!(status().0, 503);
    // What is not there cannot be presented, and nothing goes without it.
    world.policy(policy());
    world.mesh.knows("\"certificate\": \"shop/client\"");
    assert_eq!(status().0, 503);
    let certificate = Certificate {
        name: "shop/client".into(),
        chain: client.chain.as_str().into(),
        key: client.key.as_str().into(),
        roots: None,
    };
    world
        .mesh
        .control
        .put(CERTIFICATE_TYPE, "shop/client", &certificate);
    world
        .mesh
        .eventually("mutual TLS", || (status() == (200, true)).then_some(()));
}

/// A service that is not balanced, at the address of somebody outside.
fn unbalanced(pod: &Pod) -> Service {
    Service {
        addresses: vec![NetworkAddress::host("".into(), pod.ip)],
        load_balancing: LoadBalancing {
            mode: Mode::Passthrough,
            ..LoadBalancing::default()
        },
        ..service("ext", "10.96.0.1", &[(8080, 8080, AppProtocol::Http11)])
    }
}

#[test]
fn an_address_that_is_not_balanced_is_reached_as_it_was_dialled() {
    let mut mesh = Mesh::waypoint();
    let client = mesh.pod("client");
    let outside = mesh.pod("outside");
    application::outside(&outside.netns, 8080, "outside");
    mesh.control.service(&unbalanced(&outside));
    mesh.knows("shop/ext.shop.svc.cluster.local");
    let authority = format!("{}:8080", outside.ip);
    let request = || get("/").body(String::new()).unwrap();
    let answer = ask(&mesh, &client, &authority, request()).unwrap();
    assert_eq!((answer.status, answer.from()), (200, "outside"));
    // Somebody of the mesh is there: he is reached as the mesh does it.
    let member = mesh.application("member", &[]);
    mesh.control.service(&unbalanced(&member));
    mesh.knows("Pod/shop/member");
    let authority = format!("{}:8080", member.ip);
    let answer = mesh.eventually("the other address", || {
        ask(&mesh, &client, &authority, request()).ok()
    });
    assert_eq!((answer.status, answer.from()), (200, "member"));
}

#[test]
fn names_lead_to_whichever_address_answers_and_wildcards_to_the_requests_host() {
    let mut mesh = Mesh::waypoint();
    let client = mesh.pod("client");
    let named = |hostname: &str, vip: &str| Service {
        hostname: hostname.into(),
        ..service("ext", vip, &[(80, 8080, AppProtocol::Http11)])
    };
    for (service, name) in [
        (named("ext.example", "10.96.0.1"), "localhost"),
        (named("*.wild.example", "10.96.0.2"), "*.wild.example"),
    ] {
        mesh.control.service(&service);
        let mut known = workload(&client);
        known.uid = format!("Kubernetes/ServiceEntry/{name}").into();
        known.addresses = Vec::new();
        known.hostname = name.into();
        known.tunnel = Tunnel::None;
        known.services = [(service.key(), service.ports.clone())].into();
        mesh.control.workload(&known);
        mesh.knows(&format!("ServiceEntry/{name}"));
    }
    // Nobody listens on the name's IPv6 address.
    application::outside(&mesh.waypoint.netns, 8080, "local");
    let of = |vip: &str, host: &str| {
        let request = http::Request::builder().uri("/").header("host", host);
        ask(&mesh, &client, vip, request.body(String::new()).unwrap()).unwrap()
    };
    for _ in 0..6 {
        let answer = of("10.96.0.1:80", "ext.example");
        assert_eq!((answer.status, answer.from()), (200, "local"));
    }
    assert_eq!(of("10.96.0.2:80", "localhost").status, 404);
    mesh.logged(&["404 NR route_not_found", "\"localhost\""]);
    // Covered, and looked up: there is no such name.
    assert_eq!(of("10.96.0.2:80", "a.wild.example").status, 503);
}

#[test]
fn applications_are_told_who_the_client_is_where_the_owner_wants_it() {
    for told in [false, true] {
        let mut mesh = Mesh::start(&Gateway {
            namespace: "shop".into(),
            name: "waypoint".into(),
            role: Role::Waypoint {
                services: true,
                workloads: false,
            },
            listeners: Vec::new(),
            backend_certificate: None,
            client_identity: told,
        });
        let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
        mesh.control.service(&web);
        mesh.application("web", &[&web]);
        let client = mesh.pod("client");
        mesh.knows("Pod/shop/web");
        let forged = get("/").header("x-forwarded-client-cert", "URI=spiffe://forged");
        let request = forged.body(String::new()).unwrap();
        let answer = ask(&mesh, &client, "10.96.0.1:80", request).unwrap();
        let expected = "By=spiffe://cluster.local/ns/shop/sa/waypoint;\
                        URI=spiffe://cluster.local/ns/shop/sa/client";
        let saw = answer.saw("x-forwarded-client-cert");
        assert_eq!(saw, told.then_some(expected), "{answer:?}");
    }
}

#[test]
fn a_gateway_splits_between_the_two_waypoints_of_a_service() {
    let listener = Listener {
        name: "http".into(),
        port: 8000,
        service_port: 80,
        hostname: None,
        protocol: Protocol::Http,
    };
    let mut mesh = Mesh::start(&Gateway {
        namespace: "shop".into(),
        name: "waypoint".into(),
        role: Role::Gateway,
        listeners: vec![listener],
        backend_certificate: None,
        client_identity: false,
    });
    let waypoint = |name: &str, vip: &str| Service {
        waypoint: None,
        ..service(name, vip, &[(15008, 15008, AppProtocol::Unknown)])
    };
    let (first, canary) = (
        waypoint("first", "10.96.0.8"),
        waypoint("canary", "10.96.0.9"),
    );
    let mut web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    let address = |service: &Service| GatewayAddress {
        destination: GatewayDestination::Service(service.key()),
        hbone_port: 15008,
    };
    let share = |service: &Service, weight| WeightedWaypoint {
        waypoint: address(service),
        weight,
    };
    web.waypoint = Some(Box::new(address(&first)));
    web.waypoint_use.ingress = true;
    web.waypoint_use.weighted = vec![share(&first, 20), share(&canary, 80)];
    for service in [&first, &canary, &web] {
        mesh.control.service(service);
    }
    mesh.application("first", &[&first]);
    mesh.application("canary", &[&canary]);
    let route = HttpRoute {
        object: ObjectKey::new("HTTPRoute", "shop", "web"),
        parents: vec![Parent::Listener {
            gateway: "shop/waypoint".into(),
            listener: "http".into(),
            hostnames: Vec::new(),
        }],
        created: 0,
        precedence: Precedence::Specific,
        rules: vec![Rule {
            name: None,
            matches: Vec::new(),
            filters: Vec::new(),
            action: RuleAction::Forward(vec![Backend {
                weight: 1,
                target: BackendTarget::Service {
                    service: web.key(),
                    port: Some(80),
                    subset: None,
                },
                filters: Vec::new(),
            }]),
            timeouts: Timeouts::default(),
            retry: None,
        }],
    };
    let outside = mesh.pod("outside");
    mesh.control
        .put(HTTP_ROUTE_TYPE, &route.object.to_string(), &route);
    mesh.knows("\"routes\": 1");
    mesh.knows("Pod/shop/canary");
    let to = std::net::SocketAddr::new(mesh.waypoint.ip, 8000);
    let shares = || {
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..60 {
            let request = get("/").body(String::new()).unwrap();
            let answer = ask_gateway(&outside, to, None, request).unwrap();
            // What is asked of the waypoint is the service's address.
            assert!(answer.body.contains(" 10.96.0.1:80\n"), "{answer:?}");
            *counts.entry(answer.from().to_owned()).or_default() += 1;
        }
        counts
    };
    let counts = shares();
    // Binomial with 60 draws of 4/5: outside of this once in millions.
    assert!((33..60).contains(&counts["canary"]), "{counts:?}");
    web.waypoint_use.weighted = vec![share(&first, 100), share(&canary, 0)];
    mesh.control.service(&web);
    mesh.eventually("nothing to the canary", || {
        (!shares().contains_key("canary")).then_some(())
    });
}
