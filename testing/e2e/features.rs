//! The Gateway API by feature, under the names of its conformance suite, on our own objects: tables of requests and of conditions.
//!
//! One namespace (`gw`, enrolled) with three echoes, another one beside it (`gw-other`), one Gateway with a listener for everything
//! and a plain second one; each case applies the routes of its features together.

mod filters;
mod grpc;
mod infrastructure;
mod matching;
mod mesh;
mod mesh_traffic;
mod refused;
mod secure;
mod sets;
mod traffic;
mod virtual_services;
mod workloads;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::suite::Case;

use crate::certificates::Certificates;
use crate::stage::Stage;
use crate::table::{Asker, Row};

const SOON: Duration = Duration::from_secs(60);

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "features: backends, certificates and gateways",
        run: up,
    },
    Case {
        name: "features: HTTPRoute matching",
        run: matching::routes,
    },
    Case {
        name: "features: HTTPRoute filters",
        run: filters::edits,
    },
    Case {
        name: "features: HTTPRoute timeouts, retries, weights, protocols",
        run: traffic::routes,
    },
    Case {
        name: "features: GRPCRoute",
        run: grpc::routes,
    },
    Case {
        name: "features: HTTPS, TLSRoute, TCPRoute, BackendTLSPolicy",
        run: secure::listeners,
    },
    Case {
        name: "features: references and routes that are refused",
        run: refused::routes,
    },
    Case {
        name: "features: listeners that are refused, ListenerSet",
        run: sets::listeners,
    },
    Case {
        name: "features: gateways' addresses, metadata, generations",
        run: infrastructure::gateways,
    },
    Case {
        name: "features: mesh routes",
        run: mesh::routes,
    },
    Case {
        name: "features: mesh: copies, CORS, WebSocket, timeouts, retries, TLS, TCP",
        run: mesh_traffic::routes,
    },
    Case {
        name: "features: mesh: VirtualServices",
        run: virtual_services::routes,
    },
    Case {
        name: "features: mesh: waypoints of pods and WorkloadEntries",
        run: workloads::waypoint,
    },
    Case {
        name: "features: gone again",
        run: down,
    },
];

/// A feature by the suite's name, its objects and its requests.
pub struct Feature {
    name: &'static str,
    objects: &'static str,
    rows: &'static [Row],
}

/// An HTTPRoute of namespace `gw` at the listener `http` of the Gateway `gw`.
macro_rules! http_route {
    ($name:literal, $hosts:literal, $rules:literal) => {
        concat!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: ",
            $name,
            ", namespace: gw}\nspec:\n  parentRefs: [{name: gw, sectionName: http}]\n  hostnames: [",
            $hosts,
            "]\n  rules:",
            $rules,
            "\n"
        )
    };
}
use http_route;

/// A Deployment of the echo with a Service: HTTP on 80, TLS on 443, bytes on 9000, gRPC on 9090.
fn backend(namespace: &str, name: &str) -> String {
    format!(
        r#"---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: https, port: 443, targetPort: 8443}}, {{name: tcp, port: 9000}}, {{name: grpc, port: 9090, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: echo
        image: docker.io/tulle/echo:1
        imagePullPolicy: IfNotPresent
        env: [{{name: NAME, value: {name}}}]
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
        volumeMounts: [{{name: tls, mountPath: /etc/echo/tls}}]
      volumes: [{{name: tls, secret: {{secretName: echo-tls, optional: true}}}}]
"#
    )
}

