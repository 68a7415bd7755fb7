//! Installation and removal against a cluster in memory: the order, and every ending.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod cluster;

use std::sync::Mutex;
use std::time::Duration;

use cluster::{Cluster, Manner};
use serde_json::json;
use tulle_api::contract::ANNOTATION_UNENROLL;
use tulle_install::{
    Error, Event, InstallOptions, Installed, Progress, Silent, UninstallOptions, Uninstalled,
    Values, install, uninstall,
};

const NAMESPACE: &str = "/api/v1/namespaces/istio-system";

#[derive(Default)]
struct Told(Mutex<Vec<Event>>);

impl Progress for Told {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

async fn install_on(cluster: &Cluster, wait_ms: u64) -> Result<Installed, Error> {
    let options = InstallOptions {
        wait: Some(Duration::from_millis(wait_ms)),
    };
    install(&cluster.client(), &Values::default(), &options, &Silent).await
}

async fn uninstall_on(
    cluster: &Cluster,
    force: bool,
    delete_crds: bool,
) -> Result<Uninstalled, Error> {
    let options = UninstallOptions {
        force,
        delete_crds,
        deadline: Duration::from_millis(500),
    };
    uninstall(&cluster.client(), &options, &Silent).await
}

fn position(writes: &[String], end: &str) -> usize {
    writes
        .iter()
        .position(|write| write.ends_with(end))
        .unwrap_or_else(|| panic!("{end}: {writes:#?}"))
}

#[tokio::test]
async fn everything_is_applied_in_order_and_awaited() {
    let cluster = Cluster::default();
    let told = Told::default();
    let options = InstallOptions {
        wait: Some(Duration::from_secs(5)),
    };
    let installed = install(&cluster.client(), &Values::default(), &options, &told)
        .await
        .unwrap();
    let writes = cluster.writes();
    assert_eq!(installed.applied, writes.len());
    assert!(writes[0].ends_with("/namespaces/istio-system"));
    let order = [
        "customresourcedefinitions/authorizationpolicies.security.istio.io",
        "serviceaccounts/istiod",
        "deployments/istiod",
        "daemonsets/ztunnel",
    ];
    let positions = order.map(|end| position(&writes, end));
    assert!(positions.is_sorted(), "{positions:?}");
    // The proxies are last of all.
    assert_eq!(positions[3], writes.len() - 1);
    let told = told.0.into_inner().unwrap();
    let done = told
        .iter()
        .filter(|event| matches!(event, Event::Done { .. }))
        .count();
    let begun = told
        .iter()
        .filter(|event| matches!(event, Event::Step(_)))
        .count();
    assert_eq!(begun, done);
    assert!(matches!(told.last(), Some(Event::Done { step, .. }) if step == "all parts ready"));
}

#[tokio::test]
async fn installing_again_changes_nothing_and_takes_back_a_removal() {
    let cluster = Cluster::default();
    install_on(&cluster, 5000).await.unwrap();
    let before = cluster.get(NAMESPACE).unwrap();
    assert_eq!(
        before["metadata"]["annotations"]["tulle.mesh/created"],
        "true"
    );
    let mut leaving = before.clone();
    leaving["metadata"]["annotations"][ANNOTATION_UNENROLL] = json!("true");
    cluster.put(NAMESPACE, leaving);
    install_on(&cluster, 5000).await.unwrap();
    assert_eq!(
        cluster.get(NAMESPACE).unwrap()["metadata"],
        before["metadata"]
    );
}

#[tokio::test]
async fn an_old_cluster_is_refused() {
    let cluster = Cluster::new(Manner {
        minor: 28,
        ..Manner::default()
    });
    let error = install_on(&cluster, 100).await.unwrap_err();
    assert!(
        error.to_string().contains("v1.28.0; the mesh needs 1.29"),
        "{error}"
    );
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn missing_rights_are_listed_before_anything_is_changed() {
    let cluster = Cluster::new(Manner {
        administrator: false,
        ..Manner::default()
    });
    let text = install_on(&cluster, 100).await.unwrap_err().to_string();
    assert!(
        text.contains("create clusterroles.rbac.authorization.k8s.io"),
        "{text}"
    );
    assert!(
        text.contains("patch daemonsets.apps in istio-system"),
        "{text}"
    );
    let text = uninstall_on(&cluster, false, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("delete deployments.apps in istio-system"),
        "{text}"
    );
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn another_mesh_is_left_alone() {
    let cluster = Cluster::default();
    let labels = json!({ "app.kubernetes.io/managed-by": "Helm" });
    let istiod = json!({ "metadata": { "name": "istiod", "labels": labels },
        "spec": { "selector": {}, "template": {} } });
    cluster.put(
        "/apis/apps/v1/namespaces/istio-system/deployments/istiod",
        istiod,
    );
    for error in [
        install_on(&cluster, 100).await.unwrap_err(),
        uninstall_on(&cluster, true, true).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("managed by Helm"), "{error}");
    }
    assert_eq!(cluster.writes(), [""; 0]);
}

#[tokio::test]
async fn definitions_of_another_installation_stay() {
    let cluster = Cluster::default();
    let name = "authorizationpolicies.security.istio.io";
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    let names = json!({ "kind": "AuthorizationPolicy", "plural": "authorizationpolicies" });
    let spec = json!({ "group": "security.istio.io", "names": names, "scope": "Namespaced", "versions": [] });
    let theirs =
        json!({ "metadata": { "name": name, "labels": { "chart": "base" } }, "spec": spec });
    cluster.put(&path, theirs.clone());
    let told = Told::default();
    let options = InstallOptions {
        wait: Some(Duration::from_secs(5)),
    };
    install(&cluster.client(), &Values::default(), &options, &told)
        .await
        .unwrap();
    assert_eq!(cluster.get(&path), Some(theirs.clone()));
    let notes = told.0.into_inner().unwrap();
    assert!(
        notes
            .iter()
            .any(|event| matches!(event, Event::Note(note) if note.contains(name)))
    );
    // Neither does a removal touch them.
    uninstall_on(&cluster, false, true).await.unwrap();
    assert_eq!(cluster.get(&path), Some(theirs));
}

#[tokio::test]
async fn what_is_not_ready_in_time_is_told_with_its_reason() {
    let cluster = Cluster::new(Manner {
        works: false,
        ..Manner::default()
    });
    let container = json!({
        "name": "discovery", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
        "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "image is not present" } },
    });
    let status = json!({ "phase": "Pending", "containerStatuses": [container] });
    let labels = json!({ "app": "istiod", "istio": "pilot" });
    cluster.pod("istio-system", "istiod-x", labels, json!({}), status);
    let error = install_on(&cluster, 300).await.unwrap_err();
    assert!(error.is_deadline());
    let text = error.to_string();
    assert!(
        text.contains(
            "istiod 0/1 ready: istiod-x discovery: ErrImageNeverPull: image is not present"
        ),
        "{text}"
    );
    // Proxies that could not start are not even tried.
    assert!(
        !cluster
            .writes()
            .iter()
            .any(|write| write.contains("daemonsets/ztunnel"))
    );
}

fn enrolled(cluster: &Cluster) {
    let annotations = json!({ "ambient.istio.io/redirection": "enabled" });
    let running = json!({ "phase": "Running" });
    cluster.pod(
        "default",
        "web",
        json!({ "app": "web" }),
        annotations,
        running.clone(),
    );
    let labels = json!({ "k8s-app": "istio-cni-node" });
    cluster.pod(
        "istio-system",
        "istio-cni-node-x",
        labels,
        json!({}),
        running,
    );
}

#[tokio::test]
async fn pods_leave_before_anything_is_deleted_and_nothing_of_ours_is_left() {
    let cluster = Cluster::default();
    install_on(&cluster, 5000).await.unwrap();
    enrolled(&cluster);
    cluster.put(
        "/api/v1/namespaces/default/configmaps/istio-ca-root-cert",
        json!({ "metadata": { "name": "istio-ca-root-cert", "namespace": "default" } }),
    );
    cluster.put(
        "/api/v1/namespaces/istio-system/secrets/istio-ca-secret",
        json!({ "metadata": { "name": "istio-ca-secret", "namespace": "istio-system" } }),
    );
    let installed = cluster.writes().len();
    let report = uninstall_on(&cluster, false, false).await.unwrap();
    let writes = cluster.writes()[installed..].to_vec();
    assert_eq!(report.unenrolled, 1);
    assert_eq!(writes[0], format!("PATCH {NAMESPACE}"));
    let order = [
        "daemonsets/istio-cni-node",
        "daemonsets/ztunnel",
        "deployments/istiod",
        "clusterroles/istio-cni",
        "namespaces/istio-system",
    ];
    let positions = order.map(|end| {
        writes
            .iter()
            .rposition(|write| write.starts_with("DELETE") && write.ends_with(end))
            .unwrap()
    });
    assert!(positions.is_sorted(), "{positions:?}");
    // The user's pod, and the definitions with the user's policies.
    let left = cluster.paths();
    assert!(left.contains(&"/api/v1/namespaces/default/pods/web".to_owned()));
    let others: Vec<_> = left
        .iter()
        .filter(|path| !path.contains("customresourcedefinitions"))
        .collect();
    assert_eq!(others, ["/api/v1/namespaces/default/pods/web"]);
    assert!(left.len() > 10);
    assert!(
        report.kept[0].contains("policies are kept"),
        "{:?}",
        report.kept
    );
    // Once more: nothing to do, no error.
    let again = uninstall_on(&cluster, false, true).await.unwrap();
    assert_eq!(again.unenrolled, 0);
    assert_eq!(cluster.paths(), ["/api/v1/namespaces/default/pods/web"]);
}

#[tokio::test]
async fn the_namespace_stays_when_it_is_not_only_ours() {
    let cluster = Cluster::default();
    install_on(&cluster, 5000).await.unwrap();
    cluster.put(
        "/api/v1/namespaces/istio-system/secrets/gateway-certificate",
        json!({ "metadata": { "name": "gateway-certificate", "namespace": "istio-system" } }),
    );
    let report = uninstall_on(&cluster, false, false).await.unwrap();
    assert!(
        report
            .kept
            .last()
            .unwrap()
            .contains("Secret gateway-certificate"),
        "{:?}",
        report.kept
    );
    let namespace = cluster.get(NAMESPACE).unwrap();
    assert!(namespace["metadata"]["annotations"][ANNOTATION_UNENROLL].is_null());
}

#[tokio::test]
async fn a_namespace_that_was_there_before_stays() {
    let cluster = Cluster::default();
    cluster.put(NAMESPACE, json!({ "metadata": { "name": "istio-system" } }));
    install_on(&cluster, 5000).await.unwrap();
    let report = uninstall_on(&cluster, false, false).await.unwrap();
    assert!(
        report.kept.last().unwrap().contains("was there before"),
        "{:?}",
        report.kept
    );
    assert!(cluster.get(NAMESPACE).is_some());
}

#[tokio::test]
async fn while_pods_are_enrolled_nothing_is_deleted_unless_forced() {
    let cluster = Cluster::new(Manner {
        lets_go: false,
        ..Manner::default()
    });
    install_on(&cluster, 5000).await.unwrap();
    enrolled(&cluster);
    let error = uninstall_on(&cluster, false, false).await.unwrap_err();
    assert!(error.is_deadline());
    assert!(error.to_string().contains("default/web"), "{error}");
    assert!(
        !cluster
            .writes()
            .iter()
            .any(|write| write.starts_with("DELETE"))
    );
    // The request is taken back: the mesh goes on.
    let namespace = cluster.get(NAMESPACE).unwrap();
    assert!(namespace["metadata"]["annotations"][ANNOTATION_UNENROLL].is_null());
    uninstall_on(&cluster, true, false).await.unwrap();
    assert!(
        cluster
            .get("/apis/apps/v1/namespaces/istio-system/daemonsets/ztunnel")
            .is_none()
    );
}

#[tokio::test]
async fn without_node_agents_nobody_is_waited_for() {
    let cluster = Cluster::default();
    install_on(&cluster, 5000).await.unwrap();
    let annotations = json!({ "ambient.istio.io/redirection": "enabled" });
    cluster.pod(
        "default",
        "web",
        json!({}),
        annotations,
        json!({ "phase": "Running" }),
    );
    cluster.remove("/apis/apps/v1/namespaces/istio-system/daemonsets/istio-cni-node");
    let options = UninstallOptions {
        force: false,
        delete_crds: false,
        deadline: Duration::from_secs(3600),
    };
    let error = uninstall(&cluster.client(), &options, &Silent)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("(DaemonSet istio-cni-node) do not exist"),
        "{error}"
    );
    assert!(
        !cluster
            .writes()
            .iter()
            .any(|write| write.starts_with("DELETE"))
    );
}

#[tokio::test]
async fn what_ran_for_gateways_goes_and_the_gateways_stay() {
    let cluster = Cluster::default();
    install_on(&cluster, 5000).await.unwrap();
    let made = |kind: &str, name: &str, labels: serde_json::Value| {
        json!({
            "kind": kind, "metadata": { "name": name, "namespace": "shop", "labels": labels },
        })
    };
    let managed = |by: &str| json!({ "gateway.istio.io/managed": by });
    let path =
        |group: &str, plural: &str, name: &str| format!("/{group}/namespaces/shop/{plural}/{name}");
    let gone = [
        ("apis/apps/v1", "Deployment", "deployments"),
        ("api/v1", "Service", "services"),
        ("api/v1", "ServiceAccount", "serviceaccounts"),
        (
            "apis/policy/v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
        ),
    ];
    for (group, kind, plural) in gone {
        for (name, by) in [
            ("waypoint", "istio.io-mesh-controller"),
            ("edge", "istio.io-gateway-controller"),
        ] {
            cluster.put(&path(group, plural, name), made(kind, name, managed(by)));
        }
        // Of somebody else, or of nobody.
        let other = managed("example.com-other");
        cluster.put(&path(group, plural, "other"), made(kind, "other", other));
        cluster.put(&path(group, plural, "app"), made(kind, "app", json!({})));
    }
    let classes = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
    let class = |name: &str, by: &str| {
        json!({
            "kind": "GatewayClass",
            "metadata": { "name": name, "labels": { "app.kubernetes.io/managed-by": by } },
        })
    };
    cluster.put(&format!("{classes}/istio"), class("istio", "tulle"));
    cluster.put(
        &format!("{classes}/istio-waypoint"),
        class("istio-waypoint", "helm"),
    );
    uninstall_on(&cluster, false, false).await.unwrap();
    for (group, _, plural) in gone {
        for name in ["waypoint", "edge"] {
            assert!(
                cluster.get(&path(group, plural, name)).is_none(),
                "{plural} {name}"
            );
        }
        for name in ["other", "app"] {
            assert!(
                cluster.get(&path(group, plural, name)).is_some(),
                "{plural} {name}"
            );
        }
    }
    assert!(cluster.get(&format!("{classes}/istio")).is_none());
    assert!(cluster.get(&format!("{classes}/istio-waypoint")).is_some());
}
