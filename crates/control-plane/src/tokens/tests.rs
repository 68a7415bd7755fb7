use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tulle_cluster::kube::client::Body;
use tulle_cluster::{Client, Error};

use super::Tokens;

/// An API server that knows one token, and counts how often it is asked.
fn api(asked: Arc<AtomicUsize>) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let asked = asked.clone();
        async move {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            let body = request.into_body().collect_bytes().await.unwrap();
            let review: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(review["spec"]["audiences"], json!(["istio-ca"]));
            let username = match review["spec"]["token"].as_str().unwrap() {
                "good" => "system:serviceaccount:istio-system:ztunnel",
                _ => "system:node:one",
            };
            let answer = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": review["spec"],
                "status": {
                    "authenticated": true, "audiences": ["istio-ca"],
                    "user": {
                        "username": username,
                        "extra": {
                            "authentication.kubernetes.io/pod-name": ["ztunnel-1"],
                            "authentication.kubernetes.io/pod-uid": ["uid"],
                        },
                    },
                },
            });
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(http::Response::builder().status(201).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn one_token_is_asked_about_once_also_by_many_at_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens = Tokens::new(api(asked.clone()));
    let answers = futures_util::future::join_all((0..50).map(|_| tokens.caller("good"))).await;
    for answer in answers {
        let caller = answer.unwrap();
        assert_eq!(
            (&*caller.namespace, &*caller.service_account),
            ("istio-system", "ztunnel")
        );
        assert_eq!(caller.pod_name.as_deref(), Some("ztunnel-1"));
        assert_eq!(caller.node, None);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn only_service_accounts_are_let_in_and_refusals_are_not_remembered() {
    let asked = Arc::new(AtomicUsize::new(0));
    let tokens = Tokens::new(api(asked.clone()));
    for _ in 0..2 {
        let answer = tokens.caller("of a node").await;
        assert!(
            matches!(answer, Err(Error::TokenRefused { .. })),
            "{answer:?}"
        );
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}
