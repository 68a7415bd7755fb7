//! What Gateways ask of their deployment: addresses, metadata; generations in their status, and who may add listeners.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::{Kubectl, eventually};

use super::{SOON, Told, address, told};
use crate::stage::Stage;
use crate::table::{Asker, get, secure};

/// One Gateway for all of it.
const OBJECTS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: fixed, namespace: gw}
spec:
  gatewayClassName: istio
  addresses: [{type: IPAddress}]
  infrastructure: {labels: {cost-centre: "7"}, annotations: {example.com/owner: us}}
  allowedListeners: {namespaces: {from: Selector, selector: {matchLabels: {team: b}}}}
  tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: "", kind: ConfigMap, name: root}]}}}}
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, hostname: one.secure.test, tls: {certificateRefs: [{name: one}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: fixed, namespace: gw}
spec:
  parentRefs: [{name: fixed}]
  rules:
  - {matches: [{path: {value: /manual}}], backendRefs: [{name: manual, port: 80}]}
  - {matches: [{path: {value: /headless-manual}}], backendRefs: [{name: headless-manual, port: 80}]}
  - {backendRefs: [{name: one, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: manual, namespace: gw}
spec: {ports: [{name: web, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless-manual, namespace: gw}
spec: {clusterIP: None, ports: [{name: web, port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: team-a, namespace: gw}
spec:
  parentRef: {name: fixed}
  listeners: [{name: team-a, port: 8101, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: team-b, namespace: gw-other}
spec:
  parentRef: {name: fixed, namespace: gw}
  listeners: [{name: team-b, port: 8102, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: team-b, namespace: gw-other}
spec:
  parentRefs: [{kind: ListenerSet, name: team-b}]
  rules: [{backendRefs: [{name: four, port: 80}]}]
"#;

/// Endpoints that a user wrote: the pod of the echo `two`.
fn slices(pod: &str) -> String {
    ["manual", "headless-manual"]
        .map(|service| {
            format!(
                r#"---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-by-hand, namespace: gw, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: web, port: 8080, protocol: TCP}}]
endpoints: [{{addresses: [{pod}]}}]
"#
            )
        })
        .concat()
}

pub(super) fn gateways(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let pod = kubectl.run("get pods -n gw -l app=two -o=jsonpath={.items[0].status.podIP}")?;
    let objects = format!("{OBJECTS}{}", slices(&pod));
    kubectl.apply(&objects)?;
    // GatewayOptionalAddressValue
    let at = address(kubectl, "gw", "fixed")?.to_string();
    told(kubectl, FIXED)?;
    let roots = stage.certificates()?.text();
    Asker::host(kubectl, &at, &roots).expect(&[
        (
            "HTTPRouteServiceTypes",
            &[
                get("types.test", "/manual").to("two"),
                get("types.test", "/headless-manual").to("two"),
            ],
        ),
        (
            "GatewayFrontendClientCertificateValidationInsecureFallback",
            INSECURE,
        ),
        (
            "ListenerSetAllowedNamespaceSelector",
            &[
                get("set.test", "/").port(8101).fails(),
                get("set.test", "/").port(8102).to("four"),
            ],
        ),
    ])?;
    metadata(kubectl)?;
    generations(kubectl)?;
    addresses(kubectl, &roots)?;
    kubectl.delete(&objects)
}

const FIXED: &[Told] = &[
    ("Gateway/fixed", "", "Accepted", "True", "Accepted"),
    ("Gateway/fixed", "", "Programmed", "True", "Programmed"),
    (
        "Gateway/fixed",
        "",
        "InsecureFrontendValidationMode",
        "True",
        "ConfigurationChanged",
    ),
    ("ListenerSet/team-a", "", "Accepted", "False", "NotAllowed"),
];

const INSECURE: &[crate::table::Row] = &[
    secure("one.secure.test", "/").to("one"),
    secure("one.secure.test", "/")
        .options(&[
            "--cert",
            "DIRECTORY/client.crt",
            "--key",
            "DIRECTORY/client.key",
        ])
        .to("one"),
    secure("one.secure.test", "/")
        .options(&[
            "--cert",
            "DIRECTORY/unknown.crt",
            "--key",
            "DIRECTORY/unknown.key",
        ])
        .to("one"),
];

/// GatewayInfrastructure
fn metadata(kubectl: &Kubectl) -> anyhow::Result<()> {
    let made = kubectl.json(
        "get deployment,service,serviceaccount,pod -n gw -l gateway.networking.k8s.io/gateway-name=fixed",
    )?;
    let items = made["items"].as_array().context("no items")?;
    for kind in ["Deployment", "Service", "ServiceAccount", "Pod"] {
        let found = items.iter().find(|item| item["kind"] == kind);
        let metadata = &found.with_context(|| format!("no {kind}"))?["metadata"];
        ensure!(
            metadata["labels"]["cost-centre"] == "7"
                && metadata["annotations"]["example.com/owner"] == "us",
            "{kind}: {metadata:#}"
        );
    }
    Ok(())
}

fn patch(kubectl: &Kubectl, change: &Value) -> anyhow::Result<()> {
    let change = change.to_string();
    let args = [
        "patch",
        "gateway",
        "-n",
        "gw",
        "fixed",
        "--type=merge",
        "-p",
        &change,
    ];
    kubectl.run_args(&args).map(drop)
}

/// GatewayObservedGenerationBump: all conditions are of the generation that a change made.
fn generations(kubectl: &Kubectl) -> anyhow::Result<()> {
    let generation =
        || anyhow::Ok(kubectl.json("get gateway -n gw fixed")?["metadata"]["generation"].as_i64());
    let before = generation()?;
    // Nothing that the deployment is made of: no roll-out.
    let to = serde_json::json!({"spec": {"allowedListeners": {"namespaces": {"selector": {"matchExpressions": []}}}}});
    patch(kubectl, &to)?;
    ensure!(generation()? > before, "the change made no new generation");
    // It compares the generation of each, too.
    told(kubectl, FIXED)
}

/// GatewayStaticAddresses: one of a kind that nobody knows, one that is not ours, one of the pool that is free.
fn addresses(kubectl: &Kubectl, roots: &str) -> anyhow::Result<()> {
    let pools = kubectl.json("get ipaddresspools -A")?;
    let range = pools["items"][0]["spec"]["addresses"][0].as_str();
    let free = range
        .and_then(|range| range.rsplit('-').next())
        .context("MetalLB has no pool")?;
    let usable = serde_json::json!({"type": "IPAddress", "value": free});
    let unusable = serde_json::json!({"type": "IPAddress", "value": "192.0.2.55"});
    let unknown = serde_json::json!({"type": "test/fake-invalid-type", "value": "x"});
    let set = |list: &[&Value]| patch(kubectl, &serde_json::json!({"spec": {"addresses": list}}));
    set(&[&unknown, &unusable, &usable])?;
    told(
        kubectl,
        &[(
            "Gateway/fixed",
            "",
            "Accepted",
            "False",
            "UnsupportedAddress",
        )],
    )?;
    set(&[&unusable, &usable])?;
    told(
        kubectl,
        &[
            ("Gateway/fixed", "", "Accepted", "True", "Accepted"),
            (
                "Gateway/fixed",
                "",
                "Programmed",
                "False",
                "AddressNotUsable",
            ),
        ],
    )?;
    set(&[&usable])?;
    told(kubectl, FIXED)?;
    eventually("that one address", SOON, || {
        let status = kubectl.json("get gateway -n gw fixed")?["status"]["addresses"].clone();
        ensure!(status == serde_json::json!([usable]), "{status}");
        Ok(())
    })?;
    let there = Asker::host(kubectl, free, roots);
    there.expect(&[("GatewayStaticAddresses", &[get("any.test", "/").to("one")])])
}
