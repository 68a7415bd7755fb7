//! Routes, and what they leave in metrics and log.

use std::sync::Arc;
use std::time::Duration;

use tulle_http::upstream::Protocol;
use tulle_model::{AppProtocol, Service};
use tulle_proto::{HTTP_ROUTE_TYPE, STREAM_ROUTE_TYPE};
use tulle_route::resource::Fault;
use tulle_route::resource::{
    Abort, Backend, BackendTarget, Delay, Filter, Fraction, HeaderEdits, HttpRoute, Match,
    NamedMatch, ObjectKey, Parent, PathMatch, PathRewrite, Precedence, Redirect, Retry, RetryOn,
    Rewrite, Rule, RuleAction, StreamRoute, StreamRule, TextMatch, Timeouts,
};

use crate::application;
use crate::client::{ask, ask_in, count, get, talk, took};
use crate::mesh::{Mesh, Pod, service, workload};

const HTTP: &[(u16, u16, AppProtocol)] = &[(80, 8080, AppProtocol::Http11)];
const VIP: &str = "10.96.0.1:80";

/// `reviews` behind the waypoint with two versions as services of their own, and a client.
struct Reviews {
    mesh: Mesh,
    client: Pod,
    reviews: Service,
    v1: Service,
    v2: Service,
}

fn reviews() -> Reviews {
    let mut mesh = Mesh::waypoint();
    let reviews = service("reviews", "10.96.0.1", HTTP);
    let v1 = service("reviews-v1", "10.96.0.2", HTTP);
    let v2 = service("reviews-v2", "10.96.0.3", HTTP);
    for service in [&reviews, &v1, &v2] {
        mesh.control.service(service);
    }
    mesh.application("v1", &[&reviews, &v1]);
    mesh.application("v2", &[&reviews, &v2]);
    let client = mesh.pod("client");
    mesh.control.workload(&workload(&client));
    mesh.knows("shop/reviews-v2.shop.svc.cluster.local");
    mesh.knows("Pod/shop/client");
    Reviews {
        mesh,
        client,
        reviews,
        v1,
        v2,
    }
}

impl Reviews {
    fn ask(&self, request: http::request::Builder) -> crate::client::Answer {
        let request = request.body(String::new()).unwrap();
        ask(&self.mesh, &self.client, VIP, request).unwrap()
    }

    fn route(&self, rules: Vec<Rule>) {
        let route = route(&self.reviews, rules);
        let name = route.object.to_string();
        self.mesh.control.put(HTTP_ROUTE_TYPE, &name, &route);
        let generation = format!("{:?}", route.rules.len());
        self.mesh.knows(&format!("\"routes\": {generation}"));
    }
}

fn route(of: &Service, rules: Vec<Rule>) -> HttpRoute {
    HttpRoute {
        object: ObjectKey::new("HTTPRoute", "shop", "reviews"),
        parents: vec![Parent::Service {
            service: of.key(),
            port: None,
        }],
        created: 0,
        precedence: Precedence::Specific,
        rules,
    }
}

fn rule(matches: Vec<Match>, filters: Vec<Filter>, action: RuleAction) -> Rule {
    Rule {
        name: None,
        matches,
        filters,
        action,
        timeouts: Timeouts::default(),
        retry: None,
    }
}

fn path(path: &str) -> Vec<Match> {
    vec![Match {
        path: Some(PathMatch::Prefix(path.into())),
        ..Match::default()
    }]
}

fn to(services: &[(&Service, u32)]) -> RuleAction {
    let backends = services.iter().map(|(service, weight)| Backend {
        weight: *weight,
        target: BackendTarget::Service {
            service: service.key(),
            port: Some(80),
            subset: None,
        },
        filters: Vec::new(),
    });
    RuleAction::Forward(backends.collect())
}

fn always() -> Fraction {
    Fraction {
        numerator: 1,
        denominator: 1,
    }
}

