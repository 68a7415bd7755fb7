//! A small API server in memory, with controllers that act at once: enough for the engine's order and its endings.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use serde_json::{Value, json};
use tulle_cluster::kube::Client;
use tulle_cluster::kube::client::Body;

/// How the cluster behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub minor: u32,
    pub administrator: bool,
    /// Workloads become ready.
    pub works: bool,
    /// Node agents let pods go when asked.
    pub lets_go: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            minor: 36,
            administrator: true,
            works: true,
            lets_go: true,
        }
    }
}

#[derive(Clone, Default)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    manner: Manner,
    /// By API path.
    objects: BTreeMap<String, Value>,
    /// "PATCH <path>" and "DELETE <path>" in order.
    writes: Vec<String>,
}

/// Group and version, kind, plural, namespaced.
const KINDS: &[(&str, &str, &str, bool)] = &[
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Pod", "pods", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "Event", "events", true),
    ("v1", "ResourceQuota", "resourcequotas", true),
    (
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        true,
    ),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        true,
    ),
    (
        "policy/v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        true,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
    ),
    (
        "gateway.networking.k8s.io/v1",
        "GatewayClass",
        "gatewayclasses",
        false,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        "clusterroles",
        false,
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        false,
    ),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "rolebindings",
        true,
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
];

impl Cluster {
    pub fn new(manner: Manner) -> Self {
        let cluster = Cluster::default();
        cluster.state.lock().unwrap().manner = manner;
        cluster
    }

    pub fn client(&self) -> Client {
        let state = self.state.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, answer) = state.lock().unwrap().answer(&head, &body);
                let response = Response::builder().status(code);
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(response.body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    pub fn put(&self, path: &str, object: Value) {
        self.state
            .lock()
            .unwrap()
            .objects
            .insert(path.to_owned(), object);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    pub fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub fn writes(&self) -> Vec<String> {
        self.state.lock().unwrap().writes.clone()
    }

    pub fn pod(
        &self,
        namespace: &str,
        name: &str,
        labels: Value,
        annotations: Value,
        status: Value,
    ) {
        let metadata = json!({
            "name": name, "namespace": namespace, "labels": labels, "annotations": annotations,
        });
        let pod = json!({ "metadata": metadata, "spec": { "containers": [] }, "status": status });
        self.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), pod);
    }
}

impl State {
    fn answer(&mut self, head: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        if path == "/version" {
            return (200, self.version());
        }
        if path.ends_with("/selfsubjectaccessreviews") {
            let mut review: Value = serde_json::from_slice(body).unwrap();
            review["status"] = json!({ "allowed": self.manner.administrator });
            return (201, review);
        }
        if let Some(list) = resources(&path) {
            return (200, list);
        }
        match head.method {
            Method::GET if is_collection(&path) => (200, self.list(&path, &query)),
            Method::GET => found(self.objects.get(&path).cloned()),
            Method::PATCH => {
                self.writes.push(format!("PATCH {path}"));
                let apply = head.headers["content-type"]
                    .to_str()
                    .unwrap()
                    .contains("apply");
                (
                    200,
                    self.patch(&path, serde_json::from_slice(body).unwrap(), apply),
                )
            }
            Method::DELETE => {
                self.writes.push(format!("DELETE {path}"));
                found(self.delete(&path))
            }
            ref other => panic!("{other} {path}"),
        }
    }

