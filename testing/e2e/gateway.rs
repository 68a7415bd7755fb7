//! Walk 4, docs/gateways.md: ingress by the Gateway API and by Istio's own Gateway, from this host.

mod own;

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use tulle_testing::kubectl::{becomes, eventually};
use tulle_testing::suite::Case;

use crate::features::address;
use crate::stage::Stage;
use crate::table::{Asker, Row, call, get, secure};

const SOON: Duration = Duration::from_secs(60);

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "gateway: HTTPRoute by host name at its LoadBalancer address",
        run: http,
    },
    Case {
        name: "gateway: TLS from Secrets by server name, redirect, a new certificate",
        run: tls,
    },
    Case {
        name: "gateway: TLS passthrough, TCP, gRPC",
        run: streams,
    },
    Case {
        name: "gateway: health, metrics and access log",
        run: watched,
    },
    Case {
        name: "gateway: through the waypoint of a service",
        run: through_waypoint,
    },
    Case {
        name: "gateway: Istio's Gateway on pods of one's own (image: auto)",
        run: own::walk,
    },
    Case {
        name: "gateway: gone again",
        run: gone,
    },
];

/// Everything of this walk but the routes.
const GATEWAY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ingress, namespace: default}
spec:
  gatewayClassName: istio
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: "*.example.com"}
  - {name: shop, port: 443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop}]}}
  - {name: pay, port: 443, protocol: HTTPS, hostname: "*.pay.example.com", tls: {certificateRefs: [{name: pay}]}}
  - {name: passthrough, port: 8443, protocol: TLS, hostname: echo.example.com, tls: {mode: Passthrough}}
  - {name: tcp, port: 9000, protocol: TCP}
"#;

const ROUTES: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bookinfo, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: http}]
  hostnames: [bookinfo.example.com]
  rules: [{backendRefs: [{name: productpage, port: 9080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: hello, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: http}]
  hostnames: [hello.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /hello}}]
    backendRefs: [{name: helloworld, port: 5000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-https, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: http}]
  hostnames: [shop.example.com]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: shop}, {name: ingress, sectionName: pay}]
  rules: [{backendRefs: [{name: echo, port: 80}]}]
"#;

