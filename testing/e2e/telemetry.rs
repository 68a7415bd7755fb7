//! Walk 6: what waypoints report (docs/telemetry.md), received by a real OpenTelemetry collector and scraped by a real Prometheus.

mod gateway;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::observers::{self, COLLECTOR_IMAGE, Prometheus};
use tulle_testing::suite::Case;

use crate::proxies;
use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);
const SLEEP: &str = "-n telemetry deploy/sleep";
const URL: &str = "http://httpbin:8000";

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "telemetry: a namespace with a waypoint, and a collector",
        run: up,
    },
    Case {
        name: "telemetry: Prometheus scrapes requests and connections",
        run: scraped,
    },
    Case {
        name: "telemetry: tags are changed per metric, metrics are switched off",
        run: tags,
    },
    Case {
        name: "telemetry: access logs are filtered, and go to the collector",
        run: logs,
    },
    Case {
        name: "telemetry: spans reach the collector, and traces go on",
        run: spans,
    },
    Case {
        name: "telemetry: a gateway's spans, one more towards the endpoint",
        run: gateway::spans,
    },
    Case {
        name: "telemetry: sampling, and reporting switched off",
        run: sampling,
    },
    Case {
        name: "telemetry: gone again",
        run: down,
    },
];

/// As docs/telemetry.md has them.
const PROVIDERS: &str = r#"
extensionProviders:
- name: otel
  opentelemetry: {service: collector.observability.svc.cluster.local, port: 4317, timeout: 5s}
- name: otel-logs
  envoyOtelAls:
    service: collector.observability.svc.cluster.local
    port: 4317
    logFormat:
      text: "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%"
      labels: {route: "%ROUTE_NAME%", agent: "%REQ(USER-AGENT)%"}
"#;

