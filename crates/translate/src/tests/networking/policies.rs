//! AuthorizationPolicy, RequestAuthentication and Telemetry.

use std::sync::Arc;

use tulle_api::mesh::MeshConfig;

use super::world::{apply, bookinfo};
use super::{golden, told};
use crate::Settings;

fn check(name: &str, manifests: &str) {
    let mut cluster = bookinfo();
    apply(&mut cluster, manifests);
    golden(name, &told(&mut cluster));
}

#[test]
fn authorization_for_waypoints() {
    check(
        "authorization",
        r#"
kind: AuthorizationPolicy
metadata: {name: productpage-waypoint}
spec:
  targetRefs: [{kind: Service, group: "", name: productpage}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/curl, "*/sa/other"]}}]
    to: [{operation: {methods: ["GET"], paths: ["/productpage*", "/api/{*}/x/{**}"], notHosts: ["evil.example.com:*"], ports: ["9080"]}}]
    when:
    - {key: "request.headers[X-Role]", values: [admin], notValues: [guest]}
    - {key: "request.auth.claims[groups][inner]", values: [g1]}
    - {key: source.ip, values: [10.0.0.0/8]}
    - {key: connection.sni, values: ["*.example.com"]}
---
kind: AuthorizationPolicy
metadata: {name: deny-at-waypoint, annotations: {istio.io/dry-run: "true"}}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  action: DENY
  rules: [{from: [{source: {notNamespaces: [default], notRemoteIpBlocks: [203.0.113.0/24], notRequestPrincipals: ["*"]}}]}]
---
kind: AuthorizationPolicy
metadata: {name: deny-all, namespace: istio-system}
spec:
  targetRefs: [{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}]
---
kind: AuthorizationPolicy
metadata: {name: nowhere}
spec:
  targetRefs:
  - {kind: Service, group: "", name: nobody}
---
kind: AuthorizationPolicy
metadata: {name: without-waypoint, namespace: other}
spec:
  targetRefs: [{kind: Service, group: "", name: httpbin}]
---
kind: AuthorizationPolicy
metadata: {name: half}
spec:
  targetRefs: [{kind: Service, group: "", name: nobody}, {kind: Service, group: "", name: reviews}]
  action: AUDIT
  rules: [{}]
---
kind: AuthorizationPolicy
metadata: {name: wrong}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  action: DENY
  rules:
  - to: [{operation: {paths: ["/a/{b}"], since: ["2.0"]}}]
    when: [{key: experimental.envoy.filters.x, values: [z]}]
---
kind: AuthorizationPolicy
metadata: {name: custom-without-provider}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  action: CUSTOM
  provider: {name: nobody}
  rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]
---
kind: AuthorizationPolicy
metadata: {name: l4-selector}
spec:
  selector: {matchLabels: {app: reviews}}
  rules: [{from: [{source: {namespaces: [default]}}]}]
"#,
    );
}

