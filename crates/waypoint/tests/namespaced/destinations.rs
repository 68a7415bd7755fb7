//! How services are used: limits, failures, choice of endpoints.

use std::collections::BTreeMap;
use std::time::Duration;

use tulle_model::{AppProtocol, Locality, Service, Tunnel, Workload};
use tulle_proto::DESTINATION_TYPE;
use tulle_route::resource::{
    Balancing, CircuitBreaker, ConsistentHash, DestinationPolicy, HashKey, HttpSettings,
    LocalityBalancing, OutlierDetection, TrafficPolicy,
};

use crate::application;
use crate::client::{Answer, ask, ask_all, count, get};
use crate::mesh::{Mesh, Pod, service, workload};

const VIP: &str = "10.96.0.1:80";

/// A service behind the waypoint whose endpoints are outside of the mesh, and a client.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    pub(crate) client: Pod,
    pub(crate) web: Service,
}

pub(crate) fn world(policy: TrafficPolicy) -> World {
    let mut mesh = Mesh::waypoint();
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    let client = mesh.pod("client");
    mesh.control.workload(&workload(&client));
    let world = World { mesh, client, web };
    world.policy(policy);
    world
}

impl World {
    pub(crate) fn policy(&self, policy: TrafficPolicy) {
        let found = DestinationPolicy {
            service: self.web.key(),
            client: "shop".into(),
            policy,
            ports: Vec::new(),
            subsets: Vec::new(),
        };
        self.mesh
            .control
            .put(DESTINATION_TYPE, &found.name(), &found);
        self.mesh.knows("\"client\": \"shop\"");
    }

    /// An endpoint that somebody serves on port 8080 of its pod.
    pub(crate) fn endpoint(
        &mut self,
        name: &str,
        serve: impl FnOnce(&Pod),
        edit: impl FnOnce(&mut Workload),
    ) {
        let pod = self.mesh.pod(name);
        serve(&pod);
        let mut known = workload(&pod);
        known.tunnel = Tunnel::None;
        known.services = [(self.web.key(), self.web.ports.clone())].into();
        edit(&mut known);
        self.mesh.control.workload(&known);
        self.mesh.knows(&format!("Pod/shop/{name}"));
    }

    fn plain(&mut self, name: &str) {
        self.endpoint(
            name,
            |pod| application::outside(&pod.netns, 8080, name),
            |_| {},
        );
    }

    pub(crate) fn ask(&self, request: http::request::Builder) -> Answer {
        let request = request.body(String::new()).unwrap();
        ask(&self.mesh, &self.client, VIP, request).unwrap()
    }

    /// So many slow requests at once.
    fn at_once(&self, requests: usize) -> Vec<Answer> {
        std::thread::scope(|scope| {
            let asking = (0..requests)
                .map(|_| scope.spawn(|| self.ask(get("/slow").header("x-slow", "1500"))));
            let asking: Vec<_> = asking.collect();
            asking.into_iter().map(|a| a.join().unwrap()).collect()
        })
    }
}

fn refused(answers: &[Answer]) -> usize {
    let (good, bad): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|a| a.status == 200);
    for answer in &bad {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
        assert!(
            answer.body.ends_with("reset reason: overflow"),
            "{answer:?}"
        );
    }
    assert!(!good.is_empty(), "all are refused");
    bad.len()
}

#[test]
fn beyond_the_limits_requests_are_refused_and_metric_and_log_say_so() {
    let mut world = world(TrafficPolicy {
        breaker: Some(CircuitBreaker {
            max_connections: Some(1),
            max_pending_requests: Some(1),
            ..CircuitBreaker::default()
        }),
        ..TrafficPolicy::default()
    });
    world.plain("only");
    // Each of the two workers may have a connection; one request waits.
    let answers = world.at_once(8);
    assert!((4..8).contains(&refused(&answers)), "{answers:?}");
    world
        .mesh
        .logged(&["503 UO upstream_reset_before_response_started{overflow}"]);
    let (_, metrics) = world.mesh.page(15020, "/metrics").unwrap();
    let mut lines = metrics.lines();
    let counted = lines.any(|l| {
        l.starts_with("istio_requests_total{")
            && l.contains("response_code=\"503\"")
            && l.contains("response_flags=\"UO\"")
    });
    assert!(counted, "{metrics}");
    assert_eq!(world.ask(get("/")).status, 200);

    world.policy(TrafficPolicy {
        breaker: Some(CircuitBreaker {
            max_requests: Some(2),
            ..CircuitBreaker::default()
        }),
        ..TrafficPolicy::default()
    });
    world.mesh.eventually("two at once, and no more", || {
        (refused(&world.at_once(6)) == 4).then_some(())
    });
}

