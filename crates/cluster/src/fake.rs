//! A scripted API server: answers requests in the order of its script and remembers them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// One answer.
pub(crate) enum Answer {
    Json(u16, Value),
    /// A watch that sends these events and then ends.
    Events(Vec<Value>),
    /// A request that is never answered.
    Silence,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    script: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) fn new(script: Vec<Answer>) -> Self {
        Self {
            script: Arc::new(Mutex::new(script.into())),
            ..Self::default()
        }
    }

    /// "GET /api/v1/pods?limit=250 <body>" of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        self.requests
            .lock()
            .unwrap()
            .push(format!("{} {} {body}", head.method, head.uri));
        let answer = self
            .script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Answer::Silence);
        let (code, text) = match answer {
            Answer::Json(code, value) => (code, value.to_string()),
            Answer::Events(events) => (
                200,
                events.iter().map(|event| format!("{event}\n")).collect(),
            ),
            Answer::Silence => std::future::pending().await,
        };
        Response::builder()
            .status(code)
            .body(Body::from(text.into_bytes()))
            .unwrap()
    }
}

/// A ConfigMap with one datum.
pub(crate) fn config_map(name: &str, version: u32, datum: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": { "key": datum },
        "metadata": {
            "name": name, "namespace": "default", "resourceVersion": version.to_string(),
            "managedFields": [{ "manager": "kubectl" }],
        },
    })
}

/// A page of a list.
pub(crate) fn page(version: u32, next: Option<&str>, items: Vec<Value>) -> Answer {
    Answer::Json(
        200,
        json!({
            "apiVersion": "v1", "kind": "ConfigMapList", "items": items,
            "metadata": { "resourceVersion": version.to_string(), "continue": next },
        }),
    )
}

/// One event of a watch.
pub(crate) fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// An answer that is not success.
pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    Answer::Json(code, status(code, reason, message))
}

/// The body of such an answer.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}