fn observatory() -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: observability}}
---
apiVersion: v1
kind: Service
metadata: {{name: collector, namespace: observability}}
spec: {{selector: {{app: collector}}, ports: [{{name: grpc-otlp, port: 4317}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: collector, namespace: observability}}
spec:
  selector: {{matchLabels: {{app: collector}}}}
  template:
    metadata: {{labels: {{app: collector}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: collector
        image: {COLLECTOR_IMAGE}
        imagePullPolicy: IfNotPresent
        readinessProbe: {{tcpSocket: {{port: 4317}}, periodSeconds: 1}}
"#
    )
}

/// Bytes through the waypoint: httpbin's port under a name that says TCP.
const TCP: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: bytes, namespace: telemetry}
spec: {selector: {app: httpbin}, ports: [{name: tcp, port: 9000, targetPort: 8080}]}
"#;

fn up(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    stage.load_image(observers::collector()?)?;
    kubectl.apply(&observatory())?;
    stage.mesh_config(PROVIDERS)?;
    kubectl.run("create namespace telemetry")?;
    kubectl.run("label namespace telemetry istio.io/dataplane-mode=ambient")?;
    for sample in ["httpbin.yaml", "sleep.yaml"] {
        kubectl.run(&format!("apply -n telemetry -f {}", stage.sample(sample)))?;
    }
    kubectl.apply(TCP)?;
    for namespace in ["telemetry", "observability"] {
        let wait = "deployment --all --for=condition=Available --timeout=120s";
        kubectl.run(&format!("wait -n {namespace} {wait}"))?;
    }
    stage.all_enrolled("telemetry")?;
    stage.tulle(&[
        "waypoint",
        "apply",
        "-n",
        "telemetry",
        "--enroll-namespace",
        "--wait",
    ])?;
    eventually("requests go through the waypoint", SOON, || {
        let said = kubectl.curl(SLEEP, &[&format!("{URL}/headers")])?;
        ensure!(said.out.to_lowercase().contains("x-request-id"), "{said:?}");
        Ok(())
    })
}

fn get(kubectl: &Kubectl, path: &str, further: &[&str]) -> anyhow::Result<String> {
    let url = format!("{URL}{path}");
    let mut args = further.to_vec();
    args.push(&url);
    Ok(kubectl.curl(SLEEP, &args)?.out)
}

const REQUESTS: &str = concat!(
    r#"istio_requests_total{reporter="waypoint",source_workload="sleep",source_workload_namespace="telemetry","#,
    r#"source_principal="spiffe://cluster.local/ns/telemetry/sa/sleep",destination_workload="httpbin","#,
    r#"destination_service="httpbin.telemetry.svc.cluster.local",response_code="200",request_protocol="http","#,
    r#"connection_security_policy="mutual_tls"}"#
);

fn scraped(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let prometheus = Prometheus::start(kubectl)?;
    let before = counted(&prometheus, REQUESTS)?;
    for _ in 0..7 {
        get(kubectl, "/get", &[])?;
    }
    eventually("seven requests more", SOON, || {
        let now = counted(&prometheus, REQUESTS)?;
        ensure!(now >= before + 7.0, "{before}, then {now}");
        Ok(())
    })?;
    let said = kubectl.curl(SLEEP, &["http://bytes:9000/get"])?;
    ensure!(said.out.contains("\"url\""), "{said:?}");
    for query in [
        r#"histogram_quantile(0.5, sum by (le) (istio_request_duration_milliseconds_bucket{reporter="waypoint"})) > 0"#,
        r#"istio_response_bytes_sum{reporter="waypoint"} > 0"#,
        r#"istio_tcp_connections_opened_total{reporter="waypoint",destination_service_name="bytes"} > 0"#,
        r#"istio_tcp_received_bytes_total{reporter="source",app="ztunnel",source_workload="sleep"} > 0"#,
        r#"istio_build{component="proxy"} == 1"#,
        r#"pilot_info"#,
    ] {
        eventually(query, SOON, || {
            let found = prometheus.query(query)?;
            ensure!(!found.is_empty(), "nothing");
            Ok(())
        })?;
    }
    // Every sample of every page was understood.
    let failed = prometheus.query(r#"up == 0 or scrape_samples_scraped == 0"#)?;
    let ours = |(labels, _): &&(Value, f64)| labels["namespace"] == "telemetry";
    ensure!(failed.iter().find(ours).is_none(), "{failed:?}");
    Ok(())
}

fn counted(prometheus: &Prometheus, query: &str) -> anyhow::Result<f64> {
    Ok(prometheus
        .query(query)?
        .iter()
        .map(|(_, value)| value)
        .sum())
}

const TAGS: &str = r#"
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: metrics, namespace: telemetry}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT}
      tagOverrides:
        path: {value: request.url_path}
        peer: {value: filter_state.downstream_peer.workload}
        request_protocol: {operation: REMOVE}
    - match: {metric: REQUEST_DURATION}
      tagOverrides: {method: {value: request.method}}
    - match: {metric: REQUEST_SIZE}
      disabled: true
    - match: {metric: TCP_OPENED_CONNECTIONS}
      tagOverrides: {port: {value: string(destination.port)}}
    - match: {metric: TCP_SENT_BYTES}
      disabled: true
"#;

fn tags(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(TAGS)?;
    eventually("tags are as wanted", SOON, || {
        get(kubectl, "/uuid", &[])?;
        kubectl.curl(SLEEP, &["http://bytes:9000/get"])?;
        let page = proxies::metrics(kubectl, "telemetry", "waypoint")?;
        let line = |parts: &[&str]| {
            let mut lines = page.lines();
            let found = lines.find(|l| parts.iter().all(|part| l.contains(part)));
            found.with_context(|| format!("{parts:?}: {page}"))
        };
        let count = line(&["istio_requests_total{", "path=\"/uuid\"", "peer=\"sleep\""])?;
        ensure!(!count.contains("request_protocol"), "{count}");
        ensure!(!count.contains("method="), "{count}");
        let duration = line(&[
            "istio_request_duration_milliseconds_count{",
            "method=\"GET\"",
        ])?;
        ensure!(duration.contains("request_protocol"), "{duration}");
        ensure!(!duration.contains("path="), "{duration}");
        line(&["istio_tcp_connections_opened_total{", "port=\"9000\""])?;
        Ok(())
    })?;
    // Nothing is added to what is switched off.
    let sum = |family: &str| -> anyhow::Result<f64> {
        let page = proxies::metrics(kubectl, "telemetry", "waypoint")?;
        let lines = page.lines().filter(|l| l.starts_with(family));
        let lines = lines.filter(|l| !l.contains("app=\"ztunnel\""));
        Ok(lines
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    };
    let off = ["istio_request_bytes_count{", "istio_tcp_sent_bytes_total{"];
    let before = [sum(off[0])?, sum(off[1])?];
    let counted = sum("istio_requests_total{")?;
    get(kubectl, "/uuid", &[])?;
    kubectl.curl(SLEEP, &["http://bytes:9000/get"])?;
    eventually("the request is counted", SOON, || {
        ensure!(sum("istio_requests_total{")? > counted, "not yet");
        Ok(())
    })?;
    ensure!(before == [sum(off[0])?, sum(off[1])?], "{off:?} grew");
    kubectl.run("delete -n telemetry telemetry metrics")?;
    Ok(())
}

const LOGS: &str = r#"
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: logs, namespace: telemetry}
spec:
  accessLogging:
  - providers: [{name: envoy}]
    filter: {expression: "response.code >= 400 && request.url_path.matches('^/status/[0-9]+$')"}
  - providers: [{name: otel-logs}]
"#;

fn logs(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(LOGS)?;
    let record = eventually("the collector has a line", SOON, || {
        get(kubectl, "/status/418", &["-A", "me"])?;
        let all = received(kubectl, "resourceLogs", "scopeLogs", "logRecords")?;
        let wanted = |r: &&Value| r["body"]["stringValue"] == "GET /status/418 418";
        all.iter().find(wanted).cloned().context("no such record")
    })?;
    let attributes = attributes(&record);
    ensure!(
        attributes.contains(&("agent".into(), "me".into())),
        "{record}"
    );
    get(kubectl, "/status/204", &["-A", "not-logged"])?;
    get(kubectl, "/status/404", &["-A", "logged"])?;
    eventually("a failure is on standard output", SOON, || {
        let log = kubectl.run("logs -n telemetry deploy/waypoint --tail=100")?;
        ensure!(log.contains("\"logged\""), "{log}");
        ensure!(!log.contains("not-logged"), "{log}");
        Ok(())
    })?;
    kubectl.run("delete -n telemetry telemetry logs")?;
    Ok(())
}

const TRACING: &str = r#"
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: tracing, namespace: telemetry}
spec:
  tracing:
  - providers: [{name: otel}]
    randomSamplingPercentage: 100
    customTags:
      literal: {literal: {value: fixed}}
      from-environment: {environment: {name: POD_NAMESPACE, defaultValue: none}}
      from-nowhere: {environment: {name: NO_SUCH_VARIABLE, defaultValue: a-default}}
      from-header: {header: {name: x-team, defaultValue: nobody}}
      formatted: {formatter: {value: "%REQ(:METHOD)% %RESPONSE_CODE%"}}
