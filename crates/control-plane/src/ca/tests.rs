use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use tulle_identity::{Authority, CertificateRequest};
use tulle_model::Identity;
use tulle_xds::server::{AuthError, Caller, SignError, Signer, SigningRequest};

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

/// A gate that knows the pods of [`service`], and a waypoint's.
fn gate() -> super::Gate {
    let never = tower::service_fn(
        |_: http::Request<tulle_cluster::kube::client::Body>| async {
            std::future::pending::<
                Result<http::Response<tulle_cluster::kube::client::Body>, std::convert::Infallible>,
            >()
            .await
        },
    );
    let CertificateService {
        rules,
        authority,
        metrics,
    } = service();
    let pod = json!({
        "metadata": {
            "name": "waypoint-1", "namespace": "default", "uid": "w",
            "labels": { "gateway.networking.k8s.io/gateway-name": "waypoint" },
        },
        "spec": { "serviceAccountName": "waypoint", "nodeName": "one", "containers": [] },
    });
    rules.pods.upsert(&serde_json::from_value(pod).unwrap());
    super::Gate {
        tokens: crate::tokens::Tokens::new(tulle_cluster::Client::new(never, "default")),
        pods: rules.pods,
        node_accounts: rules.trusted,
        authority,
        metrics,
    }
}

fn caller(namespace: &str, account: &str, pod: &str, uid: &str) -> Caller {
    Caller {
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        pod_name: Some(pod.to_owned()),
        pod_uid: Some(uid.to_owned()),
        ..Caller::default()
    }
}

#[tokio::test]
async fn a_proxy_is_its_pods_gateway_and_nobody_elses() {
    let gate = gate();
    let waypoint = caller("default", "waypoint", "waypoint-1", "w");
    let known = gate.with_gateway(waypoint).await.unwrap();
    assert_eq!(known.gateway.as_deref(), Some("default/waypoint"));
    let node_proxy = caller("istio-system", "ztunnel", "ztunnel-1", "ztunnel-1");
    assert_eq!(gate.with_gateway(node_proxy).await.unwrap().gateway, None);
    let application = caller("default", "sleep", "sleep-1", "sleep-1");
    assert_eq!(gate.with_gateway(application).await.unwrap().gateway, None);
    // A token of another account, of a pod that was there before, or of one that nobody knows.
    let other = caller("default", "sleep", "waypoint-1", "w");
    assert!(matches!(
        gate.with_gateway(other).await,
        Err(AuthError::Refused(_))
    ));
    for (pod, uid) in [("waypoint-1", "older"), ("waypoint-9", "w")] {
        let unknown = caller("default", "waypoint", pod, uid);
        assert!(matches!(
            gate.with_gateway(unknown).await,
            Err(AuthError::Unavailable(_))
        ));
    }
}
