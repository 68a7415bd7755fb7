use super::Error;
use crate::fake::{Fake, refusal};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

#[tokio::test]
async fn every_refusal_says_which_object_and_what_to_do() {
    for (code, reason, wanted) in [
        (401, "Unauthorized", "does not accept these credentials"),
        (
            403,
            "Forbidden",
            "not allowed to apply /api/v1/namespaces/a/configmaps/b",
        ),
        (409, "Conflict", "conflict with another writer"),
        (422, "Invalid", "refuses the object"),
        (500, "InternalError", "answered 500"),
    ] {
        let fake = Fake::new(vec![refusal(code, reason, "because")]);
        let api: Api<ConfigMap> = Api::namespaced(fake.client(), "a");
        let object = serde_json::json!({});
        let error = crate::apply(&api, "b", "tulle", &object).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(wanted), "{text}");
        assert!(text.contains("/api/v1/namespaces/a/configmaps/b"), "{text}");
        assert!(text.contains("because"), "{text}");
        assert_eq!(error.is_transient(), code == 500);
    }
}

#[tokio::test]
async fn a_silent_server_is_unreachable() {
    let fake = Fake::new(vec![]);
    let api: Api<ConfigMap> = Api::namespaced(fake.client(), "a");
    let deadline = std::time::Duration::from_millis(50);
    let error = crate::write::within(deadline, "read b".to_owned(), api.get("b"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn an_absent_object_is_no_error_when_reading_or_deleting() {
    let fake = Fake::new(vec![
        refusal(404, "NotFound", "no"),
        refusal(404, "NotFound", "no"),
    ]);
    let api: Api<ConfigMap> = Api::namespaced(fake.client(), "a");
    assert!(crate::get(&api, "b").await.unwrap().is_none());
    assert!(!crate::delete(&api, "b").await.unwrap());
}
