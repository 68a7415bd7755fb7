//! The deployer against an API server in memory.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tulle_translate::DeployedPort;

use super::*;

mod cluster;

use cluster::Cluster;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/waypoint";
const SERVICE: &str = "/api/v1/namespaces/shop/services/waypoint";
const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/waypoint";
const SCALER: &str = "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers/waypoint";

pub(super) fn waypoint() -> Deployable {
    Deployable {
        namespace: "shop".into(),
        name: "waypoint".into(),
        uid: "uid-1".into(),
        class_name: "istio-waypoint".into(),
        class: Class::Waypoint,
        workload_name: "waypoint".into(),
        service_account: "waypoint".into(),
        service_type: None,
        ports: vec![DeployedPort {
            port: 15008,
            name: "mesh".into(),
            app_protocol: "hbone",
        }],
        addresses: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        parameters: None,
        revision: None,
        controller_version: None,
        captured: false,
    }
}

pub(super) fn plane() -> Plane {
    Plane {
        namespace: "istio-system".to_owned(),
        revision: "default".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    }
}

struct World {
    cluster: Cluster,
    deployments: Deployments,
    leads: watch::Sender<bool>,
    reports: mpsc::Receiver<Report>,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::default();
        let deployments = Deployments::new(plane());
        let (leads, leading) = watch::channel(true);
        let template = Template {
            image: "tulle:1".to_owned(),
            ..Template::default()
        };
        let errors = crate::metrics::Metrics::new().deploy_errors.clone();
        let (reporting, reports) = mpsc::channel(256);
        let task = tokio::spawn(deploy(
            cluster.client(),
            deployments.clone(),
            template,
            leading,
            errors,
            reporting,
        ));
        Self {
            cluster,
            deployments,
            leads,
            reports,
            task,
        }
    }

    fn want(&self, wanted: Deployable) {
        let key = (wanted.namespace.clone(), wanted.name.clone());
        self.deployments.submit(key, Some(wanted));
    }

    async fn until(&self, what: &str, is: impl Fn(&Cluster) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !is(&self.cluster) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: {:#?}", self.cluster.writes());
    }

    /// Nothing is written for longer than any pause of a first trouble.
    async fn quiet(&self) -> usize {
        let mut before = usize::MAX;
        while before != self.cluster.writes().len() {
            before = self.cluster.writes().len();
            tokio::time::sleep(DEPLOY_FIRST * 3).await;
        }
        before
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn what_a_waypoint_needs_is_made_once() {
    let world = World::new();
    world.want(waypoint());
    world
        .until("all three", |cluster| {
            [ACCOUNT, SERVICE, DEPLOYMENT]
                .iter()
                .all(|path| cluster.get(path).is_some())
        })
        .await;
    for path in [ACCOUNT, SERVICE, DEPLOYMENT] {
        let owner = &world.cluster.get(path).unwrap()["metadata"]["ownerReferences"][0];
        assert_eq!(owner["kind"], "Gateway");
        assert_eq!(owner["uid"], "uid-1");
    }
    assert!(world.cluster.get(SCALER).is_none());
    assert!(
        world
            .cluster
            .managers()
            .contains("istio.io/mesh-controller")
    );
    let writes = world.quiet().await;
    // The same again, a status of Kubernetes' own controllers, a new replica count of a scaler: nothing to do.
    world.want(waypoint());
    world.cluster.change(DEPLOYMENT, |object| {
        object["status"] = json!({ "readyReplicas": 1 });
        object["spec"]["replicas"] = json!(3);
        object["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("1");
    });
    assert_eq!(world.quiet().await, writes);
}

#[tokio::test]
async fn what_others_delete_or_change_is_put_right_and_then_left_alone() {
    let world = World::new();
    world.want(waypoint());
    world.until("made", |c| c.get(DEPLOYMENT).is_some()).await;
    world.quiet().await;
    world.cluster.remove(DEPLOYMENT);
    world
        .until("made again", |c| c.get(DEPLOYMENT).is_some())
        .await;
    world
        .cluster
        .change(SERVICE, |object| object["spec"]["type"] = json!("NodePort"));
    world
        .until("put right", |c| {
            c.get(SERVICE).unwrap()["spec"]["type"] == "ClusterIP"
        })
        .await;
    let writes = world.quiet().await;
    assert_eq!(world.quiet().await, writes);
}

#[tokio::test]
async fn an_object_that_was_not_made_for_a_gateway_is_the_users() {
    let world = World::new();
    let users = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "waypoint", "namespace": "shop" }, "spec": { "type": "ExternalName" },
    });
    world.cluster.put(SERVICE, users.clone());
    world.want(waypoint());
    world
        .until("the rest", |c| c.get(DEPLOYMENT).is_some())
        .await;
    world.quiet().await;
    assert_eq!(world.cluster.get(SERVICE).unwrap()["spec"], users["spec"]);
}

