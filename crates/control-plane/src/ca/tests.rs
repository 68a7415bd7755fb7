use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use tulle_identity::{Authority, CertificateRequest};
use tulle_model::Identity;
use tulle_xds::server::{Caller, SignError, Signer, SigningRequest};

use super::{CertificateService, NOT_ALLOWED};
use crate::impersonation::Rules;
use crate::metrics::Metrics;
use crate::pods::Pods;

fn service() -> CertificateService {
    let pods = Pods::new();
    for (namespace, name, account) in [
        ("istio-system", "ztunnel-1", "ztunnel"),
        ("default", "sleep-1", "sleep"),
    ] {
        let pod = json!({
            "metadata": { "name": name, "namespace": namespace, "uid": name },
            "spec": { "serviceAccountName": account, "nodeName": "one", "containers": [] },
        });
        pods.upsert(&serde_json::from_value(pod).unwrap());
    }
    let authority = Authority::new_self_signed("cluster.local").unwrap();
    CertificateService {
        rules: Rules {
            pods,
            trusted: vec![("istio-system".to_owned(), "ztunnel".to_owned())],
        },
        authority: Arc::new(ArcSwap::from_pointee(authority)),
        metrics: Arc::new(Metrics::new()),
    }
}

/// What the node proxy asks for `account`, with a request that names `named`.
fn request(account: &str, named: &str) -> SigningRequest {
    let named = Identity::new("cluster.local", "default", named);
    SigningRequest {
        caller: Caller {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            pod_name: Some("ztunnel-1".to_owned()),
            pod_uid: Some("ztunnel-1".to_owned()),
            node: None,
            gateway: None,
        },
        csr: CertificateRequest::new(&named).unwrap().csr_pem,
        lifetime: Some(Duration::from_secs(3600)),
        impersonated: Some(format!("spiffe://cluster.local/ns/default/sa/{account}")),
    }
}

fn scraped(service: &CertificateService, line: &str) -> bool {
    let text = service
        .metrics
        .registry
        .encode(tulle_telemetry::Format::Prometheus);
    text.lines().any(|l| l == line)
}

#[tokio::test]
async fn a_good_request_is_signed_and_counted() {
    let service = service();
    let chain = service.sign(request("sleep", "sleep")).await.unwrap();
    assert_eq!(chain.len(), 2, "leaf and roots");
    assert_eq!(chain.last().unwrap(), service.authority.load().root_pem());
    assert!(scraped(&service, "citadel_server_csr_count 1"));
    assert!(scraped(
        &service,
        "citadel_server_success_cert_issuance_count 1"
    ));
}

#[tokio::test]
async fn the_caller_learns_only_that_it_is_refused() {
    let service = service();
    let mut elsewhere = request("sleep", "sleep");
    elsewhere.caller.pod_uid = Some("another".to_owned());
    for request in [request("details", "details"), elsewhere] {
        let answer = service.sign(request).await;
        assert_eq!(answer, Err(SignError::Denied(NOT_ALLOWED.to_owned())));
    }
    let line = r#"citadel_server_csr_sign_err_count{error="not_on_node"} 1"#;
    assert!(scraped(&service, line));
    assert!(scraped(
        &service,
        r#"citadel_server_csr_sign_err_count{error="caller_pod"} 1"#
    ));
}

#[tokio::test]
async fn a_request_that_names_somebody_else_or_nothing_sensible_is_not_signed() {
    let service = service();
    let mut rubbish = request("sleep", "sleep");
    rubbish.csr =
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----".into();
    let mut long = request("sleep", "sleep");
    long.lifetime = Some(Duration::from_secs(365 * 24 * 3600));
    for request in [request("sleep", "details"), rubbish, long] {
        let answer = service.sign(request).await;
        assert!(matches!(answer, Err(SignError::Invalid(_))), "{answer:?}");
    }
    assert!(scraped(&service, "citadel_server_csr_parsing_err_count 2"));
}
