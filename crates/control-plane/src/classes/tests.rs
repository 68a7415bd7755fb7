use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tulle_cluster::kube::client::Body;

use super::*;

/// A cluster with the Gateway API, in which these classes exist; it remembers what is made.
fn api(there: &'static [&'static str], made: Arc<Mutex<Vec<Value>>>) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let made = made.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let path = head.uri.path();
            let query = head.uri.query().unwrap_or_default();
            let answer = if path.contains("/customresourcedefinitions/") {
                json!({
                    "metadata": { "name": "gatewayclasses.gateway.networking.k8s.io" },
                    "spec": {
                        "group": "gateway.networking.k8s.io", "scope": "Cluster",
                        "names": { "kind": "GatewayClass", "plural": "gatewayclasses" },
                        "versions": [{ "name": "v1", "served": true, "storage": true }],
                    },
                })
            } else if head.method == http::Method::POST {
                let object: Value = serde_json::from_slice(&body).unwrap();
                // The API server refuses more.
                assert!(object["spec"]["description"].as_str().unwrap().len() <= 64);
                made.lock().unwrap().push(object.clone());
                object
            } else if query.contains("watch=") {
                std::future::pending().await
            } else {
                let items: Vec<Value> = there
                    .iter()
                    .map(|name| class(name, "example.com/user", "the user's own words"))
                    .collect();
                json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items })
            };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(http::Response::builder().status(200).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

async fn made(there: &'static [&'static str]) -> Vec<(String, String)> {
    let made = Arc::new(Mutex::new(Vec::new()));
    let client = api(there, made.clone());
    let (_leads, leading) = watch::channel(true);
    let keeping = keep(client, leading);
    let _ = tokio::time::timeout(Duration::from_millis(300), keeping).await;
    let made = made.lock().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    made.iter()
        .map(|o| {
            (
                text(&o["metadata"]["name"]),
                text(&o["spec"]["controllerName"]),
            )
        })
        .collect()
}

#[tokio::test]
async fn missing_classes_are_made_once_and_others_are_left_as_they_are() {
    let both = [
        ("istio".to_owned(), "istio.io/gateway-controller".to_owned()),
        (
            "istio-waypoint".to_owned(),
            "istio.io/mesh-controller".to_owned(),
        ),
    ];
    assert_eq!(made(&[]).await, both);
    assert_eq!(made(&["istio", "other"]).await, both[1..]);
    assert!(made(&["istio", "istio-waypoint"]).await.is_empty());
}

#[tokio::test]
async fn who_does_not_lead_makes_nothing() {
    let made = Arc::new(Mutex::new(Vec::new()));
    let (_leads, leading) = watch::channel(false);
    let keeping = keep(api(&[], made.clone()), leading);
    let _ = tokio::time::timeout(Duration::from_millis(100), keeping).await;
    assert!(made.lock().unwrap().is_empty());
}
