//! Shared rate limits: the waypoint and another replica of it, played here, tell each other what they let through.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tulle_model::AppProtocol;
use tulle_policy::Target;
use tulle_proto::RATE_LIMIT_TYPE;
use tulle_route::rate::Spent;
use tulle_route::resource::{KeyPart, Limit, LimitScope, ObjectKey, Rate, RateLimit};

use crate::application;
use crate::client::{ask, block_on, get, open};
use crate::control::epoch;
use crate::mesh::{Mesh, Pod, service, workload};

/// What replicas ask for in a tunnel to each other.
const AUTHORITY: &str = "rate-limits.replicas.tulle.internal:1";

struct World {
    mesh: Mesh,
    client: Pod,
    /// Under the waypoint's identity.
    replica: Pod,
    /// What it was told.
    told: Arc<Mutex<Vec<Spent>>>,
}

/// `burst` at once for each path, and practically none later.
fn world(burst: u32) -> World {
    let mut mesh = Mesh::waypoint();
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    mesh.application("web", &[&web]);
    let client = mesh.pod("client");
    mesh.control.workload(&workload(&client));
    let replica = mesh.pod("waypoint");
    let told = application::replica(&replica.netns, epoch(&replica.identity()));
    let mut known = workload(&replica);
    known.uid = "Kubernetes//Pod/shop/waypoint-2".into();
    known.name = "waypoint-2".into();
    let own = service(
        "waypoint",
        "10.96.0.200",
        &[(15008, 15008, AppProtocol::Unknown)],
    );
    known.services = [(own.key(), own.ports.clone())].into();
    mesh.control.workload(&known);
    mesh.knows("Pod/shop/waypoint-2");
    let limit = RateLimit {
        object: ObjectKey::new("RateLimitPolicy", "shop", "together"),
        targets: vec![Target::Service(web.key())],
        routes: Vec::new(),
        matches: Vec::new(),
        limits: vec![Limit {
            name: Some("all".into()),
            key: vec![KeyPart::Path],
            rate: Rate {
                requests: burst,
                per: Duration::from_secs(36_000),
            },
            burst: None,
            scope: LimitScope::Shared,
            keys: None,
        }],
        status: None,
        dry_run: false,
    };
    mesh.control
        .put(RATE_LIMIT_TYPE, &limit.object.to_string(), &limit);
    mesh.knows("/together\"");
    World {
        mesh,
        client,
        replica,
        told,
    }
}

impl World {
    fn ask(&self, path: &str) -> crate::client::Answer {
        let request = get(path).body(String::new()).unwrap();
        ask(&self.mesh, &self.client, "10.96.0.1:80", request).unwrap()
    }

    fn metric(&self, line: &str) {
        self.mesh.eventually(line, || {
            let (_, metrics) = self.mesh.page(15020, "/metrics")?;
            metrics.lines().any(|l| l == line).then_some(())
        });
    }

    /// Says to the waypoint, as `who`, what was let through.
    fn tell(&self, who: &Pod, spent: &[Spent]) -> Result<(), String> {
        let body = serde_json::to_vec(spent).unwrap();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        block_on(async {
            let (_tunnel, stream) = open(&self.mesh, who, AUTHORITY).await?;
            let mut io = stream.into_local();
            io.write_all(&[&length[..], &body].concat()).await.unwrap();
            io.shutdown().await.unwrap();
            let mut end = Vec::new();
            let _ = io.read_to_end(&mut end).await;
            Ok(())
        })
    }
}

#[test]
fn what_one_lets_through_counts_at_the_other() {
    let world = world(4);
    world.metric("tulle_rate_limit_replicas{state=\"reached\"} 1");
    let first = world.ask("/a");
    let header = |answer: &crate::client::Answer, name: &str| {
        answer.header(name).map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(first.status, 200);
    assert_eq!(header(&first, "ratelimit-limit"), "4");
    assert_eq!(header(&first, "ratelimit-remaining"), "3");
    let told = world.mesh.eventually("a report", || {
        let told = world.told.lock().unwrap();
        told.first().copied()
    });
    assert_eq!(told.requests, 1);
    // The other one let as many through as may come at once.
    let spent = [Spent {
        requests: 4,
        ..told
    }];
    world.tell(&world.replica, &spent).unwrap();
    let refused = world.mesh.eventually("a refusal", || {
        let answer = world.ask("/a");
        (answer.status == 429).then_some(answer)
    });
    assert_eq!(header(&refused, "ratelimit-remaining"), "0");
    assert!(!header(&refused, "retry-after").is_empty());
    assert_eq!(world.ask("/other").status, 200, "another key");
    world.metric("tulle_rate_limited_total{policy_namespace=\"shop\",policy_name=\"together\",limit=\"all\",refused=\"true\"} 1");
}

#[test]
fn nobody_else_is_listened_to() {
    let world = world(4);
    assert_eq!(world.ask("/a").status, 200);
    let told = world.mesh.eventually("a report", || {
        let told = world.told.lock().unwrap();
        told.first().copied()
    });
    let spent = [Spent {
        requests: 1000,
        ..told
    }];
    let refused = world.tell(&world.client, &spent).unwrap_err();
    assert!(refused.contains("403"), "{refused}");
    let again: Vec<u16> = (0..4).map(|_| world.ask("/a").status).collect();
    assert_eq!(again, [200, 200, 200, 429]);
}
