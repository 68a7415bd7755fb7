//! The profile `ambient`, object by object, as it is applied. A change here is a change of what users get.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tulle-install --test golden` writes the file anew; read the difference before committing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use tulle_install::{Phase, Values, objects, render, to_yaml};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ambient.yaml")
}

/// Without the schemas of the resource definitions: those are `api`'s contract, and long.
fn without_schemas(objects: Vec<Value>) -> Vec<Value> {
    let shortened = objects.into_iter().map(|mut object| {
        if object["kind"] == "CustomResourceDefinition" {
            let versions = object["spec"]["versions"].as_array().unwrap();
            let names: Vec<Value> = versions
                .iter()
                .map(|version| version["name"].clone())
                .collect();
            object["spec"] = serde_json::json!({ "versions": names });
        }
        object
    });
    shortened.collect()
}

#[test]
fn ambient() {
    let text = to_yaml(&without_schemas(render(&Values::default()).unwrap())).unwrap();
    // The version is in labels and image, and changes with every release.
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden(), &text).unwrap();
    }
    let expected = std::fs::read_to_string(golden()).unwrap_or_default();
    let different = text
        .lines()
        .zip(expected.lines())
        .position(|(is, was)| is != was);
    let at = different.unwrap_or_else(|| text.lines().count().min(expected.lines().count()));
    assert!(
        text == expected,
        "line {}: {:?}, golden has {:?}; see the head of this file",
        at + 1,
        text.lines().nth(at),
        expected.lines().nth(at)
    );
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects
        .iter()
        .find(is)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Names that dashboards, Kiali and istioctl rely on.
#[test]
fn names_of_the_contract() {
    let all = render(&Values::default()).unwrap();
    for (kind, workload, container, label, value) in [
        ("Deployment", "istiod", "discovery", "app", "istiod"),
        ("Deployment", "istiod", "discovery", "istio", "pilot"),
        (
            "DaemonSet",
            "istio-cni-node",
            "install-cni",
            "k8s-app",
            "istio-cni-node",
        ),
        ("DaemonSet", "ztunnel", "istio-proxy", "app", "ztunnel"),
    ] {
        let object = find(&all, kind, workload);
        let template = &object["spec"]["template"];
        assert_eq!(object["metadata"]["namespace"], "istio-system");
        assert_eq!(template["spec"]["containers"][0]["name"], container);
        assert_eq!(template["metadata"]["labels"][label], value);
        assert_eq!(object["spec"]["selector"]["matchLabels"][label], value);
        assert_eq!(
            template["metadata"]["labels"]["istio.io/dataplane-mode"],
            "none"
        );
    }
    let ports = find(&all, "Service", "istiod")["spec"]["ports"]
        .as_array()
        .unwrap()
        .clone();
    let ports: Vec<(String, u64, u64)> = ports
        .iter()
        .map(|p| {
            let number = |field: &str| p[field].as_u64().unwrap();
            (
                p["name"].as_str().unwrap().to_owned(),
                number("port"),
                number("targetPort"),
            )
        })
        .collect();
    let expected = [
        ("grpc-xds", 15010, 15010),
        ("https-dns", 15012, 15012),
        ("https-webhook", 443, 15017),
        ("http-monitoring", 15014, 15014),
    ];
    assert_eq!(
        ports,
        expected.map(|(name, port, target)| (name.to_owned(), port, target))
    );
}

