//! Spans of a gateway: one for the request, one more towards the endpoint.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::eventually;

use super::{SOON, attributes, received};
use crate::features::address;
use crate::stage::Stage;

const GATEWAY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: telemetry}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front, namespace: telemetry}
spec: {parentRefs: [{name: front}], rules: [{backendRefs: [{name: httpbin, port: 8000}]}]}
"#;

/// The Telemetry of the namespace is that of the waypoint's case.
pub(super) fn spans(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(GATEWAY)?;
    let gateway = address(kubectl, "telemetry", "front")?;
    let trace = "5bf92f3577b34da6a3ce929d0e0e4736";
    let ask = || {
        let output = Command::new("curl")
            .args(["-s", "--max-time", "5", "-H", "x-team: green"])
            .args([
                "-H",
                &format!("traceparent: 00-{trace}-00f067aa0ba902b7-01"),
            ])
            .args([
                "-H",
                "Host: shop.test",
                &format!("http://{gateway}/headers"),
            ])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = said
            .find(&format!("00-{trace}-"))
            .with_context(|| format!("not passed on: {said}"))?;
        // What the application was told to continue: version, trace, span, flags.
        anyhow::Ok(said[at..].split('-').nth(2).unwrap_or_default().to_owned())
    };
    let (server, client) = eventually("the collector has both spans", SOON, || {
        let told = ask()?;
        let all = received(kubectl, "resourceSpans", "scopeSpans", "spans")?;
        let of = |id: &Value| {
            all.iter()
                .find(|s| s["traceId"] == trace && s["spanId"] == *id)
                .cloned()
        };
        let client = of(&told.clone().into()).context("no span towards the endpoint")?;
        let server =
            of(&client["parentSpanId"]).with_context(|| format!("no span above {client}"))?;
        Ok((server, client))
    })?;
    ensure!(server["parentSpanId"] == "00f067aa0ba902b7", "{server}");
    ensure!(
        server["kind"] == 2 && client["kind"] == 3,
        "{server} {client}"
    );
    for span in [&server, &client] {
        let attributes = attributes(span);
        for (name, value) in [
            ("http.method", "GET"),
            ("http.status_code", "200"),
            ("http.url", "http://shop.test/headers"),
            ("component", "proxy"),
            (
                "upstream_cluster",
                "outbound|8000||httpbin.telemetry.svc.cluster.local",
            ),
            ("istio.namespace", "telemetry"),
            ("istio.canonical_service", "front-istio"),
            ("from-header", "green"),
            ("formatted", "GET 200"),
        ] {
            ensure!(
                attributes.contains(&(name.into(), value.into())),
                "{name}={value}: {span:#}"
            );
        }
    }
    kubectl.delete(GATEWAY)
}