#[tokio::test]
async fn parameters_shape_the_objects_and_a_broken_one_changes_nothing() {
    let mut world = World::new();
    let map = |data: Value| -> ConfigMap {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "options", "namespace": "shop" }, "data": data,
        }))
        .unwrap()
    };
    let path = "/api/v1/namespaces/shop/configmaps/options";
    let set = |data: Value| {
        world
            .cluster
            .put(path, serde_json::to_value(map(data.clone())).unwrap());
        world.deployments.config_map(&Ok(map(data)));
    };
    set(json!({
        "horizontalPodAutoscaler": "spec: { maxReplicas: 5 }",
        "deployment": "spec: { replicas: 2 }",
    }));
    let mut wanted = waypoint();
    wanted.parameters = Some("options".into());
    world.want(wanted);
    world.until("a scaler", |c| c.get(SCALER).is_some()).await;
    assert_eq!(world.cluster.get(SCALER).unwrap()["spec"]["maxReplicas"], 5);
    assert_eq!(
        world.cluster.get(DEPLOYMENT).unwrap()["spec"]["replicas"],
        2
    );
    let before = world.quiet().await;
    set(json!({ "deployment": "spec: [" }));
    assert_eq!(world.quiet().await, before);
    let mut reported = Vec::new();
    while let Ok((gateway, problem)) = world.reports.try_recv() {
        assert_eq!(gateway, ("shop".into(), "waypoint".into()));
        reported.push(problem);
    }
    let Some(Some(NotDeployed::Parameters(why))) = reported.pop() else {
        panic!("the owner is not told: {reported:?}");
    };
    assert!(
        why.contains("shop/options") && why.contains("deployment"),
        "{why}"
    );
    assert_eq!(reported.first(), Some(&None), "all was well before");
    // Right again, without the scaler: it goes.
    set(json!({ "deployment": "spec: { replicas: 4 }" }));
    world.until("no scaler", |c| c.get(SCALER).is_none()).await;
    assert_eq!(
        world.cluster.get(DEPLOYMENT).unwrap()["spec"]["replicas"],
        4
    );
}

#[tokio::test]
async fn a_selector_of_an_old_release_stays() {
    let world = World::new();
    let labels = json!({ "istio.io/gateway-name": "waypoint" });
    world.cluster.put(
        DEPLOYMENT,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "waypoint", "namespace": "shop",
                "labels": { "gateway.istio.io/managed": "istio.io-mesh-controller" },
            },
            "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels } } },
        }),
    );
    world.want(waypoint());
    let image = "/spec/template/spec/containers/0/image";
    world
        .until("taken over", |c| {
            c.get(DEPLOYMENT).unwrap().pointer(image) == Some(&json!("tulle:1"))
        })
        .await;
    let deployment = world.cluster.get(DEPLOYMENT).unwrap();
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], labels);
    let template = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(template["istio.io/gateway-name"], "waypoint");
    assert_eq!(
        template["gateway.networking.k8s.io/gateway-name"],
        "waypoint"
    );
}

#[tokio::test]
async fn a_new_name_takes_the_old_objects_away() {
    let world = World::new();
    world.want(waypoint());
    world.until("made", |c| c.get(DEPLOYMENT).is_some()).await;
    let mut renamed = waypoint();
    renamed.workload_name = "other".into();
    renamed.service_account = "other".into();
    world.want(renamed);
    let other = DEPLOYMENT.replace("waypoint", "other");
    world
        .until("renamed", |c| {
            c.get(&other).is_some() && c.get(DEPLOYMENT).is_none()
        })
        .await;
    assert!(world.cluster.get(SERVICE).is_none());
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing_and_a_new_leader_looks_at_everything() {
    let world = World::new();
    world.leads.send_replace(false);
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.want(waypoint());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.cluster.writes().is_empty());
    world.leads.send_replace(true);
    world.until("made", |c| c.get(DEPLOYMENT).is_some()).await;
}

#[tokio::test]
async fn an_api_server_that_refuses_is_asked_again() {
    let world = World::new();
    world.cluster.refuse(2);
    world.want(waypoint());
    world
        .until("made in the end", |c| c.get(DEPLOYMENT).is_some())
        .await;
}
