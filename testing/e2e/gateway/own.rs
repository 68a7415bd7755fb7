//! Istio's own Gateway, on a Deployment that the user made: its pods are completed by the webhook.

use anyhow::ensure;
use tulle_testing::kubectl::{Kubectl, eventually};

use super::{SOON, curl};
use crate::stage::Stage;
use crate::table::{Asker, get, secure};

/// As in Istio's documentation of gateways that one deploys oneself.
const OWN: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: my-gateway, namespace: default}
spec:
  type: LoadBalancer
  selector: {istio: my-gateway}
  ports:
  - {name: status-port, port: 15021}
  - {name: http, port: 80}
  - {name: https, port: 443}
  - {name: tls, port: 8443}
  - {name: tcp, port: 9000, targetPort: 19000}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: my-gateway, namespace: default}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: my-gateway, namespace: default}
spec:
  selector: {matchLabels: {istio: my-gateway}}
  template:
    metadata:
      annotations: {inject.istio.io/templates: gateway}
      labels: {istio: my-gateway, sidecar.istio.io/inject: "true"}
    spec:
      serviceAccountName: my-gateway
      containers: [{name: istio-proxy, image: auto}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mine, namespace: default}
spec:
  selector: {istio: my-gateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [plain.example.net]}
  - {port: {number: 80, name: redirect, protocol: HTTP}, hosts: ["*.example.net"], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example.net], tls: {mode: SIMPLE, credentialName: shop-net}}
  - {port: {number: 443, name: mutual, protocol: HTTPS}, hosts: [mutual.example.net], tls: {mode: MUTUAL, credentialName: mutual-net}}
  - {port: {number: 8443, name: tls, protocol: TLS}, hosts: [echo.example.com], tls: {mode: PASSTHROUGH}}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine, namespace: default}
spec:
  hosts: [plain.example.net, shop.example.net, mutual.example.net]
  gateways: [mine]
  http:
  - match: [{uri: {prefix: /hello}}]
    route: [{destination: {host: helloworld, port: {number: 5000}}}]
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /new/}
    route: [{destination: {host: echo, port: {number: 80}}, headers: {request: {set: {x-by: mine}}}}]
  - match: [{uri: {exact: /}}]
    route: [{destination: {host: echo, port: {number: 80}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine-streams, namespace: default}
spec:
  hosts: [echo.example.com, "*"]
  gateways: [mine]
  tls:
  - match: [{port: 8443, sniHosts: [echo.example.com]}]
    route: [{destination: {host: echo, port: {number: 443}}}]
  tcp:
  - match: [{port: 9000}]
    route: [{destination: {host: echo, port: {number: 9000}}}]
"#;

const WITH_CERTIFICATE: &[&str] = &[
    "--cert",
    "DIRECTORY/client.crt",
    "--key",
    "DIRECTORY/client.key",
];

pub(super) fn walk(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let certificates = stage.walk_certificates()?;
    certificates.sign("root", "net", "DNS:shop.example.net,DNS:mutual.example.net")?;
    certificates.sign("root", "client", "DNS:client.example.net")?;
    certificates.secret(kubectl, "default", "shop-net", "net", None)?;
    certificates.secret(kubectl, "default", "mutual-net", "net", Some("root"))?;
    kubectl.apply(OWN)?;
    kubectl.run("rollout status deploy/my-gateway --timeout=90s")?;
    let image = kubectl
        .run("get pods -l istio=my-gateway -o=jsonpath={.items[0].spec.containers[0].image}")?;
    ensure!(
        image.contains("tulle"),
        "the container was not completed: {image}"
    );
    let address = eventually("an address", SOON, || {
        let given = kubectl
            .run("get service my-gateway -o=jsonpath={.status.loadBalancer.ingress[0].ip}")?;
        ensure!(!given.is_empty(), "none yet");
        Ok(given)
    })?;
    let asker = Asker::host(kubectl, &address, &certificates.text());
    asker.expect(&[(
        "Istio's Gateway",
        &[
            get("plain.example.net", "/").to("echo"),
            get("plain.example.net", "/hello"),
            get("plain.example.net", "/old/path")
                .to("echo")
                .arrived(&[("path", "/new/path"), ("x-by", "mine")]),
            get("plain.example.net", "/elsewhere").status(404),
            get("elsewhere.test", "/").status(404),
            get("other.example.net", "/x")
                .redirected(301, &[("location", "https://other.example.net/x")]),
            get("shop.example.net", "/")
                .redirected(301, &[("location", "https://shop.example.net/")]),
            secure("shop.example.net", "/").to("echo"),
            secure("mutual.example.net", "/")
                .options(WITH_CERTIFICATE)
                .to("echo"),
            secure("mutual.example.net", "/").fails(),
            secure("echo.example.com", "/")
                .port(8443)
                .to("echo")
                .arrived(&[("sni", "echo.example.com")]),
            secure("other.example.com", "/")
                .port(8443)
                .options(&["-k"])
                .fails(),
        ],
    )])?;
    eventually("bytes come back", SOON, || {
        let said = curl(&["-m", "2", &format!("telnet://{address}:9000")])?;
        ensure!(said.contains("hello from echo"), "{said:?}");
        Ok(())
    })?;
    let ready = format!("http://{address}:15021/healthz/ready");
    ensure!(
        curl(&["-m", "3", "-o", "/dev/null", "-w", "%{http_code}", &ready])? == "200",
        "not healthy"
    );
    for (kind, name) in [
        ("gateway.networking.istio.io", "mine"),
        ("virtualservice", "mine"),
    ] {
        accepted(kubectl, kind, name)?;
    }
    kubectl.delete(OWN)?;
    kubectl.run("delete secret shop-net mutual-net").map(drop)
}

/// Istio's objects say to which proxies they were sent.
fn accepted(kubectl: &Kubectl, kind: &str, name: &str) -> anyhow::Result<()> {
    eventually("the status", SOON, || {
        let object = kubectl.json(&format!("get {kind} {name}"))?;
        let mut conditions = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        let good = conditions.any(|c| {
            c["status"] == "True"
                && c["message"]
                    .as_str()
                    .is_some_and(|m| m.contains("default/my-gateway"))
        });
        ensure!(good, "{}", object["status"]);
        Ok(())
    })
}
