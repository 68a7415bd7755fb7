use tulle_identity::Authority;
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

/// As the API server calls it: TLS with the mesh's roots and the Service's name, HTTP/2.
#[tokio::test]
async fn a_review_is_answered_over_tls() {
    let authority = Authority::new_self_signed("cluster.local").unwrap();
    let name = "istiod.istio-system.svc".to_owned();
    let tls = crate::serving::start(&authority, std::slice::from_ref(&name)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let deployments = Deployments::new(Plane {
        namespace: "istio-system".to_owned(),
        revision: "default".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    });
    let template = Arc::new(Template::default());
    let serving = tokio::spawn(serve(listener, tls, template, deployments));
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let client = ClientTls::new(authority.root_pem()).unwrap();
    let stream = client.connect(&name, tcp).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("https://{name}/inject?timeout=10s"))
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
    serving.abort();
}