    fn version(&self) -> Value {
        json!({
            "major": "1", "minor": format!("{}+", self.manner.minor),
            "gitVersion": format!("v1.{}.0", self.manner.minor),
            "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        })
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let (parent, plural) = path.rsplit_once('/').unwrap();
        let selector = |name: &str| {
            let found = query
                .split('&')
                .find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            let text = found.unwrap_or_default();
            text.replace("%3D", "=")
                .replace("%2C", ",")
                .replace("%21", "!")
                .replace("%2F", "/")
        };
        let (labels, fields) = (selector("labelSelector"), selector("fieldSelector"));
        let items: Vec<Value> = self
            .objects
            .iter()
            .filter(|(at, _)| {
                let (collection, _) = at.rsplit_once('/').unwrap();
                let (above, kind) = collection.rsplit_once('/').unwrap();
                kind == plural && above.starts_with(parent)
            })
            .map(|(_, object)| object.clone())
            .filter(|object| {
                labels
                    .split(',')
                    .filter(|term| !term.is_empty())
                    .all(|term| {
                        let (name, value) = term.split_once('=').unwrap();
                        object["metadata"]["labels"][name] == value
                    })
            })
            .filter(|object| match fields.strip_prefix("metadata.name=") {
                Some(name) => object["metadata"]["name"] == name,
                None => true,
            })
            .collect();
        json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
    }

    fn patch(&mut self, path: &str, patch: Value, apply: bool) -> Value {
        let mut object = self
            .objects
            .remove(path)
            .unwrap_or_else(|| json!({ "metadata": {} }));
        if apply {
            let status = object["status"].take();
            object = patch;
            object["status"] = status;
        } else {
            merge(&mut object, patch);
        }
        object["metadata"]["generation"] = json!(1);
        self.act(path, &mut object);
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// What the cluster's controllers, the control plane and the node agents would do.
    fn act(&mut self, path: &str, object: &mut Value) {
        let (collection, name) = path.rsplit_once('/').unwrap();
        let plural = collection.rsplit('/').next().unwrap();
        let works = i32::from(self.manner.works);
        match plural {
            "deployments" => {
                object["status"] = json!({
                    "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": works,
                });
                if self.manner.works {
                    let name = "istio-ca-root-cert";
                    let root = json!({ "metadata": { "name": name, "namespace": "istio-system" } });
                    let path = format!("/api/v1/namespaces/istio-system/configmaps/{name}");
                    self.objects.insert(path, root);
                }
            }
            "daemonsets" => {
                object["status"] = json!({
                    "observedGeneration": 1, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
                    "numberMisscheduled": 0, "numberReady": 2 * works,
                    "updatedNumberScheduled": 2, "numberAvailable": 2 * works,
                });
            }
            "customresourcedefinitions" => {
                object["status"] = json!({
                    "conditions": [{ "type": "Established", "status": "True" }],
                });
            }
            "namespaces" if name == "istio-system" => {
                let leave = object["metadata"]["annotations"]["tulle.mesh/unenroll"] == "true";
                if leave && self.manner.lets_go {
                    for pod in self
                        .objects
                        .iter_mut()
                        .filter(|(at, _)| at.contains("/pods/"))
                    {
                        pod.1["metadata"]["annotations"] = json!({});
                    }
                }
            }
            _ => {}
        }
    }

    fn delete(&mut self, path: &str) -> Option<Value> {
        let object = self.objects.remove(path)?;
        if path.starts_with("/api/v1/namespaces/") {
            let inside = format!("{path}/");
            self.objects.retain(|at, _| !at.contains(&inside));
        }
        let labels = object["spec"]["selector"]["matchLabels"].clone();
        if labels.is_object() {
            self.objects.retain(|at, pod| {
                let own = labels
                    .as_object()
                    .unwrap()
                    .iter()
                    .all(|(k, v)| pod["metadata"]["labels"][k] == *v);
                !(at.contains("/pods/") && own)
            });
        }
        Some(object)
    }
}

fn merge(base: &mut Value, patch: Value) {
    match patch {
        Value::Object(patch) => {
            if !base.is_object() {
                *base = json!({});
            }
            for (name, value) in patch {
                if value.is_null() {
                    base.as_object_mut().unwrap().remove(&name);
                } else {
                    merge(&mut base[name.as_str()], value);
                }
            }
        }
        other => *base = other,
    }
}

fn is_collection(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap();
    KINDS.iter().any(|(_, _, plural, _)| *plural == last)
}

fn resources(path: &str) -> Option<Value> {
    let version = path
        .strip_prefix("/apis/")
        .or_else(|| path.strip_prefix("/api/"))?;
    let known: Vec<Value> = KINDS
        .iter()
        .filter(|(api_version, ..)| *api_version == version)
        .map(|(_, kind, plural, namespaced)| {
            json!({ "name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "patch", "delete"] })
        })
        .collect();
    let list = json!({ "kind": "APIResourceList", "groupVersion": version, "resources": known });
    (!known.is_empty()).then_some(list)
}

fn found(object: Option<Value>) -> (u16, Value) {
    match object {
        Some(object) => (200, object),
        None => (
            404,
            json!({
                "kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404,
            }),
        ),
    }
}
