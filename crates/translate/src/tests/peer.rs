//! PeerAuthentication: who refuses plaintext, level by level.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tulle_model::{Identity, Workload};
use tulle_policy::{Connection, Policies};

use super::from;
use crate::{Cluster, Settings};

struct World {
    cluster: Cluster,
    policies: Policies,
    pod: Option<Workload>,
}

impl World {
    /// One pod `app=x` in `namespace`.
    fn new(namespace: &str) -> Self {
        let mut cluster = Cluster::new(Settings::default());
        cluster.upsert_pod(&from(json!({
            "metadata": {"name": "p", "namespace": namespace, "labels": {"app": "x"}},
            "status": {"podIP": "10.0.0.1"},
        })));
        let mut world = Self {
            cluster,
            policies: Policies::default(),
            pod: None,
        };
        world.settle();
        world
    }

    fn peer(&mut self, namespace: &str, name: &str, created: &str, spec: Value) {
        self.cluster.upsert_peer_authentication(&from(json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
            "spec": spec,
        })));
        self.settle();
    }

    fn settle(&mut self) {
        let changes = self.cluster.take_changes();
        for (key, policy) in changes.policies {
            match policy {
                Some(policy) => self.policies.insert(policy),
                None => assert!(self.policies.remove(&key)),
            }
        }
        if let Some((_, pod)) = changes.workloads.into_iter().next_back() {
            self.pod = pod;
        }
    }

    fn names(&self) -> Vec<&str> {
        self.pod
            .as_ref()
            .unwrap()
            .policies
            .iter()
            .map(|name| &**name)
            .collect()
    }

    /// Whether plaintext is refused on a port; with an identity it never is.
    fn strict(&self, port: u16) -> bool {
        let pod = self.pod.as_ref().unwrap();
        let identity = Identity::new("cluster.local", "other", "caller");
        let to = |source| Connection {
            source,
            source_ip: [10, 0, 0, 9].into(),
            destination: SocketAddr::from(([10, 0, 0, 1], port)),
        };
        assert!(
            self.policies
                .evaluate(pod, &to(Some(&identity)))
                .is_allowed()
        );
        !self.policies.evaluate(pod, &to(None)).is_allowed()
    }
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-01-02T00:00:00Z";

fn mode(mode: &str) -> Value {
    json!({"mtls": {"mode": mode}})
}

fn selecting(mode: &str, ports: Value) -> Value {
    json!({"selector": {"matchLabels": {"app": "x"}}, "mtls": {"mode": mode}, "portLevelMtls": ports})
}

#[test]
fn levels_inherit() {
    let mut world = World::new("a");
    assert!(!world.strict(80));
    world.peer("istio-system", "mesh", OLD, mode("STRICT"));
    assert!(world.strict(80));
    assert_eq!(
        world.names(),
        ["istio-system/istio_converted_static_strict"]
    );
    world.peer("a", "default", OLD, mode("UNSET"));
    assert!(world.strict(80), "UNSET inherits");
    world.peer("a", "default", OLD, mode("PERMISSIVE"));
    assert!(!world.strict(80), "the namespace overrides the mesh");
    world.peer("a", "x", OLD, selecting("STRICT", json!({})));
    assert!(world.strict(80), "the workload overrides the namespace");
    world.peer("a", "x", OLD, selecting("DISABLE", json!({})));
    assert!(!world.strict(80), "DISABLE accepts plaintext");
    world.peer("b", "default", OLD, mode("STRICT"));
    assert!(!world.strict(80), "another namespace");
}

#[test]
fn the_oldest_wins() {
    let mut world = World::new("a");
    world.peer("a", "new", NEW, mode("STRICT"));
    assert!(world.strict(80));
    world.peer("a", "old", OLD, mode("PERMISSIVE"));
    assert!(!world.strict(80));
    world.cluster.remove_peer_authentication("a", "old");
    world.settle();
    assert!(world.strict(80));
    world.cluster.remove_peer_authentication("a", "new");
    world.settle();
    assert!(!world.strict(80));
    assert!(
        world.policies.is_empty(),
        "the fixed policy goes with the last resource"
    );
}

#[test]
fn ports_are_exceptions() {
    let mut world = World::new("a");
    world.peer(
        "a",
        "x",
        OLD,
        selecting(
            "STRICT",
            json!({"8080": {"mode": "PERMISSIVE"}, "8081": {"mode": "DISABLE"}}),
        ),
    );
    assert_eq!(world.names(), ["a/converted_peer_authentication_x"]);
    assert!(world.strict(80) && !world.strict(8080) && !world.strict(8081));

    world.peer(
        "a",
        "x",
        OLD,
        selecting("PERMISSIVE", json!({"8080": {"mode": "STRICT"}})),
    );
    assert_eq!(world.names(), ["a/converted_peer_authentication_x"]);
    assert!(!world.strict(80) && world.strict(8080));

    world.peer(
        "a",
        "x",
        OLD,
        selecting("STRICT", json!({"8080": {"mode": "STRICT"}})),
    );
    assert_eq!(
        world.names(),
        ["istio-system/istio_converted_static_strict"]
    );

    // UNSET on the resource: the exception is to what the namespace says, whenever that changes.
    world.peer(
        "a",
        "x",
        OLD,
        selecting("UNSET", json!({"8080": {"mode": "PERMISSIVE"}})),
    );
    assert!(!world.strict(80) && !world.strict(8080));
    world.peer("istio-system", "mesh", OLD, mode("STRICT"));
    assert!(world.strict(80) && !world.strict(8080));
}

#[test]
fn the_root_namespace_selects_its_own_pods_only() {
    let mut world = World::new("a");
    world.peer("istio-system", "x", OLD, selecting("STRICT", json!({})));
    assert!(!world.strict(80));
    let mut world = World::new("istio-system");
    world.peer("istio-system", "x", OLD, selecting("STRICT", json!({})));
    assert!(world.strict(80));
}

#[test]
fn what_cannot_be_understood_is_strict_and_told() {
    for spec in [
        json!({"mtls": {"mode": "RELAXED"}}),
        json!({"mtls": {"mode": "PERMISSIVE"}, "newField": {}}),
        selecting("PERMISSIVE", json!({"web": {"mode": "PERMISSIVE"}})),
        selecting("PERMISSIVE", json!({"0": {"mode": "PERMISSIVE"}})),
    ] {
        let mut world = World::new("a");
        world.peer("a", "x", OLD, spec.clone());
        assert!(world.strict(80), "{spec}");
        let told = world.cluster.snapshot().conditions;
        assert_eq!(
            (told[0].1[0].status, told[0].1[0].reason),
            (false, "Invalid"),
            "{spec}"
        );
    }
}
