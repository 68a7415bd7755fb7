//! Enough of an API server: objects by path, server-side apply, lists and watches.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tulle_cluster::Client;
use tulle_cluster::kube::client::Body;

/// Group and version, kind, plural.
const KINDS: [(&str, &str, &str); 6] = [
    ("api/v1", "Service", "services"),
    ("api/v1", "ServiceAccount", "serviceaccounts"),
    ("api/v1", "ConfigMap", "configmaps"),
    ("apis/apps/v1", "Deployment", "deployments"),
    (
        "apis/autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    ),
    (
        "apis/policy/v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    ),
];

#[derive(Clone, Default)]
pub(super) struct Cluster(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Version, plural, and the event as the wire has it.
    events: Vec<(u64, String, Value)>,
    writes: Vec<String>,
    managers: BTreeSet<String>,
    /// Writes that are refused before any is taken.
    refusals: usize,
}

impl Cluster {
    pub(super) fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        Client::new(service, "default")
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub(super) fn writes(&self) -> Vec<String> {
        self.state().writes.clone()
    }

    pub(super) fn managers(&self) -> BTreeSet<String> {
        self.state().managers.clone()
    }

    pub(super) fn refuse(&self, writes: usize) {
        self.state().refusals = writes;
    }

    /// Somebody else writes.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.state().store(path, object);
        self.0.changed.notify_waiters();
    }

    pub(super) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        change(&mut object);
        self.put(path, object);
    }

    pub(super) fn remove(&self, path: &str) {
        self.state().remove(path);
        self.0.changed.notify_waiters();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        if query.split('&').any(|pair| pair == "watch=true") {
            return self.watch(&path, &query).await;
        }
        let (code, answer) = self.state().answer(&head.method, &path, &query, &body);
        self.0.changed.notify_waiters();
        respond(code, answer.to_string())
    }

    /// Waits for events after the version that is known, and ends with them: the watcher comes again.
    async fn watch(&self, path: &str, query: &str) -> Response<Body> {
        let since = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="))
            .map_or(0, |version| version.parse::<u64>().unwrap());
        let plural = path.rsplit('/').next().unwrap().to_owned();
        loop {
            let notified = self.0.changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let lines: String = self
                .state()
                .events
                .iter()
                .filter(|(version, of, _)| *version > since && *of == plural)
                .map(|(_, _, event)| format!("{event}\n"))
                .collect();
            if !lines.is_empty() {
                return respond(200, lines);
            }
            notified.await;
        }
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        if let Some(resources) = resources(path) {
            return (200, resources);
        }
        let plural = path.rsplit('/').next().unwrap_or_default();
        let is_collection = KINDS.iter().any(|(.., known)| *known == plural);
        match *method {
            Method::GET if is_collection => (200, self.list(plural)),
            Method::GET => self
                .objects
                .get(path)
                .map_or_else(not_found, |object| (200, object.clone())),
            Method::PATCH => {
                self.writes.push(format!("PATCH {path}"));
                if self.refusals > 0 {
                    self.refusals -= 1;
                    return (
                        503,
                        json!({ "kind": "Status", "code": 503, "reason": "ServiceUnavailable", "message": "busy", "status": "Failure" }),
                    );
                }
                let manager = query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("fieldManager="));
                self.managers
                    .extend(manager.map(|name| name.replace("%2F", "/")));
                (200, self.apply(path, serde_json::from_slice(body).unwrap()))
            }
            Method::DELETE => {
                self.writes.push(format!("DELETE {path}"));
                self.remove(path);
                (
                    200,
                    json!({ "kind": "Status", "status": "Success", "code": 200 }),
                )
            }
            ref other => panic!("{other} {path}"),
        }
    }

    fn list(&self, plural: &str) -> Value {
        let of = |path: &&String| path.rsplit('/').nth(1) == Some(plural);
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(path, _)| of(path))
            .map(|(_, o)| o)
            .collect();
        json!({
            "apiVersion": "v1", "kind": "List", "items": items,
            "metadata": { "resourceVersion": self.version.to_string() },
        })
    }

    /// What others wrote and the patch does not name stays.
    fn apply(&mut self, path: &str, mut patch: Value) -> Value {
        let before = self.objects.get(path).cloned().unwrap_or_else(|| json!({}));
        patch["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        let mut after = before.clone();
        merge(&mut after, patch);
        if after == before {
            return before;
        }
        self.store(path, after)
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let known = self.objects.insert(path.to_owned(), object.clone());
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(path, kind, object.clone());
        object
    }

    fn remove(&mut self, path: &str) {
        if let Some(object) = self.objects.remove(path) {
            self.version += 1;
            self.tell(path, "DELETED", object);
        }
    }

    fn tell(&mut self, path: &str, kind: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let plural = path.rsplit('/').nth(1).unwrap_or_default().to_owned();
        let event = json!({ "type": kind, "object": object });
        self.events.push((self.version, plural, event));
    }
}

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch,
    }
}

fn resources(path: &str) -> Option<Value> {
    let of = path.strip_prefix('/')?;
    let known: Vec<Value> = KINDS
        .iter()
        .filter(|(version, ..)| *version == of)
        .map(|(_, kind, plural)| {
            json!({ "name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"] })
        })
        .collect();
    let group = of.trim_start_matches("apis/").trim_start_matches("api/");
    let list = json!({ "kind": "APIResourceList", "groupVersion": group, "resources": known });
    (!known.is_empty()).then_some(list)
}

fn not_found() -> (u16, Value) {
    let status = json!({
        "kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404,
    });
    (404, status)
}

fn respond(code: u16, text: String) -> Response<Body> {
    let body = Body::from(text.into_bytes());
    Response::builder().status(code).body(body).unwrap()
}
