//! VirtualService, DestinationRule and Gateway.

use super::world::{apply, bookinfo};
use super::{golden, told};

/// Subsets by the label `version`, as Bookinfo has them.
const SUBSETS: &str = r#"
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {simple: RANDOM}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: v3, labels: {version: v3}}
---
kind: DestinationRule
metadata: {name: ratings}
spec:
  host: ratings.default.svc.cluster.local
  subsets: [{name: v1, labels: {version: v1}}]
"#;

fn check(name: &str, manifests: &[&str]) {
    let mut cluster = bookinfo();
    for manifests in manifests {
        apply(&mut cluster, manifests);
    }
    golden(name, &told(&mut cluster));
}

#[test]
fn fault_injection() {
    let faults = r#"
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    fault: {delay: {percentage: {value: 100.0}, fixedDelay: 7s}}
    route: [{destination: {host: ratings, subset: v1}}]
  - match: [{uri: {prefix: /headers}, method: {exact: GET}}]
    fault:
      delay: {percentage: {value: 50}, fixedDelay: 2s}
      abort: {percentage: {value: 0.1}, httpStatus: 555}
    route: [{destination: {host: ratings}}]
  - match: [{uri: {exact: /grpc}}]
    fault: {abort: {percentage: {value: 10}, grpcStatus: UNAVAILABLE}}
    route: [{destination: {host: ratings}}]
  - route: [{destination: {host: ratings, subset: v1}}]
"#;
    check("fault_injection", &[SUBSETS, faults]);
}

#[test]
fn traffic_shifting() {
    let shift = r#"
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: canary
    match: [{headers: {x-canary: {}}, withoutHeaders: {x-stable: {exact: "yes"}}, ignoreUriCase: true, uri: {prefix: /Reviews}}]
    route: [{destination: {host: reviews, subset: v3}}]
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 50}
    - {destination: {host: reviews, subset: v3}, weight: 50, headers: {response: {add: {X-Version: v3}}}}
"#;
    check("traffic_shifting", &[SUBSETS, shift]);
}