#[test]
fn an_endpoint_that_fails_is_left_out() {
    let mut world = world(TrafficPolicy {
        outliers: Some(OutlierDetection {
            consecutive_5xx_errors: Some(2),
            base_ejection_time: Some(Duration::from_secs(600)),
            max_ejection_percent: Some(100),
            ..OutlierDetection::default()
        }),
        ..TrafficPolicy::default()
    });
    world.plain("good");
    let fail = |pod: &Pod| application::failing(&pod.netns, 8080);
    world.endpoint("bad", fail, |_| {});
    let mut failed = 0;
    while failed < 2 {
        failed += usize::from(world.ask(get("/")).status == 503);
    }
    world.mesh.logged(&["an endpoint is left out", "\"bad\""]);
    assert_eq!(
        count(&world.mesh, &world.client, VIP, 40),
        BTreeMap::from([("good".to_owned(), 40)])
    );
}

#[test]
fn the_same_key_leads_to_the_same_endpoint() {
    let hashed = |key: HashKey, maglev: Option<u64>| TrafficPolicy {
        balancing: Some(Balancing::Consistent(ConsistentHash {
            key,
            maglev,
            minimum_ring: None,
        })),
        ..TrafficPolicy::default()
    };
    let header = HashKey::Header("x-user".into());
    let mut world = world(hashed(header.clone(), None));
    for name in ["a", "b", "c"] {
        world.plain(name);
    }
    let spread = |world: &World, ask: &dyn Fn(usize) -> http::request::Builder| {
        let mut all = std::collections::BTreeSet::new();
        for key in 0..12 {
            let first = world.ask(ask(key)).from().to_owned();
            for _ in 0..3 {
                assert_eq!(world.ask(ask(key)).from(), first, "key {key}");
            }
            all.insert(first);
        }
        assert!(all.len() > 1, "all keys lead to {all:?}");
    };
    let by_header = |key: usize| get("/").header("x-user", format!("user-{key}"));
    spread(&world, &by_header);
    world.policy(hashed(header, Some(1009)));
    world.mesh.knows("\"maglev\": 1009");
    spread(&world, &by_header);
    world.policy(hashed(HashKey::Query("user".into()), None));
    world.mesh.knows("\"query\": \"user\"");
    spread(&world, &|key| get(&format!("/?user=user-{key}")));

    // Without the cookie one is made, and leads back.
    let cookie = HashKey::Cookie {
        name: "sticky".into(),
        path: Some("/".into()),
        ttl: Some(Duration::from_secs(60)),
    };
    world.policy(hashed(cookie, None));
    world.mesh.knows("\"name\": \"sticky\"");
    let first = world.ask(get("/"));
    let made = first.header("set-cookie").unwrap().to_owned();
    assert!(
        made.contains("Max-Age=60") && made.contains("Path=/"),
        "{made}"
    );
    let value = made.split(';').next().unwrap().to_owned();
    for _ in 0..8 {
        let again = world.ask(get("/").header("cookie", &value));
        assert_eq!(again.from(), first.from());
        assert_eq!(again.header("set-cookie"), None);
    }
    world.policy(hashed(HashKey::SourceAddress, None));
    world.mesh.knows("\"sourceAddress\"");
    let first = world.ask(get("/")).from().to_owned();
    for _ in 0..8 {
        assert_eq!(world.ask(get("/")).from(), first);
    }
}

fn region(name: &str) -> Locality {
    Locality {
        region: name.into(),
        zone: "z".into(),
        subzone: "".into(),
    }
}

