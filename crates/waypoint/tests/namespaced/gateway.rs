//! The same program as an ingress gateway.

use std::net::SocketAddr;

use tulle_identity::backend::{self, ClientTls};
use tulle_model::AppProtocol;
use tulle_proto::{CERTIFICATE_TYPE, HTTP_ROUTE_TYPE};
use tulle_route::resource::{
    Backend, BackendTarget, Certificate, ClientValidation, Gateway, HostPattern, HttpRoute,
    Listener, ObjectKey, Parent, Precedence, Protocol, Role, Rule, RuleAction, Termination,
    Timeouts, TlsVersion,
};

use crate::client::{ask_gateway, get};
use crate::mesh::{Mesh, service};

#[test]
fn a_host_is_served_on_its_listener_and_no_other() {
    let listener = Listener {
        name: "http".into(),
        port: 8000,
        service_port: 80,
        hostname: Some(HostPattern("*.example".into())),
        protocol: Protocol::Http,
    };
    let gateway = Gateway {
        namespace: "shop".into(),
        name: "waypoint".into(),
        role: Role::Gateway,
        listeners: vec![listener],
        backend_certificate: None,
        client_identity: false,
    };
    let mut mesh = Mesh::start(&gateway);
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    mesh.application("web", &[&web]);
    let outside = mesh.pod("outside");
    let route = route(&web, "http", "shop.example");
    let name = route.object.to_string();
    mesh.control.put(HTTP_ROUTE_TYPE, &name, &route);
    mesh.knows("Pod/shop/web");
    mesh.knows("\"routes\": 1");
    let to = SocketAddr::new(mesh.waypoint.ip, 8000);
    let ask = |host: &str| {
        let mut request = get("/").body(String::new()).unwrap();
        request.headers_mut().insert("host", host.parse().unwrap());
        ask_gateway(&outside, to, None, request).unwrap()
    };
    let answer = ask("shop.example");
    assert_eq!((answer.status, answer.from()), (200, "web"));
    assert_eq!(
        answer.saw("x-forwarded-for"),
        Some(outside.ip.to_string().as_str())
    );
    assert_eq!(answer.header("server"), Some("istio-envoy"));
    assert_eq!(ask("other.example").status, 404);
    assert_eq!(ask("shop.test").status, 404);
    let (_, metrics) = mesh.page(15020, "/metrics").unwrap();
    let counted = metrics.lines().any(|l| {
        l.starts_with("istio_requests_total{reporter=\"source\",source_workload=\"waypoint\"")
            && l.contains("destination_workload=\"web\"")
            && l.contains("response_code=\"200\"")
    });
    assert!(counted, "{metrics}");
}

/// Everything of a host, to `web`.
pub(crate) fn route(web: &tulle_model::Service, listener: &str, host: &str) -> HttpRoute {
    HttpRoute {
        object: ObjectKey::new("HTTPRoute", "shop", "web"),
        parents: vec![Parent::Listener {
            gateway: "shop/waypoint".into(),
            listener: listener.into(),
            hostnames: vec![HostPattern(host.into())],
        }],
        created: 0,
        precedence: Precedence::Specific,
        rules: vec![Rule {
            name: Some("main".into()),
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
    }
}

#[test]
fn tls_ends_at_the_listener_that_the_server_name_chooses() {
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (shop, other) = (made("shop.example"), made("other.example"));
    let listener = |name: &str, host: &str| Listener {
        name: name.into(),
        port: 8443,
        service_port: 443,
        hostname: Some(HostPattern(host.into())),
        protocol: Protocol::Https(Termination {
            certificates: vec![format!("shop/{name}").into()],
            client: ClientValidation::None,
            minimum: TlsVersion::V1_2,
            maximum: TlsVersion::V1_3,
        }),
    };
    let gateway = Gateway {
        namespace: "shop".into(),
        name: "waypoint".into(),
        role: Role::Gateway,
        listeners: vec![
            listener("shop", "shop.example"),
            listener("other", "other.example"),
        ],
        backend_certificate: None,
        client_identity: false,
    };
    let mut mesh = Mesh::start(&gateway);
    for (name, certificate) in [("shop/shop", &shop), ("shop/other", &other)] {
        let resource = Certificate {
            name: name.into(),
            chain: certificate.cert.pem().into(),
            key: certificate.signing_key.serialize_pem().into(),
            roots: None,
        };
        mesh.control.put(CERTIFICATE_TYPE, name, &resource);
    }
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    mesh.application("web", &[&web]);
    let outside = mesh.pod("outside");
    let route = route(&web, "shop", "shop.example");
    mesh.control
        .put(HTTP_ROUTE_TYPE, &route.object.to_string(), &route);
    mesh.knows("Pod/shop/web");
    mesh.knows("\"routes\": 1");
    mesh.knows("shop/other\"");
    let to = SocketAddr::new(mesh.waypoint.ip, 8443);
    let ask = |root: &str, name: &str, host: &str| {
        let tls = ClientTls::new(&backend::Settings {
            roots: Some(root),
            certificate: None,
            expected: backend::Expected::ServerName,
            alpn: &[b"http/1.1"],
        });
        let mut request = get("/").body(String::new()).unwrap();
        request.headers_mut().insert("host", host.parse().unwrap());
        ask_gateway(&outside, to, Some((&tls.unwrap(), name)), request)
    };
    let answer = ask(&shop.cert.pem(), "shop.example", "shop.example").unwrap();
    assert_eq!((answer.status, answer.from()), (200, "web"));
    assert_eq!(answer.saw("x-forwarded-proto"), Some("https"));
    // The other listener's certificate serves the other name; nothing is routed there.
    let answer = ask(&other.cert.pem(), "other.example", "other.example").unwrap();
    assert_eq!(answer.status, 404);
    // A request for a host whose listener is another one.
    let answer = ask(&other.cert.pem(), "other.example", "shop.example").unwrap();
    assert_eq!(answer.status, 421);
    // A name that no listener has.
    assert!(ask(&shop.cert.pem(), "nobody.example", "nobody.example").is_err());
}