#[test]
fn every_filter() {
    let all = r#"
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  http:
  - match: [{uri: {regex: "/v[0-9]+/.*"}, queryParams: {id: {exact: "1"}}, scheme: {exact: http}, authority: {prefix: rev}, port: 9080, sourceNamespace: other}]
    timeout: 0.5s
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "gateway-error,connect-failure,503,unavailable,nonsense"}
    rewrite: {uriRegexRewrite: {match: "^/v[0-9]+(/.*)$", rewrite: "\\1"}, authority: other.example.com}
    mirror: {host: ratings}
    mirrorPercentage: {value: 12.5}
    mirrors: [{destination: {host: reviews, subset: v2}}]
    corsPolicy: {allowOrigins: [{exact: https://example.com}, {exact: "*"}], allowMethods: [POST], maxAge: 24h, allowCredentials: true}
    headers: {request: {set: {Host: set.example.com, X-A: "1"}, remove: [X-B]}, response: {add: {X-C: "2"}}}
    route: [{destination: {host: reviews, port: {number: 9080}}}]
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, authority: new.example.com, redirectCode: 308, scheme: https}
  - match: [{uri: {prefix: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {prefix: /bytes}}]
    directResponse: {status: 200, body: {bytes: aGVsbG8=}}
  - match: [{uri: {prefix: /away}}]
    rewrite: {uri: /}
    retries: {attempts: 0}
    route: [{destination: {host: nowhere}}]
"#;
    check("every_filter", &[all]);
}

#[test]
fn what_cannot_be_done_is_told() {
    let odd = r#"
kind: VirtualService
metadata: {name: odd}
spec:
  hosts: [reviews]
  http:
  - match: [{sourceLabels: {app: curl}}]
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{uri: {regex: "["}}]
    route: [{destination: {host: reviews}}]
  - fault: {abort: {httpStatus: 42, percentage: {value: 1}}}
    timeout: soon
    route: [{destination: {host: reviews, port: {number: 1}}}]
---
kind: VirtualService
metadata: {name: elsewhere, namespace: other}
spec:
  hosts: [reviews.default.svc.cluster.local]
  http: [{route: [{destination: {host: reviews.default.svc.cluster.local}}]}]
---
kind: VirtualService
metadata: {name: for-others}
spec: {hosts: [reviews], exportTo: [other], http: [{route: [{destination: {host: reviews}}]}]}
---
kind: VirtualService
metadata: {name: nobody}
spec: {hosts: [nobody.example.com], http: [{route: [{destination: {host: nobody.example.com}}]}]}
---
kind: VirtualService
metadata: {name: without-waypoint, namespace: other}
spec: {hosts: [httpbin], http: [{route: [{destination: {host: httpbin}}]}]}
---
kind: DestinationRule
metadata: {name: odd}
spec:
  host: reviews
  trafficPolicy:
    tunnel: {targetHost: a, targetPort: 1}
    connectionPool: {tcp: {connectTimeout: 1x, tcpKeepalive: {time: 1s}}}
---
kind: DestinationRule
metadata: {name: sidecars}
spec: {host: ratings, workloadSelector: {matchLabels: {app: x}}}
---
kind: DestinationRule
metadata: {name: nobody}
spec: {host: nobody.example.com}
"#;
    check("what_cannot_be_done", &[odd]);
}

#[test]
fn delegates_and_several_objects_of_one_host() {
    let several = r#"
kind: VirtualService
metadata: {name: root, creationTimestamp: "2025-01-02T00:00:00Z"}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /api}}]
    timeout: 5s
    delegate: {name: team, namespace: other}
  - match: [{uri: {prefix: /gone}}]
    delegate: {name: gone}
---
kind: VirtualService
metadata: {name: team, namespace: other}
spec:
  http:
  - match: [{uri: {prefix: /api/a}, headers: {x: {exact: on-call}}}]
    route: [{destination: {host: httpbin}}]
  - match: [{uri: {prefix: /elsewhere}}]
    route: [{destination: {host: httpbin}}]
  - timeout: 1s
    route: [{destination: {host: httpbin}}]
---
kind: VirtualService
metadata: {name: older}
spec:
  hosts: [reviews]
  http: [{match: [{uri: {prefix: /first}}], route: [{destination: {host: ratings}}]}]
---
kind: VirtualService
metadata: {name: wild}
spec:
  hosts: ["*.default.svc.cluster.local"]
  http: [{timeout: 3s, route: [{destination: {host: productpage}}]}]
"#;
    check("delegates", &[several]);
}

/// The first rule that matches wins, also where the first one takes everything.
#[test]
fn nothing_counts_behind_a_rule_that_takes_everything() {
    for first in [
        "",
        "match: [{uri: {prefix: /}}]",
        "match: [{uri: {exact: /a}}, {uri: {regex: \".*\"}}]",
    ] {
        let manifest = format!(
            r#"
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http:
  - match: [{{port: 9080}}]
    name: before
    route: [{{destination: {{host: ratings}}}}]
  - name: everything
    route: [{{destination: {{host: reviews}}}}]
    {first}
  - name: shadowed
    match: [{{uri: {{prefix: /ratings}}}}]
    route: [{{destination: {{host: ratings}}}}]
"#
        );
        let mut cluster = bookinfo();
        apply(&mut cluster, &manifest);
        let told = told(&mut cluster).to_string();
        assert!(
            told.contains("before") && told.contains("everything"),
            "{told}"
        );
        assert!(!told.contains("shadowed"), "{first}: {told}");
    }
}