"#;

fn spans(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.apply(TRACING)?;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let span = eventually("the collector has the span", SOON, || {
        let said = get(kubectl, "/headers", &["-H", &parent, "-H", "x-team: blue"])?;
        ensure!(
            said.contains(&format!("00-{trace}-")),
            "not passed on: {said}"
        );
        let all = received(kubectl, "resourceSpans", "scopeSpans", "spans")?;
        let wanted = |s: &&Value| {
            s["traceId"] == trace && said.contains(s["spanId"].as_str().unwrap_or("-"))
        };
        all.iter().find(wanted).cloned().context("no such span")
    })?;
    ensure!(span["parentSpanId"] == "00f067aa0ba902b7", "{span}");
    ensure!(
        span["name"] == "httpbin.telemetry.svc.cluster.local:8000/*",
        "{span}"
    );
    ensure!(span["kind"] == 2, "a server's: {span}");
    let attributes = attributes(&span);
    for (name, value) in [
        ("http.method", "GET"),
        ("http.status_code", "200"),
        ("http.protocol", "HTTP/1.1"),
        ("http.url", "http://httpbin:8000/headers"),
        ("component", "proxy"),
        ("response_flags", "-"),
        (
            "upstream_cluster",
            "outbound|8000||httpbin.telemetry.svc.cluster.local",
        ),
        ("istio.mesh_id", "cluster.local"),
        ("istio.namespace", "telemetry"),
        ("istio.canonical_service", "waypoint"),
        ("istio.source_workload", "sleep"),
        ("istio.source_namespace", "telemetry"),
        ("istio.destination_workload", "httpbin"),
        ("istio.destination_canonical_revision", "v1"),
        ("literal", "fixed"),
        ("from-environment", "telemetry"),
        ("from-nowhere", "a-default"),
        ("from-header", "blue"),
        ("formatted", "GET 200"),
    ] {
        ensure!(
            attributes.contains(&(name.into(), value.into())),
            "{name}={value}: {span:#}"
        );
    }
    // B3, when that is what comes.
    let b3 = [
        "-H",
        "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
    ];
    let said = get(kubectl, "/headers", &b3)?.to_lowercase();
    ensure!(said.contains("80f198ee56343ba864fe8b2a57d3eff7-"), "{said}");
    ensure!(
        !said.contains("e457b5a2e4d86bd1") && !said.contains("traceparent"),
        "{said}"
    );
    Ok(())
}