#[test]
fn requests_are_split_by_weight_and_leave_istio_s_metrics_and_log() {
    let world = reviews();
    world.route(vec![rule(
        Vec::new(),
        Vec::new(),
        to(&[(&world.v1, 3), (&world.v2, 1)]),
    )]);
    let counts = count(&world.mesh, &world.client, VIP, 200);
    let (v1, v2) = (counts["v1"], counts["v2"]);
    // Binomial with 200 draws of 1/4: outside of this once in ten million.
    assert!(v1 + v2 == 200 && (20..=85).contains(&v2), "{counts:?}");

    let answer = world.ask(get("/x?y=1"));
    let first: Vec<&str> = answer.body.lines().next().unwrap().split(' ').collect();
    assert_eq!(first[1], "spiffe://cluster.local/ns/shop/sa/waypoint");
    assert!(first[2].ends_with(":8080"), "{first:?}");
    assert_eq!(answer.saw("x-istio-source"), Some("waypoint"));
    assert_eq!(answer.saw("x-request-id").map(str::len), Some(36));
    assert!(answer.header("x-envoy-upstream-service-time").is_some());

    let line = world
        .mesh
        .logged(&["\"GET /x?y=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 "]);
    for part in [
        "outbound|80||reviews-v",
        " 10.96.0.1:80 ",
        "HTTPRoute/shop/reviews",
        "\"reviews\"",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let (_, metrics) = world.mesh.page(15020, "/stats/prometheus").unwrap();
    let all = metrics
        .lines()
        .filter(|l| l.starts_with("istio_requests_total{reporter=\"waypoint\""));
    let mut total = 0.0;
    for line in all {
        for part in [
            "source_workload=\"client\"",
            "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
            "destination_service=\"reviews-v",
            "response_code=\"200\"",
            "connection_security_policy=\"mutual_tls\"",
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        total += line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    }
    assert_eq!(total, 201.0, "{metrics}");
    assert!(metrics.contains("destination_workload=\"v2\""));
    assert!(world.mesh.page(15090, "/stats/prometheus").is_some());
}

#[test]
fn without_a_route_a_service_serves_itself_and_an_endpoint_outside_is_reached_in_clear() {
    let mut mesh = Mesh::waypoint();
    let web = service("web", "10.96.0.1", HTTP);
    mesh.control.service(&web);
    let pod = mesh.pod("plain");
    application::outside(&pod.netns, 8080, "plain");
    let mut known = workload(&pod);
    known.tunnel = tulle_model::Tunnel::None;
    known.services = [(web.key(), web.ports.clone())].into();
    mesh.control.workload(&known);
    let client = mesh.pod("client");
    mesh.knows("Pod/shop/plain");
    let request = get("/").body("a body".to_owned()).unwrap();
    let answer = ask(&mesh, &client, VIP, request).unwrap();
    assert_eq!((answer.status, answer.from()), (200, "plain"));
    assert!(answer.body.ends_with("a body"), "{answer:?}");
    // HTTP/2 from the client, by host name, becomes what the port says.
    let request = get("/two").body(String::new()).unwrap();
    let by_name = "web.shop.svc.cluster.local:80";
    let answer = ask_in(&mesh, &client, by_name, Protocol::Http2, request).unwrap();
    assert_eq!((answer.status, answer.from()), (200, "plain"));

    for authority in ["10.96.0.1:81", "10.96.0.77:80", "10.96.0.200:15008"] {
        let request = get("/").body(String::new()).unwrap();
        let refused = ask(&mesh, &client, authority, request).unwrap_err();
        assert!(refused.contains("404"), "{authority}: {refused}");
    }
}

#[test]
fn matches_rewrites_redirects_and_header_edits() {
    let world = reviews();
    let header = Match {
        headers: vec![NamedMatch {
            name: "x-user".into(),
            value: TextMatch::Exact("jason".into()),
        }],
        ..Match::default()
    };
    let edits = HeaderEdits {
        set: vec![("x-set".into(), "1".into())],
        add: Vec::new(),
        remove: vec!["x-gone".into()],
    };
    let rewrite = Filter::Rewrite(Rewrite {
        host: Some("inner".into()),
        path: Some(PathRewrite::Prefix("/new".into())),
    });
    let redirect = Redirect {
        status: 302,
        scheme: None,
        host: Some("elsewhere.example".into()),
        port: None,
        path: None,
        port_of_scheme: false,
    };
    world.route(vec![
        rule(vec![header], Vec::new(), to(&[(&world.v2, 1)])),
        rule(
            path("/old"),
            vec![
                rewrite,
                Filter::RequestHeaders(edits.clone()),
                Filter::ResponseHeaders(edits),
            ],
            to(&[(&world.v1, 1)]),
        ),
        rule(path("/away"), Vec::new(), RuleAction::Redirect(redirect)),
    ]);
    assert_eq!(world.ask(get("/").header("x-user", "jason")).from(), "v2");
    let answer = world.ask(get("/old/page?q").header("x-gone", "1"));
    assert_eq!(answer.from(), "v1");
    assert!(answer.body.contains("GET /new/page?q\n"), "{answer:?}");
    assert_eq!(answer.saw("host"), Some("inner"));
    assert_eq!(
        (answer.saw("x-set"), answer.saw("x-gone")),
        (Some("1"), None)
    );
    assert_eq!(answer.header("x-set"), Some("1"));
    let answer = world.ask(get("/away"));
    assert_eq!(answer.status, 302);
    let location = answer.header("location").unwrap();
    assert!(
        location.starts_with("http://elsewhere.example"),
        "{location}"
    );
    let answer = world.ask(get("/nothing"));
    assert_eq!(answer.status, 404);
    world
        .mesh
        .logged(&["\"GET /nothing HTTP/1.1\" 404 NR route_not_found"]);
    // What has no one form never comes to a route.
    assert_eq!(world.ask(get("/%00")).status, 400);
}

#[test]
fn faults_timeouts_and_retries() {
    let world = reviews();
    let delay = Filter::Fault(Fault {
        delay: Some(Delay {
            fixed: Duration::from_millis(700),
            fraction: always(),
        }),
        abort: None,
    });
    let abort = Filter::Fault(Fault {
        delay: None,
        abort: Some(Abort {
            status: 418,
            grpc: None,
            fraction: always(),
        }),
    });
    let mut slow = rule(path("/slow"), Vec::new(), to(&[(&world.v1, 1)]));
    slow.timeouts.request = Some(Duration::from_millis(300));
    let mut again = rule(path("/again"), Vec::new(), to(&[(&world.v1, 1)]));
    again.retry = Some(Retry {
        attempts: 3,
        on: RetryOn {
            statuses: vec![503],
            ..RetryOn::default()
        },
        per_try: None,
        backoff: Some(Duration::from_millis(5)),
        avoid_tried: false,
    });
    let mut late = rule(path("/late"), Vec::new(), to(&[(&world.v1, 1)]));
    late.retry = again.retry.clone();
    late.retry.as_mut().unwrap().backoff = Some(Duration::from_secs(100_000_000));
    late.timeouts.request = Some(Duration::from_secs(3));
    world.route(vec![
        rule(path("/delay"), vec![delay], to(&[(&world.v1, 1)])),
        rule(path("/abort"), vec![abort], to(&[(&world.v1, 1)])),
        slow,
        again,
        late,
    ]);
    let (answer, time) = took(|| world.ask(get("/delay")));
    assert!(
        answer.status == 200 && time >= Duration::from_millis(700),
        "{time:?}"
    );
    world.mesh.logged(&["\"GET /delay HTTP/1.1\" 200 DI "]);
    assert_eq!(world.ask(get("/abort")).status, 418);
    world
        .mesh
        .logged(&["\"GET /abort HTTP/1.1\" 418 FI fault_filter_abort"]);
    let answer = world.ask(get("/slow").header("x-slow", "5000"));
    assert_eq!(answer.status, 504);
    world
        .mesh
        .logged(&["\"GET /slow HTTP/1.1\" 504 UT response_timeout"]);
    let failing = || get("/again").header("x-fail", "503");
    assert_eq!(world.ask(failing().header("x-times", "2")).status, 200);
    assert_eq!(world.ask(failing()).status, 503);
    world.mesh.logged(&["\"GET /again HTTP/1.1\" 503 URX "]);
    // The next attempt would begin too late: a timeout.
    let answer = world.ask(get("/late").header("x-fail", "503"));
    assert_eq!(answer.status, 504);
    world
        .mesh
        .logged(&["\"GET /late HTTP/1.1\" 504 UT response_timeout"]);
}

#[test]
fn an_endpoint_that_is_gone_is_exchanged_for_another() {
    let mut world = reviews();
    // Nobody answers there, but the mesh thinks so.
    let pod = world.mesh.pod("ghost");
    let mut ghost = workload(&pod);
    ghost.services = [(world.reviews.key(), world.reviews.ports.clone())].into();
    world.mesh.control.workload(&ghost);
    world.mesh.knows("Pod/shop/ghost");
    for _ in 0..20 {
        assert_eq!(world.ask(get("/")).status, 200);
    }
}

#[test]
fn bytes_are_passed_on_and_counted() {
    let mut mesh = Mesh::waypoint();
    let ports = [
        (90, 9000, AppProtocol::Tcp),
        (91, 9000, AppProtocol::Unknown),
    ];
    let bytes = service("bytes", "10.96.0.1", &ports);
    mesh.control.service(&bytes);
    let pod = mesh.pod("echo");
    application::echo(&pod.netns, 9000, "hello\n");
    let mut known = workload(&pod);
    known.tunnel = tulle_model::Tunnel::None;
    known.services = [(bytes.key(), bytes.ports.clone())].into();
    mesh.control.workload(&known);
    let client = mesh.pod("client");
    mesh.control.workload(&workload(&client));
    mesh.knows("Pod/shop/echo");
    mesh.knows("Pod/shop/client");
    let back = talk(&mesh, &client, "10.96.0.1:90", b"marker", 12).unwrap();
    assert_eq!(back, b"hello\nmarker");
    // The server speaks first on a port that does not say what it is.
    let back = talk(&mesh, &client, "10.96.0.1:91", b"", 6).unwrap();
    assert_eq!(back, b"hello\n");
    mesh.eventually("the metrics of the connection", || {
        let (_, metrics) = mesh.page(15020, "/metrics")?;
        let start =
            "istio_tcp_received_bytes_total{reporter=\"waypoint\",source_workload=\"client\"";
        let mut lines = metrics.lines();
        let line = lines.find(|l| l.starts_with(start) && l.contains("bytes.shop.svc"))?;
        line.ends_with(" 6").then_some(())
    });
    mesh.logged(&["outbound|90||bytes.shop.svc.cluster.local", " 6 12 "]);

    // A route that leads nowhere resets.
    let nowhere = StreamRoute {
        object: ObjectKey::new("TCPRoute", "shop", "bytes"),
        parents: vec![Parent::Service {
            service: bytes.key(),
            port: Some(90),
        }],
        created: 0,
        precedence: Precedence::Specific,
        rules: vec![StreamRule {
            name: None,
            matches: Vec::new(),
            backends: Vec::new(),
        }],
    };
    let name: Arc<str> = nowhere.object.to_string().into();
    mesh.control.put(STREAM_ROUTE_TYPE, &name, &nowhere);
    mesh.eventually("a reset", || {
        talk(&mesh, &client, "10.96.0.1:90", b"marker", 12)
            .is_err()
            .then_some(())
    });
}

#[test]
fn requests_under_way_are_finished_when_the_proxy_ends() {
    let mut world = reviews();
    let status = std::thread::scope(|scope| {
        let world = &world;
        let slow = scope.spawn(move || world.ask(get("/").header("x-slow", "1500")));
        std::thread::sleep(Duration::from_millis(700));
        world.mesh.terminate();
        slow.join().unwrap().status
    });
    assert_eq!(status, 200);
    assert!(world.mesh.ended().success());
}