#[test]
fn selectors_count_on_gateways() {
    check(
        "authorization_on_gateways",
        r#"
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
kind: AuthorizationPolicy
metadata: {name: ingress-policy, namespace: istio-system}
spec:
  selector: {matchLabels: {app: istio-ingressgateway}}
  action: DENY
  rules: [{from: [{source: {notRequestPrincipals: ["*"]}}], to: [{operation: {paths: [/headers]}}]}]
---
kind: AuthorizationPolicy
metadata: {name: ingress-custom, namespace: istio-system}
spec:
  selector: {matchLabels: {app: istio-ingressgateway}}
  action: CUSTOM
  provider: {name: nobody}
  rules: [{}]
---
kind: RequestAuthentication
metadata: {name: jwt, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  jwtRules: [{issuer: testing@secure.istio.io, jwksUri: "https://example.com/jwks.json"}]
"#,
    );
}

#[test]
fn request_authentication() {
    check(
        "request_authentication",
        r#"
kind: RequestAuthentication
metadata: {name: jwt-example}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  jwtRules:
  - issuer: testing@secure.istio.io
    jwks: '{"keys": []}'
    audiences: [a, b]
    fromHeaders: [{name: X-Jwt, prefix: "Bearer "}]
    fromParams: [token]
    fromCookies: [session]
    forwardOriginalToken: true
    outputPayloadToHeader: X-Payload
    outputClaimToHeaders: [{header: X-Group, claim: nested.group}]
    timeout: 2s
  - issuer: https://accounts.example.com
---
kind: RequestAuthentication
metadata: {name: ignored}
spec:
  selector: {matchLabels: {app: reviews}}
  jwtRules: [{issuer: other@example.com, jwks: '{}'}]
---
kind: RequestAuthentication
metadata: {name: wrong}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  jwtRules: [{issuer: x, jwks: "no json", timeout: soon}]
"#,
    );
}

/// Providers as Istio's tasks configure them.
const MESH: &str = r#"
trustDomain: new-td
trustDomainAliases: [old-td]
accessLogFile: /dev/stdout
accessLogEncoding: JSON
pathNormalization: {normalization: MERGE_SLASHES}
defaultProviders: {tracing: [otel]}
defaultConfig: {tracing: {sampling: 10}, gatewayTopology: {numTrustedProxies: 1}}
extensionProviders:
- name: sample-ext-authz-grpc
  envoyExtAuthzGrpc: {service: ext-authz.foo.svc.cluster.local, port: 9000, failOpen: true}
- name: sample-ext-authz-http
  envoyExtAuthzHttp:
    service: other/httpbin.other.svc.cluster.local
    port: 8000
    timeout: 1s
    statusOnError: "503"
    includeRequestHeadersInCheck: [x-ext-authz]
    includeRequestBodyInCheck: {maxRequestBytes: 1024, allowPartialMessage: true}
    headersToDownstreamOnDeny: [Set-Cookie]
- name: otel
  opentelemetry: {service: otel-collector.observability.svc.cluster.local, port: 4317, resource_detectors: {environment: {}}}
- name: old
  zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}
"#;

fn with_mesh() -> crate::Cluster {
    let mut cluster = bookinfo();
    let mesh = MeshConfig::parse(MESH).unwrap();
    cluster.set_settings(Settings::default().with_mesh(&mesh));
    cluster
}

#[test]
fn telemetry_is_merged_for_each_proxy() {
    let mut cluster = with_mesh();
    apply(
        &mut cluster,
        r#"
kind: Telemetry
metadata: {name: mesh-default, namespace: istio-system}
spec:
  accessLogging: [{providers: [{name: envoy}], filter: {expression: "response.code >= 400"}}]
  tracing: [{randomSamplingPercentage: 100, customTags: {a: {literal: {value: x}}, b: {header: {name: X-B}}, c: {environment: {name: C, defaultValue: d}}}}]
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - {match: {metric: REQUEST_COUNT, mode: SERVER}, tagOverrides: {destination_port: {value: string(destination.port)}, request_protocol: {operation: REMOVE}}}
    - {match: {metric: ALL_METRICS, mode: CLIENT}, disabled: true}
    - {match: {customMetric: istio_request_bytes}, disabled: true}
---
kind: Telemetry
metadata: {name: of-reviews}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  accessLogging: [{providers: [{name: nobody}], disabled: true}]
  tracing: [{disableSpanReporting: true}]
---
kind: Telemetry
metadata: {name: younger, namespace: istio-system, creationTimestamp: "2025-02-01T00:00:00Z"}
spec: {accessLogging: [{disabled: true}]}
"#,
    );
    cluster.take_changes();
    let all = cluster.snapshot();
    let of = |kind: &str, name: &str| {
        let found = all
            .resources
            .iter()
            .find(|(key, _)| key.type_url.ends_with(kind) && &*key.name == name);
        serde_json::to_value(&found.unwrap().1.as_ref().unwrap().1).unwrap()
    };
    let mut found = super::told_of(&all);
    found["telemetry"] = of("Telemetry", "default/waypoint");
    golden("telemetry", &found);
}

