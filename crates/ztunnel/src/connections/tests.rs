use tulle_linux::NetNs;
use tulle_policy::{Action, Clause, Match, Policy, Rule, Scope, StringMatch};
use tulle_telemetry::{ConnectionEnds, ConnectionMetrics, Format, Registry, SecurityPolicy};

use super::*;
use crate::fixtures::workload;
use crate::pod::PodInfo;

struct World {
    registry: Registry,
    shard: tulle_telemetry::Shard,
    table: Connections,
    pod: Arc<Pod>,
}

impl World {
    fn new() -> Self {
        let registry = Registry::new();
        let shard = ConnectionMetrics::new(&registry).shard();
        let netns = NetNs::current().unwrap();
        let pod = Arc::new(Pod::new(
            "uid",
            PodInfo::default(),
            netns,
            "Kubernetes",
            "".into(),
        ));
        Self {
            registry,
            shard,
            table: Connections::default(),
            pod,
        }
    }

    fn register(&self, reporter: Reporter, tunnel: bool, check: Option<Check>) -> Registered<'_> {
        let ends = ConnectionEnds {
            reporter,
            source: None,
            source_principal: None,
            destination: None,
            service: None,
            security: SecurityPolicy::Unknown,
        };
        let series = self.shard.series(&ends);
        series.open();
        let shown = Shown {
            pod: self.pod.uid.clone(),
            reporter,
            source: "10.0.0.9:1".parse().unwrap(),
            original: None,
            actual: "10.0.0.1:80".parse().unwrap(),
            tunnel,
        };
        self.table
            .register(self.pod.clone(), shown, series, check)
            .unwrap()
    }
}

fn check() -> Check {
    let peer = Identity::new("cluster.local", "default", "client");
    let destination = Arc::new(workload("server", "10.0.0.1"));
    Check::new(
        destination,
        Some(peer),
        "10.0.0.9".parse().unwrap(),
        "10.0.0.1:80".parse().unwrap(),
    )
}

fn deny(name: &str, scope: Scope) -> Policy {
    let mut policy = Policy::new("default", name, scope, Action::Deny);
    let matches = vec![Match {
        principals: vec![StringMatch::Presence],
        ..Match::default()
    }];
    policy.rules = vec![Rule {
        clauses: vec![Clause { matches }],
    }];
    policy
}

async fn stopped(registered: &Registered<'_>) -> Option<StopReason> {
    let turn = std::time::Duration::from_millis(10);
    tokio::time::timeout(turn, registered.stopped()).await.ok()
}

#[tokio::test]
async fn a_new_policy_cuts_what_it_denies() {
    let world = World::new();
    let inbound = world.register(Reporter::Destination, true, Some(check()));
    let outbound = world.register(Reporter::Source, true, None);
    let mut snapshot = Snapshot::default();
    snapshot
        .mesh
        .insert_workload(workload("server", "10.0.0.1"));
    world.table.check_again(&snapshot).await;
    assert_eq!(stopped(&inbound).await, None);
    snapshot.policies.insert(deny("p", Scope::Namespace));
    snapshot.policy_generation = 1;
    world.table.check_again(&snapshot).await;
    assert_eq!(stopped(&inbound).await, Some(StopReason::Policy));
    assert_eq!(
        &*inbound.denial().unwrap(),
        "denied by policy default/p rule 0"
    );
    assert_eq!(stopped(&outbound).await, None);
}

#[tokio::test]
async fn a_policy_that_the_workload_names_later_reaches_live_connections() {
    let world = World::new();
    let inbound = world.register(Reporter::Destination, true, Some(check()));
    let mut snapshot = Snapshot::default();
    snapshot.policies.insert(deny("p", Scope::Workload));
    snapshot.policy_generation = 1;
    snapshot
        .mesh
        .insert_workload(workload("server", "10.0.0.1"));
    world.table.check_again(&snapshot).await;
    assert_eq!(stopped(&inbound).await, None);
    // Only the workload changes, no policy.
    let mut selected = workload("server", "10.0.0.1");
    selected.policies = vec!["default/p".into()];
    snapshot.mesh.insert_workload(selected);
    world.table.check_again(&snapshot).await;
    assert_eq!(stopped(&inbound).await, Some(StopReason::Policy));
}

#[tokio::test]
async fn a_pods_connections_end_with_it_and_others_do_not() {
    let world = World::new();
    let mine = world.register(Reporter::Source, false, None);
    let other = World::new();
    world
        .table
        .stop(Some(other.pod.serial), StopReason::Removed);
    assert_eq!(stopped(&mine).await, None);
    world
        .table
        .stop(Some(world.pod.serial), StopReason::Removed);
    world.table.stop(None, StopReason::Drain);
    assert_eq!(
        stopped(&mine).await,
        Some(StopReason::Removed),
        "the first reason counts"
    );
}

#[test]
fn received_is_from_the_client_on_both_sides() {
    let world = World::new();
    let cases = [
        (Reporter::Source, true),
        (Reporter::Source, false),
        (Reporter::Destination, false),
        (Reporter::Destination, true),
    ];
    for (reporter, tunnel) in cases {
        let registered = world.register(reporter, tunnel, None);
        registered.counters().to_tunnel.set(5);
        registered.counters().to_app.set(9);
        let expected = if (reporter, tunnel) == (Reporter::Destination, true) {
            (9, 5)
        } else {
            (5, 9)
        };
        assert_eq!(registered.finish(), expected);
    }
    assert!(
        world.table.show().is_empty(),
        "a connection that ended is still listed"
    );
}

#[test]
fn bytes_are_told_once() {
    let world = World::new();
    let registered = world.register(Reporter::Source, true, None);
    registered.counters().to_tunnel.set(5);
    world.table.tell_bytes();
    registered.counters().to_tunnel.set(7);
    world.table.tell_bytes();
    registered.finish();
    let text = world.registry.encode(Format::Prometheus);
    let line = text
        .lines()
        .find(|l| l.starts_with("istio_tcp_received_bytes_total{"))
        .unwrap();
    assert!(line.ends_with(" 7"), "{line}");
}
