//! A small world for requests under load: a client and two servers of the `load` program behind a waypoint of two replicas, and an
//! ingress gateway of two, which a client outside of the mesh uses.

use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tulle_testing::fixtures::load_deployment;
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::load::Outcome;

use crate::stage::Stage;

/// Requests per second.
pub const RATE: u32 = 500;
/// A pod of the mesh with curl.
pub const SLEEP: &str = "-n requests deploy/sleep";
/// What the client in the mesh asks.
pub const WEB: &str = "web.requests:80";
/// What the client outside asks.
pub const FRONT: &str = "front-istio.requests:80";
/// How long anything may take.
pub const SOON: Duration = Duration::from_secs(60);

const GATEWAYS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: two, namespace: requests}
data: {deployment: "spec: {replicas: 2}"}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: requests, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
  infrastructure: {parametersRef: {group: "", kind: ConfigMap, name: two}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: requests}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
  infrastructure: {parametersRef: {group: "", kind: ConfigMap, name: two}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front, namespace: requests}
spec:
  parentRefs: [{name: front}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: requests}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 7000}]}
"#;

/// Makes the world, once.
pub fn world(stage: &Stage) -> anyhow::Result<()> {
    static MADE: OnceLock<()> = OnceLock::new();
    if MADE.get().is_some() {
        return Ok(());
    }
    let kubectl = &stage.kubectl;
    let nodes = stage.nodes()?;
    kubectl.apply(
        r#"
apiVersion: v1
kind: Namespace
metadata: {name: requests, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: v1
kind: Namespace
metadata: {name: requests-outside}
"#,
    )?;
    kubectl.apply(GATEWAYS)?;
    for (namespace, name, node, replicas) in [
        ("requests", "client", &nodes[0], 1),
        ("requests", "web", &nodes[1], 2),
        ("requests-outside", "client", &nodes[0], 1),
    ] {
        kubectl.apply(&load_deployment(namespace, name, node, replicas))?;
    }
    let sleep = stage.sample("sleep.yaml");
    kubectl.run(&format!("apply -n requests -f {sleep}"))?;
    for deployment in ["client", "web", "sleep", "waypoint", "front-istio"] {
        kubectl.run(&format!(
            "rollout status -n requests deploy/{deployment} --timeout=120s"
        ))?;
    }
    kubectl.run("rollout status -n requests-outside deploy/client --timeout=60s")?;
    eventually("requests go through the waypoint", SOON, || {
        let said = kubectl.curl(
            SLEEP,
            &["-D", "-", "-o", "/dev/null", "http://web.requests/"],
        )?;
        ensure!(
            said.out.contains("x-envoy-upstream-service-time"),
            "{said:?}"
        );
        Ok(())
    })?;
    let _ = MADE.set(());
    Ok(())
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Client {
    /// Through the waypoint.
    Meshed,
    /// Through the gateway.
    Outside,
}

/// Load that is under way.
pub struct Load {
    child: Child,
    least: u64,
}

/// Starts to ask for so many seconds; returns when it is steady.
pub fn start(kubectl: &Kubectl, client: Client, seconds: u32, mark: &str) -> anyhow::Result<Load> {
    start_at(kubectl, client, RATE, seconds, mark)
}

/// The same at another rate.
pub fn start_at(
    kubectl: &Kubectl,
    client: Client,
    rate: u32,
    seconds: u32,
    mark: &str,
) -> anyhow::Result<Load> {
    let (namespace, to) = match client {
        Client::Meshed => ("requests", WEB),
        Client::Outside => ("requests-outside", FRONT),
    };
    let (per_second, time) = (rate.to_string(), seconds.to_string());
    let child = kubectl
        .program("kubectl")
        .args([
            "exec",
            "-n",
            namespace,
            "deploy/client",
            "--",
            "/load",
            "ask",
        ])
        .args([
            "--to",
            to,
            "--rate",
            &per_second,
            "--seconds",
            &time,
            "--mark",
            mark,
        ])
        .stdout(Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    // Much less is no load, whatever else this machine does.
    let least = u64::from(seconds * rate) * 6 / 10;
    Ok(Load { child, least })
}

impl Load {
    /// What became of the requests.
    pub fn outcome(self) -> anyhow::Result<Outcome> {
        let output = self.child.wait_with_output()?;
        let outcome: Outcome =
            serde_json::from_slice(&output.stdout).context("the client's outcome")?;
        ensure!(outcome.ok >= self.least, "too little load: {outcome:?}");
        Ok(outcome)
    }
}

/// Does something in the middle of the load, and prints what users noticed.
pub fn under_load(
    stage: &Stage,
    client: Client,
    seconds: u32,
    what: &str,
    operation: impl FnOnce(&Kubectl) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let load = start(&stage.kubectl, client, seconds, "")?;
    let done = operation(&stage.kubectl);
    let outcome = load.outcome();
    done?;
    let outcome = outcome?;
    say(&format!(
        "{what}: {} requests, {} failed, {} on a new connection, longest gap {:.0} ms, p50 {:.1} ms, p99 {:.1} ms",
        outcome.ok + outcome.failed,
        outcome.failed,
        outcome.retried,
        outcome.longest_gap_ms,
        outcome.p50_us / 1e3,
        outcome.p99_us / 1e3
    ));
    Ok(outcome)
}

/// A figure, below the case's own line.
pub fn say(figure: &str) {
    use std::io::Write as _;
    // Nobody may listen any more.
    let _ = writeln!(std::io::stdout(), "        {figure}");
}

/// Not one.
pub fn none_failed(outcome: &Outcome) -> anyhow::Result<()> {
    ensure!(
        outcome.failed == 0,
        "{} of {} failed: {:?}",
        outcome.failed,
        outcome.ok,
        outcome.errors
    );
    Ok(())
}

/// Applies a manifest; when the API server answered, milliseconds since 1970, as kubectl's own log says.
pub fn apply_timed(kubectl: &Kubectl, manifest: &str) -> anyhow::Result<f64> {
    use std::io::Write as _;
    let mut child = kubectl
        .program("kubectl")
        .args(["apply", "-v=6", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(manifest.as_bytes())?;
    let output = child.wait_with_output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl apply: {log}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let wrote = |line: &&str| line.contains("\"PATCH\"") || line.contains("\"POST\"");
    let line = log
        .lines()
        .rev()
        .find(wrote)
        .context("no answer in kubectl's log")?;
    // `I1120 17:04:05.123456 ...`, in this machine's time.
    let clock = line.split_whitespace().nth(1).context("no time")?;
    let minutes_seconds: f64 = match clock.split(':').collect::<Vec<_>>()[..] {
        [_, minutes, seconds] => minutes.parse::<f64>()? * 60.0 + seconds.parse::<f64>()?,
        _ => anyhow::bail!("no time of day: {line}"),
    };
    // Whatever the time zone's hours are: it was within this hour.
    let ago = (now - minutes_seconds).rem_euclid(3600.0);
    Ok((now - ago) * 1e3)
}

/// Sum of the samples whose line holds all these texts.
pub fn sum(metrics: &str, texts: &[&str]) -> f64 {
    let lines = metrics.lines().filter(|l| !l.starts_with('#'));
    lines
        .filter(|l| texts.iter().all(|t| l.contains(t)))
        .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

/// Status and reason of one condition, as `True Accepted`; empty when it is not there.
pub fn condition(conditions: &serde_json::Value, kind: &str) -> String {
    let found = conditions
        .as_array()
        .and_then(|all| all.iter().find(|c| c["type"] == kind));
    let text = |key: &str| found.and_then(|c| c[key].as_str()).unwrap_or_default();
    format!("{} {}", text("status"), text("reason"))
        .trim()
        .to_owned()
}