/// Every account that a pod uses exists, every binding leads from an account to a role, nothing is named twice.
#[test]
fn references_are_closed() {
    let all = render(&Values::default()).unwrap();
    let mut names = BTreeSet::new();
    for object in &all {
        let name = format!("{}/{}", object["kind"], object["metadata"]["name"]);
        assert!(names.insert(name.clone()), "{name} is there twice");
    }
    for object in &all {
        let kind = object["kind"].as_str().unwrap();
        if let Some(account) = object["spec"]["template"]["spec"]["serviceAccountName"].as_str() {
            find(&all, "ServiceAccount", account);
        }
        if kind.ends_with("Binding") {
            find(
                &all,
                object["roleRef"]["kind"].as_str().unwrap(),
                object["roleRef"]["name"].as_str().unwrap(),
            );
            for subject in object["subjects"].as_array().unwrap() {
                find(&all, "ServiceAccount", subject["name"].as_str().unwrap());
                assert_eq!(subject["namespace"], "istio-system");
            }
        }
    }
    for object in all
        .iter()
        .filter(|object| object["spec"]["template"].is_object())
    {
        let spec = &object["spec"]["template"]["spec"];
        let volumes: BTreeSet<_> = spec["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|v| v["name"].to_string())
            .collect();
        let mounts = spec["containers"][0]["volumeMounts"]
            .as_array()
            .into_iter()
            .flatten();
        let mounted: BTreeSet<_> = mounts.map(|mount| mount["name"].to_string()).collect();
        assert_eq!(volumes, mounted, "{}", object["metadata"]["name"]);
    }
}

/// The control plane must be able to start before anything of the mesh works: what it needs is applied before it.
#[test]
fn phases_are_in_order() {
    let all = objects(&Values::default()).unwrap();
    assert!(all.is_sorted_by_key(|rendered| rendered.phase));
    let last = all.last().unwrap();
    assert_eq!(
        (last.phase, last.title().as_str()),
        (Phase::Proxies, "DaemonSet istio-system/ztunnel")
    );
}

#[test]
fn values_arrive() {
    let settings = [
        "image=registry.example/mesh:1",
        "imagePullPolicy=Never",
        "imagePullSecrets={pull}",
        "cni.cniBinDir=/var/cni/bin",
        "cni.cniConfDir=/var/cni/conf",
        "cni.cniNetnsDir=/run/docker/netns",
        "cni.excludeNamespaces={kube-system,a}",
        "cni.resourceQuota=true",
        "clusterId=east",
        "logAsJson=true",
        "meshConfig.trustDomain=td1",
        "meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY",
        "ztunnel.env.RUST_LOG=debug",
        "ztunnel.terminationGracePeriodSeconds=90",
    ];
    let values = Values::default()
        .with(&settings.map(str::to_owned))
        .unwrap();
    let all = render(&values).unwrap();
    find(&all, "ResourceQuota", "tulle-node-critical");
    let mesh = find(&all, "ConfigMap", "istio")["data"]["mesh"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        mesh.contains("trustDomain: td1") && mesh.contains("mode: REGISTRY_ONLY"),
        "{mesh}"
    );
    let agent = &find(&all, "DaemonSet", "istio-cni-node")["spec"]["template"]["spec"];
    let path = |name: &str| {
        let volumes = agent["volumes"].as_array().unwrap();
        volumes.iter().find(|v| v["name"] == name).unwrap()["hostPath"]["path"].clone()
    };
    assert_eq!(path("cni-bin-dir"), "/var/cni/bin");
    assert_eq!(path("cni-net-dir"), "/var/cni/conf");
    assert_eq!(path("cni-netns-dir"), "/run/docker/netns");
    let ztunnel = &find(&all, "DaemonSet", "ztunnel")["spec"]["template"]["spec"];
    assert_eq!(ztunnel["terminationGracePeriodSeconds"], 90);
    assert_eq!(ztunnel["imagePullSecrets"][0]["name"], "pull");
    let container = &ztunnel["containers"][0];
    assert_eq!(container["image"], "registry.example/mesh:1");
    assert_eq!(container["imagePullPolicy"], "Never");
    let variables = container["env"].as_array().unwrap();
    let value = |name: &str| {
        let found: Vec<_> = variables.iter().filter(|v| v["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0]["value"].as_str().unwrap().to_owned()
    };
    // The user's variable replaces ours.
    assert_eq!(value("RUST_LOG"), "debug");
    assert_eq!(value("LOG_FORMAT"), "json");
    assert_eq!(value("CLUSTER_ID"), "east");
    assert_eq!(value("TRUST_DOMAIN"), "td1");
}
