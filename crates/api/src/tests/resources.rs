//! Resources and the mesh configuration, as users write them.

use serde_json::json;

use crate::mesh::MeshConfig;
use crate::networking::{DestinationRule, EnvoyFilter, ServiceEntry, VirtualService};
use crate::security::{Action, AuthorizationPolicy, MutualTlsMode, PeerAuthentication};

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn a_policy_as_istio_documents_it() {
    let policy: AuthorizationPolicy = yaml(
        r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: productpage-viewer, namespace: default}
spec:
  selector:
    matchLabels: {app: productpage}
  action: ALLOW
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/default/sa/sleep]
    to:
    - operation: {ports: ['9080']}
    when:
    - {key: source.namespace, values: [default]}
",
    );
    let spec = &policy.spec;
    assert_eq!(spec.action, Some(Action::Allow));
    let rule = &spec.rules.as_ref().unwrap()[0];
    assert_eq!(
        rule.from[0].source.as_ref().unwrap().principals,
        ["cluster.local/ns/default/sa/sleep"]
    );
    assert_eq!(rule.to[0].operation.as_ref().unwrap().ports, ["9080"]);
    assert!(spec.unknown.is_empty() && rule.unknown.is_empty());
    let written = serde_json::to_value(spec).unwrap();
    assert_eq!(
        written["selector"],
        json!({"matchLabels": {"app": "productpage"}})
    );
    assert_eq!(
        written["rules"][0]["when"],
        json!([{"key": "source.namespace", "values": ["default"]}])
    );
}

#[test]
fn newer_fields_and_values_are_noticed() {
    let policy: AuthorizationPolicy = serde_json::from_value(json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "p"},
        "spec": {"action": "SHADOW", "new": 1, "rules": [{"from": [{"source": {"newer": ["x"]}}]}]},
    }))
    .unwrap();
    assert_eq!(policy.spec.action, Some(Action::Unknown));
    assert_eq!(policy.spec.unknown.keys().collect::<Vec<_>>(), ["new"]);
    let source = policy.spec.rules.unwrap()[0].from[0]
        .source
        .clone()
        .unwrap();
    assert_eq!(source.unknown.keys().collect::<Vec<_>>(), ["newer"]);
    let peer: PeerAuthentication = serde_json::from_value(json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "p"},
        "spec": {"mtls": {"mode": "STRICTER"}},
    }))
    .unwrap();
    assert_eq!(peer.spec.mtls.unwrap().mode, MutualTlsMode::Unknown);
}

#[test]
fn the_other_kinds_read_what_istio_documents() {
    let service: VirtualService = yaml(
        r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {end-user: {exact: jason}}
      uri: {prefix: /x}
    fault: {delay: {percentage: {value: 0.1}, fixedDelay: 5s}, abort: {httpStatus: 500}}
    route:
    - destination: {host: reviews, subset: v2, port: {number: 80}}
      weight: 25
",
    );
    let route = &service.spec.http[0];
    assert_eq!(
        route.matches[0].headers["end-user"].exact.as_deref(),
        Some("jason")
    );
    assert_eq!(
        (
            route.route[0].weight,
            route.route[0].destination.subset.as_deref()
        ),
        (Some(25), Some("v2"))
    );
    assert_eq!(
        route
            .fault
            .as_ref()
            .unwrap()
            .abort
            .as_ref()
            .unwrap()
            .http_status,
        Some(500)
    );

    let rule: DestinationRule = yaml(
        r"
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    connectionPool: {http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, h2UpgradePolicy: UPGRADE}}
    outlierDetection: {consecutive5xxErrors: 7}
    tls: {mode: ISTIO_MUTUAL}
",
    );
    let policy = rule.spec.traffic_policy.unwrap();
    let http = policy.connection_pool.unwrap().http.unwrap();
    assert_eq!(
        (http.http1_max_pending_requests, http.http2_max_requests),
        (Some(1), Some(2))
    );
    assert_eq!(
        policy.outlier_detection.unwrap().consecutive_5xx_errors,
        Some(7)
    );

    let filter: EnvoyFilter = serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": {"name": "f"},
        "spec": {"configPatches": [{"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"any": [1]}}}]},
    }))
    .unwrap();
    let patch = filter.spec.config_patches[0].patch.clone().unwrap();
    assert_eq!(patch.value.unwrap().0, json!({"any": [1]}));

    let entry: ServiceEntry = serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "e"},
        "spec": {"hosts": ["x"], "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]},
    }))
    .unwrap();
    assert_eq!(
        entry.spec.resolution.unwrap_or_default(),
        crate::networking::Resolution::None
    );
}

#[test]
fn mesh_configuration() {
    assert_eq!(MeshConfig::parse(" \n").unwrap(), MeshConfig::default());
    let config = MeshConfig::parse(
        "trustDomain: user@example.com\nrootNamespace: mesh-root\nenableTracing: true\ndefaultConfig: {a: [b]}\n",
    )
    .unwrap();
    assert_eq!(
        config.trust_domain, "user.example.com",
        "an @ cannot stand in a certificate"
    );
    assert_eq!(config.root_namespace, "mesh-root");
    let error = MeshConfig::parse("trustDomain: [").unwrap_err().to_string();
    assert!(
        error.contains("ConfigMap istio") && error.contains("kubectl"),
        "{error}"
    );
    assert!(MeshConfig::parse("rootNamespace: {}").is_err());
}

#[test]
fn discovery_selectors_are_ored() {
    let config = MeshConfig::parse(
        r"
discoverySelectors:
- matchLabels: {mesh: 'on'}
- matchExpressions:
  - {key: env, operator: In, values: [prod, test]}
  - {key: off, operator: DoesNotExist}
",
    )
    .unwrap();
    let sees =
        |labels: serde_json::Value| config.discovers(&serde_json::from_value(labels).unwrap());
    assert!(sees(json!({"mesh": "on"})) && sees(json!({"env": "test"})));
    assert!(
        !sees(json!({}))
            && !sees(json!({"env": "dev"}))
            && !sees(json!({"env": "prod", "off": ""}))
    );
    assert!(
        MeshConfig::default().discovers(&Default::default()),
        "without selectors, all"
    );
}
