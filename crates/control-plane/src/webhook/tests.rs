use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tulle_identity::Authority;
use tulle_identity::backend;
use tulle_identity::grpc::ClientTls;

use super::*;
use crate::deployer::Plane;

fn configuration(bundles: &[Option<&str>]) -> DynamicObject {
    let webhooks: Vec<Value> = bundles
        .iter()
        .map(|bundle| {
            let mut webhook =
                json!({ "name": "w", "clientConfig": { "service": { "name": "istiod" } } });
            if let Some(bundle) = bundle {
                webhook["clientConfig"]["caBundle"] = (*bundle).into();
            }
            webhook
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": CONFIGURATION, "resourceVersion": "7" }, "webhooks": webhooks,
    }))
    .unwrap()
}

#[test]
fn every_webhook_gets_the_roots_and_what_is_right_is_not_written() {
    let patch = with_roots(&configuration(&[None, Some("b2xk")]), "new").unwrap();
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    for webhook in patch["webhooks"].as_array().unwrap() {
        assert_eq!(webhook["clientConfig"]["caBundle"], "bmV3");
        assert_eq!(webhook["clientConfig"]["service"]["name"], "istiod");
    }
    assert_eq!(with_roots(&configuration(&[Some("bmV3")]), "new"), None);
}

const NAME: &str = "istiod.istio-system.svc";

fn deployments() -> Deployments {
    Deployments::new(Plane {
        namespace: "istio-system".to_owned(),
        revision: "default".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    })
}

/// Serves on a free port; ends with the test's runtime.
async fn start(authority: &Authority) -> std::net::SocketAddr {
    let tls = crate::serving::start(authority, &[NAME.to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, tls, Arc::default(), deployments()));
    address
}

/// As the API server calls it: TLS with the mesh's roots and the Service's name, HTTP/1.1, with and without saying so.
#[tokio::test]
async fn a_review_is_answered_over_http1() {
    let authority = Authority::new_self_signed("cluster.local").unwrap();
    let address = start(&authority).await;
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let client = backend::ClientTls::new(&backend::Settings {
            roots: Some(authority.root_pem()),
            certificate: None,
            expected: backend::Expected::ServerName,
            alpn,
        });
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut stream, agreed) = client.unwrap().connect(NAME, tcp).await.unwrap();
        assert_eq!(agreed.is_some(), !alpn.is_empty());
        let review =
            json!({ "request": { "uid": "u", "namespace": "n", "object": {} } }).to_string();
        let length = review.len();
        let head = format!(
            "POST /inject?timeout=10s HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream
            .write_all(format!("{head}{review}").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        // Without a close_notify the end is an error; what came before counts.
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["response"], json!({ "uid": "u", "allowed": true }));
    }
}

/// As other clients may call it.
#[tokio::test]
async fn a_review_is_answered_over_http2() {
    let authority = Authority::new_self_signed("cluster.local").unwrap();
    let address = start(&authority).await;
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let client = ClientTls::new(authority.root_pem()).unwrap();
    let stream = client.connect(NAME, tcp).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("https://{NAME}/inject?timeout=10s"))
        .body(())
        .unwrap();
    let (response, mut body) = send.send_request(request, false).unwrap();
    let review = json!({ "request": { "uid": "u", "namespace": "n", "object": {} } });
    body.send_data(review.to_string().into(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let mut answer = Vec::new();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        answer.extend_from_slice(&chunk.unwrap());
    }
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["uid"], "u");
    assert_eq!(answer["response"]["allowed"], true);
}