/// Services over the same pods, and the two Gateways. What is wrong with some listeners is in [`sets`].
const OBJECTS: &str = r#"
---
apiVersion: v1
kind: Service
metadata: {name: h2c, namespace: gw}
spec: {selector: {app: one}, ports: [{name: web, port: 80, targetPort: 8080, appProtocol: kubernetes.io/h2c}]}
---
apiVersion: v1
kind: Service
metadata: {name: ws, namespace: gw}
spec: {selector: {app: one}, ports: [{name: web, port: 80, targetPort: 8080, appProtocol: kubernetes.io/ws}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: gw}
spec: {clusterIP: None, selector: {app: two}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: plain, namespace: gw}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: gw}
spec:
  gatewayClassName: istio
  allowedListeners: {namespaces: {from: Same}}
  tls:
    backend: {clientCertificateRef: {name: client}}
    frontend:
      default: {}
      perPort: [{port: 8445, tls: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}}}]
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - {name: http-8080, port: 8080, protocol: HTTP}
  - {name: host-bar, port: 8081, protocol: HTTP, hostname: bar.test}
  - {name: host-foo-bar, port: 8081, protocol: HTTP, hostname: foo.bar.test}
  - {name: host-wild-bar, port: 8081, protocol: HTTP, hostname: "*.bar.test"}
  - {name: host-wild-foo, port: 8081, protocol: HTTP, hostname: "*.foo.test"}
  - {name: https-one, port: 443, protocol: HTTPS, hostname: one.secure.test, tls: {certificateRefs: [{name: one}]}}
  - {name: https-two, port: 443, protocol: HTTPS, hostname: two.secure.test, tls: {certificateRefs: [{name: two}]}}
  - {name: https-wild, port: 443, protocol: HTTPS, hostname: "*.wild.test", tls: {certificateRefs: [{name: wild}]}}
  - {name: mutual, port: 8445, protocol: HTTPS, hostname: mutual.test, tls: {certificateRefs: [{name: one}]}}
  - {name: passthrough, port: 8443, protocol: TLS, hostname: "*.pass.test", tls: {mode: Passthrough}}
  - name: terminate
    port: 8443
    protocol: TLS
    hostname: end.test
    tls: {mode: Terminate, certificateRefs: [{name: one}]}
    allowedRoutes: {kinds: [{kind: TLSRoute}]}
  - {name: tcp, port: 9000, protocol: TCP}
  - {name: tcp-split, port: 9001, protocol: TCP}
  - {name: tcp-nowhere, port: 9002, protocol: TCP}
  - {name: bad-missing, port: 9101, protocol: HTTPS, tls: {certificateRefs: [{name: no-such-secret}]}}
  - {name: bad-group, port: 9102, protocol: HTTPS, tls: {certificateRefs: [{group: wrong.example, kind: Secret, name: one}]}}
  - {name: bad-kind, port: 9103, protocol: HTTPS, tls: {certificateRefs: [{kind: WrongKind, name: one}]}}
  - {name: bad-content, port: 9104, protocol: HTTPS, tls: {certificateRefs: [{name: malformed}]}}
  - {name: bad-grant, port: 9105, protocol: HTTPS, tls: {certificateRefs: [{name: elsewhere, namespace: gw-other}]}}
  - {name: granted, port: 9106, protocol: HTTPS, hostname: granted.test, tls: {certificateRefs: [{name: granted, namespace: gw-other}]}}
  - {name: bad-protocol, port: 9107, protocol: example.com/unknown}
  - {name: bad-kinds, port: 9108, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}]}}
  - {name: half-kinds, port: 9109, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}, {kind: HTTPRoute}]}}
  - {name: tls-kinds, port: 9110, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: certificate, namespace: gw-other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: gw}]
  to: [{group: "", kind: Secret, name: granted}]
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: malformed, namespace: gw}
stringData: {tls.crt: "Hello world", tls.key: "Hello world"}
"#;

fn up(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: gw, labels: {istio.io/dataplane-mode: ambient, team: a}}\n---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {name: gw-other, labels: {team: b}}\n",
    )?;
    let certificates = Certificates::new()?;
    certificates.sign(
        "root",
        "one",
        "DNS:one.secure.test,DNS:mutual.test,DNS:end.test,DNS:second.test",
    )?;
    certificates.sign(
        "root",
        "two",
        "DNS:two.secure.test,DNS:granted.test,DNS:set.test",
    )?;
    certificates.sign("root", "wild", "DNS:*.wild.test")?;
    certificates.sign(
        "root",
        "echo",
        "DNS:*.pass.test,DNS:echo.backend.test,URI:spiffe://backend.test/echo",
    )?;
    certificates.sign("root", "client", "DNS:client.test")?;
    certificates.root("stranger")?;
    certificates.sign("stranger", "unknown", "DNS:client.test")?;
    for name in ["one", "two", "wild", "client"] {
        certificates.secret(kubectl, "gw", name, name, None)?;
    }
    certificates.secret(kubectl, "gw", "echo-tls", "echo", None)?;
    for name in ["elsewhere", "granted"] {
        certificates.secret(kubectl, "gw-other", name, "two", None)?;
    }
    certificates.config_map(kubectl, "gw", "root", "root")?;
    certificates.config_map(kubectl, "gw", "stranger", "stranger")?;
    let backends: String = ["one", "two", "three"]
        .map(|name| backend("gw", name))
        .concat();
    kubectl.apply(&format!(
        "{backends}{}{OBJECTS}",
        backend("gw-other", "four")
    ))?;
    for namespace in ["gw", "gw-other"] {
        kubectl.run(&format!(
            "apply -n {namespace} -f {}",
            stage.sample("sleep.yaml")
        ))?;
    }
    stage.share(certificates);
    for gateway in ["gw", "plain"] {
        kubectl.run(&format!(
            "wait -n gw gateway/{gateway} --for=condition=Programmed --timeout=60s"
        ))?;
    }
    for namespace in ["gw", "gw-other"] {
        kubectl.run(&format!(
            "wait -n {namespace} deployment --all --for=condition=Available --timeout=60s"
        ))?;
    }
    let address = address(kubectl, "gw", "gw")?;
    let service = kubectl
        .run("get service -n gw gw-istio -o=jsonpath={.status.loadBalancer.ingress[0].ip}")?;
    ensure!(
        address.to_string() == service,
        "the Gateway says {address}, its Service {service}"
    );
    Ok(())
}

