use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tulle_cluster::Key;
use tulle_daemon::Readiness;
use tulle_identity::Authority;
use tulle_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tulle_translate::Settings;
use tulle_xds::server::Publisher;

use super::{Input, SOURCES, Source, Translation, start};
use crate::convergence::Convergence;
use crate::deployer::{Deployments, Plane};
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::status::Statuses;

fn translation(publisher: &Publisher) -> Translation {
    let authority = Authority::new_self_signed("cluster.local").unwrap();
    Translation::new(
        Settings::default(),
        &crate::mesh_config::defaults("istio-system"),
        Pods::new(),
        Statuses::default(),
        deployments(),
        publisher.clone(),
        Arc::new(ArcSwap::from_pointee(authority)),
        Arc::new(Metrics::new()),
        Convergence::default(),
    )
}

fn deployments() -> Deployments {
    Deployments::new(Plane {
        namespace: "istio-system".to_owned(),
        revision: "default".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    })
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": name, "labels": { "app": "sleep" },
        },
        "spec": { "serviceAccountName": "sleep", "nodeName": "one", "containers": [] },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    })
}

/// How many resources of a type are published.
fn published(publisher: &Publisher, type_url: &str) -> usize {
    let published = publisher.published();
    published
        .iter()
        .find(|of| of.type_url == type_url)
        .map_or(0, |of| of.resources)
}

async fn until(what: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap();
}

fn change(apply: impl FnOnce(&mut Translation) + Send + 'static) -> Input {
    Input::Change(Source::Pods, Box::new(apply))
}

#[tokio::test]
async fn nothing_is_published_before_everything_was_read() {
    let publisher = Publisher::held();
    let readiness = Readiness::new();
    let synced = readiness.condition("synced");
    let (inputs, changes) = mpsc::channel(16);
    let ended = start(translation(&publisher), changes, synced).unwrap();
    let first = change(|to| to.pod(Ok(object(pod("a", "10.0.0.1")))));
    inputs.send(first).await.ok().unwrap();
    for _ in 1..SOURCES {
        inputs.send(Input::Synced).await.ok().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(published(&publisher, ADDRESS_TYPE), 0);
    assert_eq!(readiness.pending(), ["synced"]);
    inputs.send(Input::Synced).await.ok().unwrap();
    until(|| readiness.pending().is_empty()).await;
    assert_eq!(published(&publisher, ADDRESS_TYPE), 1);
    drop(inputs);
    ended.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_changes_is_published_in_few_batches_and_completely() {
    let publisher = Publisher::held();
    let readiness = Readiness::new();
    let (inputs, changes) = mpsc::channel(16);
    let _ended = start(
        translation(&publisher),
        changes,
        readiness.condition("synced"),
    )
    .unwrap();
    for _ in 0..SOURCES {
        inputs.send(Input::Synced).await.ok().unwrap();
    }
    for at in 0..300 {
        let pod = pod(
            &format!("p{at}"),
            &format!("10.0.{}.{}", at / 200, at % 200 + 1),
        );
        inputs
            .send(change(move |to| to.pod(Ok(object(pod)))))
            .await
            .ok()
            .unwrap();
    }
    until(|| published(&publisher, ADDRESS_TYPE) == 300).await;
    let gone = change(|to| to.pod(Err(Key::new("default", "p7"))));
    inputs.send(gone).await.ok().unwrap();
    until(|| published(&publisher, ADDRESS_TYPE) == 299).await;
}

#[test]
fn a_policy_that_cannot_be_read_is_published_and_told() {
    let publisher = Publisher::new();
    let mut to = translation(&publisher);
    to.publish(Instant::now());
    // STRICT's fixed policy is always there.
    let before = published(&publisher, AUTHORIZATION_TYPE);
    to.authorization_policy(Ok(object(policy("bad", json!({ "rules": "all" })))));
    to.publish(Instant::now());
    assert_eq!(published(&publisher, AUTHORIZATION_TYPE), before + 1);
    to.authorization_policy(Err(Key::new("default", "bad")));
    to.publish(Instant::now());
    assert_eq!(published(&publisher, AUTHORIZATION_TYPE), before);
}

#[test]
fn an_entry_that_cannot_be_read_is_left_out_even_if_it_was_good_before() {
    let publisher = Publisher::new();
    let mut to = translation(&publisher);
    let entry = |spec: Value| {
        object(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": { "name": "e", "namespace": "default" }, "spec": spec,
        }))
    };
    to.service_entry(Ok(entry(json!({
        "hosts": ["a.example.com"], "addresses": ["240.0.0.1"], "resolution": "STATIC",
        "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
        "endpoints": [{ "address": "10.1.1.1" }],
    }))));
    to.publish(Instant::now());
    assert!(published(&publisher, ADDRESS_TYPE) > 0);
    to.service_entry(Ok(entry(json!({ "hosts": 7 }))));
    to.publish(Instant::now());
    assert_eq!(published(&publisher, ADDRESS_TYPE), 0);
}

#[test]
fn a_new_trust_domain_is_signed_for_and_a_wrong_one_changes_nothing() {
    let publisher = Publisher::new();
    let mut to = translation(&publisher);
    let settings = |text: &str| {
        object(json!({
            "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": text },
        }))
    };
    to.mesh_config(Ok(settings("trustDomain: example.org")));
    assert_eq!(to.authority.load().trust_domain(), "example.org");
    assert_eq!(&*to.cluster.settings().trust_domain, "example.org");
    to.mesh_config(Ok(settings("trustDomain: Not A Name")));
    assert_eq!(&*to.cluster.settings().trust_domain, "example.org");
    to.mesh_config(Err(Key::new("istio-system", "istio")));
    assert_eq!(&*to.cluster.settings().trust_domain, "cluster.local");
}

#[test]
fn a_waypoint_is_deployed_published_for_itself_and_told() {
    let publisher = Publisher::new();
    let mut to = translation(&publisher);
    let gateway = || {
        object(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": "waypoint", "namespace": "default", "uid": "u", "generation": 1 },
            "spec": {
                "gatewayClassName": "istio-waypoint",
                "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }],
            },
        }))
    };
    to.gateway_class(Ok(object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": { "name": "istio-waypoint", "generation": 1 },
        "spec": { "controllerName": "istio.io/mesh-controller" },
    }))));
    to.namespace(Ok(object(json!({ "metadata": { "name": "default" } }))));
    to.gateway(Ok(gateway()));
    to.publish(Instant::now());
    let key: (Arc<str>, Arc<str>) = ("default".into(), "waypoint".into());
    let wanted = to.deployments.get(&key).unwrap();
    assert_eq!(&*wanted.workload_name, "waypoint");
    assert_eq!(wanted.ports[0].port, 15008);
    assert_eq!(published(&publisher, tulle_proto::GATEWAY_TYPE), 1);
    to.gateway(Err(Key::new("default", "waypoint")));
    to.publish(Instant::now());
    assert!(to.deployments.get(&key).is_none());
    assert_eq!(published(&publisher, tulle_proto::GATEWAY_TYPE), 0);
    // One that cannot be read changes nothing of what is known.
    to.gateway(Ok(gateway()));
    to.publish(Instant::now());
    let mut odd: tulle_cluster::kube::api::DynamicObject = gateway();
    odd.data["spec"] = json!({ "listeners": "none" });
    to.gateway(Ok(odd));
    to.publish(Instant::now());
    assert!(to.deployments.get(&key).is_some());
}