#[test]
fn a_provider_of_a_kind_without_effect_is_said() {
    let mut cluster = with_mesh();
    apply(
        &mut cluster,
        r#"
kind: Telemetry
metadata: {name: mesh-default, namespace: istio-system}
spec: {tracing: [{providers: [{name: old}]}]}
"#,
    );
    let text = told(&mut cluster).to_string();
    assert!(text.contains("is of a kind that has no effect"), "{text}");
}

#[test]
fn rate_limits() {
    check(
        "rate_limits",
        r#"
kind: RateLimitPolicy
metadata: {name: reviews}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  match: [{path: {prefix: /api}, methods: [GET, HEAD], headers: [{name: X-A}]}, {path: {suffix: .php}}]
  limits:
  - {name: per-client, requests: 10, per: 1m, burst: 20, key: [{type: ClientIdentity}, {type: Header, name: X-User}, {type: Claim, name: a.b}], scope: Shared, maxKeys: 1000}
  - {requests: 100, per: 1s}
  statusCode: 503
  dryRun: true
---
kind: RateLimitPolicy
metadata: {name: wrong}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  limits: [{requests: 1, per: never}, {requests: 1, per: 1s, key: [{type: Header}]}]
---
kind: RateLimitPolicy
metadata: {name: nowhere, namespace: other}
spec:
  targetRefs: [{kind: Service, group: "", name: httpbin}]
  limits: [{requests: 1, per: 1s}]
"#,
    );
}

#[test]
fn settings_of_the_mesh() {
    let mut cluster = with_mesh();
    apply(
        &mut cluster,
        r#"
kind: AuthorizationPolicy
metadata: {name: ext-authz}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  action: CUSTOM
  provider: {name: sample-ext-authz-http}
  rules: [{from: [{source: {principals: [old-td/ns/default/sa/curl, cluster.local/ns/default/sa/a*]}}]}]
"#,
    );
    cluster.take_changes();
    let all = cluster.snapshot();
    let settings = all
        .resources
        .iter()
        .find(|(key, _)| key.type_url.ends_with("ProxySettings"));
    let mut found = super::told_of(&all);
    found["settings"] = serde_json::to_value(&settings.unwrap().1.as_ref().unwrap().1).unwrap();
    golden("settings", &found);
}

#[test]
fn a_provider_that_appears_makes_its_policy_whole() {
    let mut cluster = bookinfo();
    apply(
        &mut cluster,
        r#"
kind: AuthorizationPolicy
metadata: {name: ext-authz}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  action: CUSTOM
  provider: {name: sample-ext-authz-http}
  rules: [{}]
"#,
    );
    let unenforceable = |cluster: &mut crate::Cluster| {
        let name: Arc<str> = "HttpPolicy default/ext-authz".into();
        told(cluster)["resources"][&*name]["body"]["unenforceable"].clone()
    };
    assert!(unenforceable(&mut cluster).is_string());
    let mesh = MeshConfig::parse(MESH).unwrap();
    cluster.set_settings(Settings::default().with_mesh(&mesh));
    assert!(unenforceable(&mut cluster).is_null());
}

#[test]
fn paths_of_policies_have_the_form_of_requests() {
    let mut cluster = bookinfo();
    apply(
        &mut cluster,
        r#"
kind: AuthorizationPolicy
metadata: {name: paths}
spec:
  targetRefs: [{kind: Service, group: "", name: reviews}]
  action: DENY
  rules: [{to: [{operation: {paths: ["/%7euser", "/a%2fb*", "/fü", "/%7e/{*}"]}}]}]
"#,
    );
    let told = told(&mut cluster)["resources"]["HttpPolicy default/paths"].to_string();
    for path in ["\"/~user\"", "\"/a%2Fb\"", "\"/f%C3%BC\"", "\"/~/{*}\""] {
        assert!(told.contains(path), "no {path} in {told}");
    }
}