/// The address in a Gateway's status.
pub fn address(kubectl: &Kubectl, namespace: &str, gateway: &str) -> anyhow::Result<IpAddr> {
    eventually("the gateway has an address", SOON, || {
        let text = kubectl.run(&format!(
            "get gateway -n {namespace} {gateway} -o=jsonpath={{.status.addresses[0].value}}"
        ))?;
        text.parse()
            .with_context(|| format!("{text:?} is no address"))
    })
}

/// This host, as a client of a gateway of namespace `gw`.
fn outside<'a>(stage: &'a Stage, gateway: &str) -> anyhow::Result<Asker<'a>> {
    let address = address(&stage.kubectl, "gw", gateway)?.to_string();
    Ok(Asker::host(
        &stage.kubectl,
        &address,
        &stage.certificates()?.text(),
    ))
}

fn socket(stage: &Stage, gateway: &str, port: u16) -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::new(
        address(&stage.kubectl, "gw", gateway)?,
        port,
    ))
}

/// Applies the objects of all features, asks everything, and hands over to `further` before the objects are deleted.
fn walk(
    stage: &Stage,
    asker: &Asker<'_>,
    features: &[Feature],
    further: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let objects: String = features.iter().map(|feature| feature.objects).collect();
    stage.kubectl.apply(&objects)?;
    let rows: Vec<_> = features
        .iter()
        .map(|feature| (feature.name, feature.rows))
        .collect();
    asker.expect(&rows)?;
    further()?;
    stage.kubectl.delete(&objects)
}

/// `kind/name` in namespace `gw`, a path into its status, the type of a condition, its status and reason.
type Told = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Conditions of objects become what they should be.
fn told(kubectl: &Kubectl, expected: &[Told]) -> anyhow::Result<()> {
    eventually("every condition", SOON, || {
        let all = kubectl.json(
            "get gateway,listenerset,httproute,grpcroute,tlsroute,tcproute,backendtlspolicy,virtualservice,workloadentry -n gw",
        )?;
        let items = all["items"].as_array().context("no items")?;
        let mut wrong = Vec::new();
        for (object, place, kind, status, reason) in expected {
            let (of, name) = object.split_once('/').context("kind/name")?;
            let found = items
                .iter()
                .find(|item| item["kind"] == of && item["metadata"]["name"] == name);
            let found = found.with_context(|| format!("no {object}"))?;
            let conditions = place_in(&found["status"], place);
            let condition = conditions["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|c| c["type"] == *kind);
            let seen = condition.map(|c| (c["status"].as_str(), c["reason"].as_str()));
            if seen != Some((Some(status), Some(reason))) {
                wrong.push(format!(
                    "\n  {object} {place} {kind}: {seen:?}, expected {status} {reason}"
                ));
            }
            let seen = condition.map(|c| &c["observedGeneration"]);
            if seen != Some(&found["metadata"]["generation"]) {
                wrong.push(format!(
                    "\n  {object} {place} {kind} is of generation {seen:?}"
                ));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.concat());
        Ok(())
    })
}

/// Of a status: itself, the parent or ancestor with this name, section or number, or the listener with this name.
fn place_in<'v>(status: &'v Value, place: &str) -> &'v Value {
    if place.is_empty() {
        return status;
    }
    let listed = |field: &str| status[field].as_array().into_iter().flatten();
    let port: Option<u64> = place.parse().ok();
    let named = |of: &Value| {
        let same_port = port.is_some() && of["port"].as_u64() == port;
        of["sectionName"] == place || of["name"] == place || same_port
    };
    let mut parents = listed("parents").filter(|parent| named(&parent["parentRef"]));
    let mut ancestors = listed("ancestors").filter(|ancestor| named(&ancestor["ancestorRef"]));
    let mut listeners = listed("listeners").filter(|listener| listener["name"] == place);
    let found = parents
        .next()
        .or_else(|| ancestors.next())
        .or_else(|| listeners.next());
    found.unwrap_or(&Value::Null)
}

fn down(stage: &Stage) -> anyhow::Result<()> {
    stage
        .kubectl
        .run("delete namespace gw gw-other --timeout=60s")
        .map(drop)
}
