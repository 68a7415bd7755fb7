use serde_json::{Value, json};

use super::{Right, describe_rights, missing_rights, review_token};
use crate::Error;
use crate::fake::{Answer, Fake};

fn review(status: Value) -> Fake {
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": { "token": "t" }, "status": status,
    });
    Fake::new(vec![Answer::Json(201, body)])
}

#[tokio::test]
async fn a_pod_token_tells_account_pod_and_node() {
    let fake = review(json!({
        "authenticated": true, "audiences": ["istio-ca"],
        "user": {
            "username": "system:serviceaccount:istio-system:ztunnel", "uid": "1",
            "groups": ["system:serviceaccounts"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["ztunnel-abc"],
                "authentication.kubernetes.io/node-name": ["one", "two"],
            },
        },
    }));
    let identity = review_token(&fake.client(), "t", &["istio-ca"])
        .await
        .unwrap();
    assert_eq!(
        identity.service_account(),
        Some(("istio-system", "ztunnel"))
    );
    assert_eq!(identity.claim("pod-name"), Some("ztunnel-abc"));
    assert_eq!(
        identity.claim("node-name"),
        None,
        "an ambiguous claim is no claim"
    );
    assert_eq!(identity.claim("pod-uid"), None);
    assert!(
        fake.requests()[0].contains(r#""audiences":["istio-ca"]"#),
        "{:?}",
        fake.requests()
    );
}

#[tokio::test]
async fn other_tokens_are_refused() {
    let user = json!({ "username": "system:serviceaccount:a:b" });
    for (name, status) in [
        ("no answer", json!({})),
        (
            "not authenticated",
            json!({ "authenticated": false, "user": user }),
        ),
        (
            "error",
            json!({ "authenticated": true, "error": "bad", "audiences": ["istio-ca"] }),
        ),
        (
            "no audience",
            json!({ "authenticated": true, "user": user }),
        ),
        (
            "other audience",
            json!({ "authenticated": true, "user": user, "audiences": ["x"] }),
        ),
    ] {
        let answer = review_token(&review(status).client(), "t", &["istio-ca"]).await;
        assert!(
            matches!(answer, Err(Error::TokenRefused { .. })),
            "{name}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn impossible_tokens_are_not_even_asked_about() {
    let fake = Fake::new(vec![]);
    for token in [String::new(), "x".repeat(1 << 20)] {
        let answer = review_token(&fake.client(), &token, &["istio-ca"]).await;
        assert!(matches!(answer, Err(Error::TokenRefused { .. })));
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn only_service_accounts_have_a_namespace() {
    for (username, wanted) in [
        ("system:serviceaccount:a:b", Some(("a", "b"))),
        ("system:serviceaccount:a:b:c", None),
        ("system:serviceaccount::b", None),
        ("system:serviceaccount:a:", None),
        ("system:serviceaccount:a", None),
        ("system:serviceaccount:a:../b", None),
        ("system:node:one", None),
        ("", None),
    ] {
        let identity = super::TokenIdentity {
            username: username.to_owned(),
            groups: vec![],
            extra: Default::default(),
        };
        assert_eq!(identity.service_account(), wanted, "{username}");
    }
}

#[tokio::test]
async fn missing_rights_are_listed_in_words() {
    let answer =
        |allowed: bool| Answer::Json(201, json!({ "spec": {}, "status": { "allowed": allowed } }));
    let fake = Fake::new(vec![answer(true), answer(false), answer(false)]);
    let right = |verb: &str, group: &str, resource: &str, namespace: Option<&str>| Right {
        verb: verb.to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.map(str::to_owned),
    };
    let wanted = [
        right("list", "", "pods", None),
        right("create", "apps", "daemonsets", Some("istio-system")),
        right("patch", "", "pods/status", None),
    ];
    let missing = missing_rights(&fake.client(), &wanted).await.unwrap();
    let text = describe_rights(&missing);
    assert_eq!(
        text,
        "create daemonsets.apps in istio-system, patch pods/status"
    );
    assert!(fake.requests()[2].contains(r#""subresource":"status""#));
}