#[test]
fn destination_rule_in_full() {
    let rule = r#"
kind: DestinationRule
metadata: {name: full}
spec:
  host: tcp-echo
  trafficPolicy:
    loadBalancer:
      consistentHash: {httpCookie: {name: user, ttl: 0s}, maglev: {tableSize: 1009}}
      localityLbSetting: {distribute: [{from: a/b/*, to: {"a/b/*": 80, "c/*": 20}}], failoverPriority: [topology.kubernetes.io/region]}
      warmup: {duration: 30s}
    connectionPool:
      tcp: {maxConnections: 100, connectTimeout: 30ms, idleTimeout: 1h}
      http: {http1MaxPendingRequests: 1, http2MaxRequests: 1000, maxRequestsPerConnection: 10, maxRetries: 3, h2UpgradePolicy: UPGRADE, useClientProtocol: true}
    outlierDetection: {consecutive5xxErrors: 7, interval: 5m, baseEjectionTime: 15m, maxEjectionPercent: 50}
    tls: {mode: SIMPLE, sni: echo.example.com, subjectAltNames: [echo.example.com]}
    proxyProtocol: {version: V2}
    retryBudget: {percent: 25, minRetryConcurrency: 4}
    portLevelSettings:
    - {port: {number: 9001}, loadBalancer: {simple: ROUND_ROBIN}}
"#;
    check("destination_rule", &[rule]);
}

#[test]
fn ingress_gateway() {
    let ingress = r#"
kind: Gateway
metadata: {name: bookinfo-gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
---
kind: VirtualService
metadata: {name: bookinfo}
spec:
  hosts: ["*"]
  gateways: [bookinfo-gateway]
  http:
  - match: [{uri: {exact: /productpage}}, {uri: {prefix: /static}}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
"#;
    check("ingress_gateway", &[ingress]);
}

#[test]
fn secure_gateways() {
    let secure = r#"
kind: Gateway
metadata: {name: secure}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [httpbin.example.com]
    tls: {httpsRedirect: true}
  - port: {number: 443, name: https, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: httpbin-credential, minProtocolVersion: TLSV1_3}
    hosts: ["other/httpbin.example.com", "./own.example.com"]
  - port: {number: 443, name: pass, protocol: TLS}
    tls: {mode: PASSTHROUGH}
    hosts: [nginx.example.com]
  - port: {number: 31400, name: tcp, protocol: TCP}
    hosts: ["*"]
  - port: {number: 8443, name: mutual, protocol: HTTPS}
    tls: {mode: MUTUAL, credentialName: without-secret}
    hosts: [mutual.example.com]
---
kind: VirtualService
metadata: {name: httpbin, namespace: other}
spec:
  hosts: [httpbin.example.com, own.example.com]
  gateways: [default/secure, mesh]
  http:
  - match: [{uri: {prefix: /status}, gateways: [default/secure]}]
    route: [{destination: {host: httpbin}}]
  tls:
  - match: [{port: 443, sniHosts: [nginx.example.com]}]
    route: [{destination: {host: httpbin, port: {number: 8000}}}]
---
kind: VirtualService
metadata: {name: nginx}
spec:
  hosts: [nginx.example.com]
  gateways: [secure]
  tls:
  - match: [{port: 443, sniHosts: [nginx.example.com]}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
---
kind: VirtualService
metadata: {name: tcp-echo}
spec:
  hosts: ["*"]
  gateways: [secure]
  tcp:
  - match: [{port: 31400}]
    route:
    - {destination: {host: tcp-echo, port: {number: 9000}}, weight: 80}
    - {destination: {host: tcp-echo, port: {number: 9001}}, weight: 20}
"#;
    check("secure_gateways", &[secure]);
}

#[test]
fn gateways_without_pods() {
    let none = r#"
kind: Gateway
metadata: {name: none}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
kind: VirtualService
metadata: {name: none}
spec: {hosts: ["*"], gateways: [none], http: [{route: [{destination: {host: reviews}}]}]}
"#;
    check("gateways_without_pods", &[none]);
}