const STREAMS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: echo, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: passthrough}]
  hostnames: [echo.example.com]
  rules: [{backendRefs: [{name: echo, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: echo, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: tcp}]
  rules: [{backendRefs: [{name: echo, port: 9000}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo-grpc, namespace: default}
spec: {selector: {app: echo}, ports: [{name: grpc, port: 9090, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: echo, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: http}, {name: ingress, sectionName: shop}]
  hostnames: [grpc.example.com, shop.example.com]
  rules: [{matches: [{method: {service: echo.Grpc}}], backendRefs: [{name: echo-grpc, port: 9090}]}]
"#;

fn asker<'a>(stage: &'a Stage) -> anyhow::Result<Asker<'a>> {
    let address = address(&stage.kubectl, "default", "ingress")?.to_string();
    Ok(Asker::host(
        &stage.kubectl,
        &address,
        &stage.walk_certificates()?.text(),
    ))
}

fn http(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label namespace default istio.io/dataplane-mode=ambient --overwrite")?;
    let certificates = stage.walk_certificates()?;
    certificates.sign("root", "shop", "DNS:shop.example.com")?;
    certificates.sign("root", "pay", "DNS:*.pay.example.com")?;
    certificates.sign("root", "echo", "DNS:echo.example.com")?;
    for name in ["shop", "pay"] {
        certificates.secret(kubectl, "default", name, name, None)?;
    }
    certificates.secret(kubectl, "default", "echo-tls", "echo", None)?;
    kubectl.run(&format!("apply -f {}", stage.sample("echo.yaml")))?;
    kubectl.apply(GATEWAY)?;
    kubectl.apply(ROUTES)?;
    kubectl.run("wait gateway/ingress --for=condition=Programmed --timeout=60s")?;
    kubectl.run("rollout status deploy/echo --timeout=60s")?;
    let given = kubectl
        .run("get service ingress-istio -o=jsonpath={.status.loadBalancer.ingress[0].ip}")?;
    ensure!(
        address(kubectl, "default", "ingress")?.to_string() == given,
        "the Service has {given}"
    );
    asker(stage)?.expect(&[(
        "HTTP",
        &[
            get("bookinfo.example.com", "/productpage"),
            get("hello.example.com", "/hello"),
            get("hello.example.com", "/other").status(404),
            get("other.example.com", "/").status(404),
            get("bookinfo.elsewhere.com", "/").status(404),
        ],
    )])
}

const PAY: Row = secure("a.pay.example.com", "/")
    .to("echo")
    .arrived(&[("host", "a.pay.example.com")]);

fn tls(stage: &Stage) -> anyhow::Result<()> {
    let asker = asker(stage)?;
    asker.expect(&[(
        "TLS",
        &[
            secure("shop.example.com", "/cart")
                .to("echo")
                .arrived(&[("path", "/cart"), ("x-forwarded-proto", "https")]),
            secure("shop.example.com", "/")
                .options(&["--http1.1"])
                .to("echo"),
            secure("shop.example.com", "/")
                .options(&["--tls-max", "1.2"])
                .to("echo"),
            PAY,
            secure("nobody.example.com", "/").options(&["-k"]).fails(),
            get("shop.example.com", "/cart?a=b")
                .redirected(301, &[("location", "https://shop.example.com/cart?a=b")]),
        ],
    )])?;
    // A Secret that changes is in force without a restart: the new root does not know the old certificate.
    let certificates = stage.walk_certificates()?;
    certificates.root("next")?;
    certificates.sign("next", "renewed", "DNS:shop.example.com")?;
    certificates.secret(&stage.kubectl, "default", "shop", "renewed", None)?;
    asker.expect(&[(
        "a new certificate",
        &[
            secure("shop.example.com", "/")
                .options(&["--cacert", "DIRECTORY/next.crt"])
                .to("echo"),
            secure("shop.example.com", "/").fails(),
            PAY,
        ],
    )])?;
    certificates.secret(&stage.kubectl, "default", "shop", "shop", None)?;
    asker.expect(&[("the old one", &[secure("shop.example.com", "/").to("echo")])])
}

fn streams(stage: &Stage) -> anyhow::Result<()> {
    stage.kubectl.apply(STREAMS)?;
    asker(stage)?.expect(&[(
        "streams",
        &[
            secure("echo.example.com", "/")
                .port(8443)
                .to("echo")
                .arrived(&[("sni", "echo.example.com")]),
            secure("shop.example.com", "/").port(8443).fails(),
            call("grpc.example.com", "/echo.Grpc/Hello")
                .to("echo")
                .arrived(&[("protocol", "HTTP/2.0")]),
            call("grpc.example.com", "/other.Service/Hello").grpc_status("12"),
            secure("shop.example.com", "/echo.Grpc/Hello")
                .options(&["-XPOST"])
                .with(&[("content-type", "application/grpc")])
                .to("echo"),
        ],
    )])?;
    let address = address(&stage.kubectl, "default", "ingress")?;
    eventually("bytes come back", SOON, || {
        let said = curl(&[
            "-m",
            "2",
            "--telnet-option",
            "TTYPE=vt100",
            &format!("telnet://{address}:9000"),
        ])?;
        ensure!(said.contains("hello from echo"), "{said:?}");
        Ok(())
    })
}

/// curl on this host; what it printed, whatever its exit code.
fn curl(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("curl")
        .arg("-s")
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn watched(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let address = address(kubectl, "default", "ingress")?;
    let ready = |_: &()| {
        curl(&[
            "-m",
            "3",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &format!("http://{address}:15021/healthz/ready"),
        ])
    };
    becomes("health", &"200".to_owned(), SOON, || ready(&()))?;
    let pod = kubectl.run("get pods -l gateway.networking.k8s.io/gateway-name=ingress -o=jsonpath={.items[0].status.podIP}")?;
    for port in [15020, 15090] {
        eventually("requests are counted", SOON, || {
            let page = curl(&["-m", "3", &format!("http://{pod}:{port}/stats/prometheus")])?;
            let counted = page.lines().any(|line| {
                line.starts_with("istio_requests_total{")
                    && line.contains("reporter=\"source\"")
                    && line.contains("source_workload=\"ingress-istio\"")
                    && line.contains("destination_service_name=\"productpage\"")
                    && line.contains("response_code=\"200\"")
            });
            ensure!(counted, "{page}");
            Ok(())
        })?;
    }
    eventually("requests are logged", SOON, || {
        let log = kubectl.run("logs deploy/ingress-istio --tail=-1")?;
        ensure!(
            log.contains("GET /productpage"),
            "{} lines without it",
            log.lines().count()
        );
        Ok(())
    })
}

const NOT_FROM_OUTSIDE: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: httpbin-get-only, namespace: default}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  action: DENY
  rules: [{to: [{operation: {notMethods: [GET]}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin, namespace: default}
spec:
  parentRefs: [{name: ingress, sectionName: http}]
  hostnames: [httpbin.example.com]
  rules: [{backendRefs: [{name: httpbin, port: 8000}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin-in-mesh, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: httpbin}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-waypoint, value: seen}]}}]
    backendRefs: [{name: httpbin, port: 8000}]
"#;

fn through_waypoint(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    stage.tulle(&[
        "waypoint", "apply", "-n", "default", "--name", "shield", "--wait",
    ])?;
    kubectl.run("label service httpbin istio.io/use-waypoint=shield")?;
    kubectl.apply(NOT_FROM_OUTSIDE)?;
    let read = get("httpbin.example.com", "/anything");
    let write = read.options(&["-XPOST"]);
    let asker = asker(stage)?;
    // Past the waypoint, as long as nobody asks for it.
    asker.expect(&[(
        "past the waypoint",
        &[read.unanswered(&["x-waypoint"]), write],
    )])?;
    kubectl.run("label service httpbin istio.io/ingress-use-waypoint=true")?;
    asker.expect(&[(
        "through the waypoint",
        &[read.answered(&[("x-waypoint", "seen")]), write.status(403)],
    )])?;
    kubectl.run("label service httpbin istio.io/ingress-use-waypoint-")?;
    asker.expect(&[(
        "past the waypoint again",
        &[read.unanswered(&["x-waypoint"]), write],
    )])?;
    kubectl.run("label service httpbin istio.io/use-waypoint-")?;
    kubectl.delete(NOT_FROM_OUTSIDE)?;
    stage
        .tulle(&["waypoint", "delete", "-n", "default", "shield"])
        .map(drop)
}

fn gone(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    for objects in [STREAMS, ROUTES, GATEWAY] {
        kubectl.delete(objects)?;
    }
    kubectl.run(&format!(
        "delete -f {} --wait=false",
        stage.sample("echo.yaml")
    ))?;
    kubectl.run("delete secret shop pay echo-tls")?;
    eventually("what was made for the gateway is gone", SOON, || {
        let left = kubectl.run("get deploy,service,serviceaccount,pod -l gateway.networking.k8s.io/gateway-name=ingress -o name")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}
