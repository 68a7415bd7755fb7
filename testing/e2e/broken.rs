//! Objects that are broken or contradict each other: their owners are told, and nobody else notices.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::suite::Case;

use crate::requests::{Client, SLEEP, SOON, condition, none_failed, start_at, world};
use crate::stage::Stage;

pub const CASES: &[Case<Stage>] = &[Case {
    name: "broken: objects say what is wrong with them, and other routes go on",
    run: broken,
}];

const BROKEN: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bad-regex, namespace: requests}
spec:
  parentRefs: [{name: front}]
  hostnames: [broken.example]
  rules:
  - matches: [{path: {type: RegularExpression, value: "/("}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: no-backend, namespace: requests}
spec:
  parentRefs: [{name: front}]
  hostnames: [broken.example]
  rules:
  - matches: [{path: {value: /nowhere}}]
    backendRefs: [{name: nowhere, port: 80}]
  - matches: [{path: {value: /fine}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: no-secret, namespace: requests}
spec:
  gatewayClassName: istio
  listeners:
  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: nowhere}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: broken, namespace: requests}
data: {deployment: "spec: ["}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bad-overlay, namespace: requests}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
  infrastructure: {parametersRef: {group: "", kind: ConfigMap, name: broken}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: refused, namespace: requests}
data: {deployment: "spec: {replicas: -1}"}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: refused-overlay, namespace: requests}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
  infrastructure: {parametersRef: {group: "", kind: ConfigMap, name: refused}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad-regex, namespace: requests}
spec:
  hosts: [web.requests.svc.cluster.local]
  http:
  - match: [{uri: {regex: "("}}]
    route: [{destination: {host: nowhere.requests.svc.cluster.local}}]
  - route: [{destination: {host: web.requests.svc.cluster.local}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: second, namespace: requests}
spec:
  hosts: [web.requests.svc.cluster.local]
  http: [{route: [{destination: {host: nowhere.requests.svc.cluster.local}}]}]
"#;

/// Kind and name, where its conditions are, and one of them as it must be.
const TOLD: &[(&str, &str, &str, &str)] = &[
    (
        "httproute bad-regex",
        "/status/parents/0/conditions",
        "Accepted",
        "False UnsupportedValue",
    ),
    (
        "httproute no-backend",
        "/status/parents/0/conditions",
        "ResolvedRefs",
        "False BackendNotFound",
    ),
    (
        "httproute no-backend",
        "/status/parents/0/conditions",
        "Accepted",
        "True Accepted",
    ),
    (
        "gateway no-secret",
        "/status/listeners/0/conditions",
        "ResolvedRefs",
        "False InvalidCertificateRef",
    ),
    (
        "gateway bad-overlay",
        "/status/conditions",
        "Accepted",
        "False InvalidParameters",
    ),
    (
        "gateway refused-overlay",
        "/status/conditions",
        "Programmed",
        "False Invalid",
    ),
    (
        "gateway front",
        "/status/conditions",
        "Programmed",
        "True Programmed",
    ),
];

fn broken(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let kubectl = &stage.kubectl;
    let meshed = start_at(kubectl, Client::Meshed, 20, 8, "")?;
    let outside = start_at(kubectl, Client::Outside, 20, 8, "")?;
    kubectl.apply(BROKEN)?;
    let outcome = told(kubectl);
    // What is left of it would be in the way of those who come after.
    for objects in [
        "httproute bad-regex no-backend",
        "gateways.gateway.networking.k8s.io no-secret bad-overlay refused-overlay",
        "virtualservice bad-regex second",
        "configmap broken refused",
    ] {
        kubectl.run(&format!("delete -n requests {objects}"))?;
    }
    outcome?;
    none_failed(&meshed.outcome()?)?;
    none_failed(&outside.outcome()?)
}

fn told(kubectl: &Kubectl) -> anyhow::Result<()> {
    for (object, path, kind, wanted) in TOLD {
        eventually(&format!("{object}: {kind} {wanted}"), SOON, || {
            let (of, name) = object.split_once(' ').context("kind and name")?;
            let found = kubectl.json(&format!(
                "get {of}.gateway.networking.k8s.io -n requests {name}"
            ))?;
            let conditions = found.pointer(path).unwrap_or(&Value::Null);
            ensure!(
                condition(conditions, kind) == *wanted,
                "{}",
                found["status"]
            );
            Ok(())
        })?;
    }
    for name in ["bad-regex", "second"] {
        eventually(
            &format!("VirtualService {name} says what is wrong"),
            SOON,
            || {
                let found = kubectl.json(&format!("get virtualservice -n requests {name}"))?;
                let conditions = &found["status"]["conditions"];
                let told = condition(conditions, "WaypointAccepted");
                ensure!(
                    !told.is_empty() && told != "True Accepted",
                    "{}",
                    found["status"]
                );
                Ok(())
            },
        )?;
    }
    // The good rule of a route with a bad one is in force.
    let front = |path: &str| {
        let url = format!("http://front-istio.requests{path}");
        let said = kubectl.curl(
            SLEEP,
            &[
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "-H",
                "Host: broken.example",
                &url,
            ],
        )?;
        Ok::<_, anyhow::Error>(said.out)
    };
    ensure!(front("/fine")? == "200", "{}", front("/fine")?);
    ensure!(front("/nowhere")? == "500", "{}", front("/nowhere")?);
    Ok(())
}