#[test]
fn the_next_locality_serves_when_the_own_one_fails() {
    let mut world = world(TrafficPolicy {
        locality: Some(LocalityBalancing {
            enabled: true,
            distribute: Vec::new(),
            failover: vec![("here".into(), "second".into())],
            priority: Vec::new(),
        }),
        outliers: Some(OutlierDetection {
            consecutive_5xx_errors: Some(1),
            base_ejection_time: Some(Duration::from_secs(600)),
            max_ejection_percent: Some(100),
            ..OutlierDetection::default()
        }),
        ..TrafficPolicy::default()
    });
    let own = service(
        "waypoint",
        "10.96.0.200",
        &[(15008, 15008, AppProtocol::Unknown)],
    );
    let mut me = workload(&world.mesh.waypoint);
    me.services = [(own.key(), own.ports.clone())].into();
    me.locality = region("here");
    world.mesh.control.workload(&me);
    for (name, at) in [("near", "here"), ("far", "second"), ("farther", "third")] {
        let serve = |pod: &Pod| application::outside(&pod.netns, 8080, name);
        world.endpoint(name, serve, |w| w.locality = region(at));
    }
    let only = |name: &str, times| BTreeMap::from([(name.to_owned(), times)]);
    let counted = || count(&world.mesh, &world.client, VIP, 30);
    world.mesh.eventually("all go to the own locality", || {
        (counted() == only("near", 30)).then_some(())
    });
    // It fails once, on purpose, and is left out.
    let answer = world.ask(get("/").header("x-fail", "500").header("x-times", "1"));
    assert_eq!(answer.status, 500);
    assert_eq!(counted(), only("far", 30));
}

#[test]
fn a_new_endpoint_gets_its_share_slowly() {
    let time = Duration::from_secs(4);
    let mut world = world(TrafficPolicy {
        balancing: Some(Balancing::RoundRobin),
        warm_up: Some(time),
        ..TrafficPolicy::default()
    });
    world.plain("old");
    assert_eq!(world.ask(get("/")).status, 200);
    std::thread::sleep(time);
    world.plain("new");
    let shares = count(&world.mesh, &world.client, VIP, 60);
    let new = shares.get("new").copied().unwrap_or_default();
    // An even share would be 30.
    assert!(new < 22, "{shares:?}");
    world.mesh.eventually("an even share", || {
        let shares = count(&world.mesh, &world.client, VIP, 20);
        (shares.get("new") == Some(&10)).then_some(())
    });
}

/// Numbers of the connections on which requests came, one after the other.
fn numbers(world: &World, pauses: &[u64]) -> Vec<String> {
    let requests = pauses.iter().map(|pause| {
        let request = get("/").body(String::new()).unwrap();
        (Duration::from_millis(*pause), request)
    });
    let answers = ask_all(&world.mesh, &world.client, VIP, requests.collect());
    let number = |a: &Answer| a.body.split(' ').nth(1).unwrap().to_owned();
    answers.iter().map(number).collect()
}

#[test]
fn connections_end_after_their_requests_and_when_nobody_uses_them() {
    let http = |http: HttpSettings| TrafficPolicy {
        http: Some(http),
        ..TrafficPolicy::default()
    };
    let mut world = world(http(HttpSettings {
        max_requests_per_connection: Some(2),
        ..HttpSettings::default()
    }));
    let count = |pod: &Pod| application::counting(&pod.netns, 8080, false);
    world.endpoint("only", count, |_| {});
    assert_eq!(numbers(&world, &[0, 0, 0, 0, 0]), ["1", "1", "2", "2", "3"]);
    world.policy(http(HttpSettings {
        idle_timeout: Some(Duration::from_millis(400)),
        ..HttpSettings::default()
    }));
    world.mesh.knows("\"nanos\": 400000000");
    let seen = numbers(&world, &[0, 0, 2000]);
    assert!(seen[0] == seen[1] && seen[1] != seen[2], "{seen:?}");
}

#[test]
fn proxy_protocol_speaks_of_the_client_of_each_request() {
    let mut world = world(TrafficPolicy {
        proxy_protocol: Some(1),
        ..TrafficPolicy::default()
    });
    let count = |pod: &Pod| application::counting(&pod.netns, 8080, true);
    world.endpoint("only", count, |_| {});
    let other = world.mesh.pod("other");
    for pod in [&world.client, &other] {
        let request = get("/").body(String::new()).unwrap();
        let answer = ask(&world.mesh, pod, VIP, request).unwrap();
        let first = answer.body.lines().next().unwrap().to_owned();
        let said = format!("PROXY TCP4 {} 10.96.0.1 ", pod.ip);
        assert!(first.contains(&said) && first.ends_with(" 80"), "{first}");
    }
    // On one connection of a client there is one to the endpoint.
    let seen = numbers(&world, &[0, 0, 0]);
    assert!(seen[0] == seen[1] && seen[1] == seen[2], "{seen:?}");
}