fn sampling(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let patch = |change: &str| {
        let target = "patch -n telemetry telemetry tracing --type=json -p";
        let mut args: Vec<&str> = target.split(' ').collect();
        args.push(change);
        kubectl.run_args(&args).map(drop)
    };
    let sampled = |said: &str| {
        let parent = said.to_lowercase();
        let at = parent.find("\"00-").context("no traceparent")? + 1;
        let parent = parent
            .get(at..at + 55)
            .context("no traceparent")?
            .to_owned();
        Ok::<_, anyhow::Error>(parent.ends_with("-01"))
    };
    patch(
        r#"[{"op": "replace", "path": "/spec/tracing/0/randomSamplingPercentage", "value": 0}]"#,
    )?;
    eventually("nothing is sampled", SOON, || {
        ensure!(!sampled(&get(kubectl, "/headers", &[])?)?, "sampled");
        Ok(())
    })?;
    // Who decided already is heeded.
    let decided = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    ensure!(sampled(&get(kubectl, "/headers", &["-H", decided])?)?);
    eventually("the decided one is there", SOON, || {
        let all = received(kubectl, "resourceSpans", "scopeSpans", "spans")?;
        let found = all
            .iter()
            .any(|s| s["traceId"] == "0af7651916cd43dd8448eb211c80319c");
        ensure!(found, "not yet");
        Ok(())
    })?;
    patch(
        r#"[{"op": "add", "path": "/spec/tracing/0/disableSpanReporting", "value": true},
              {"op": "replace", "path": "/spec/tracing/0/randomSamplingPercentage", "value": 100}]"#,
    )?;
    eventually("the context goes on", SOON, || {
        ensure!(sampled(&get(kubectl, "/headers", &[])?)?, "not sampled");
        Ok(())
    })?;
    let silent = "traceparent: 00-1af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    get(kubectl, "/headers", &["-H", silent])?;
    // Spans are sent every second.
    std::thread::sleep(Duration::from_secs(3));
    let all = received(kubectl, "resourceSpans", "scopeSpans", "spans")?;
    let found = all
        .iter()
        .any(|s| s["traceId"] == "1af7651916cd43dd8448eb211c80319c");
    ensure!(!found, "a span was reported");
    Ok(())
}

/// What the collector has received of one kind.
fn received(
    kubectl: &Kubectl,
    resources: &str,
    scopes: &str,
    items: &str,
) -> anyhow::Result<Vec<Value>> {
    let log = kubectl.run("logs -n observability deploy/collector --tail=-1")?;
    let lines = log
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    Ok(lines
        .flat_map(|line| list(&line, resources))
        .flat_map(|resource| list(&resource, scopes))
        .flat_map(|scope| list(&scope, items))
        .collect())
}

fn attributes(item: &Value) -> Vec<(String, String)> {
    let all = item["attributes"].as_array();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.into_iter()
        .flatten()
        .map(|pair| (text(&pair["key"]), text(&pair["value"]["stringValue"])))
        .collect()
}

fn down(stage: &Stage) -> anyhow::Result<()> {
    stage.mesh_config("")?;
    stage
        .kubectl
        .run("delete namespace telemetry observability --wait=false")?;
    Ok(())
}
