//! What operations cost: memory at rest, how soon a policy is in force, how long a killed worker is missed.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::kubectl::Kubectl;
use crate::load::Outcome;
use crate::processes;

/// New connections per second while operations happen.
const RATE: u32 = 200;
/// Time before an operation, so that the load is steady.
const LEAD: Duration = Duration::from_secs(1);

/// Nobody may call the server.
const DENY_ALL: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: meshed}
spec: {}
"#;

/// The figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Operations {
    /// Proportional set size of all processes of a pod together, by pod, MiB.
    pub memory_mib: Vec<(String, f64)>,
    /// From the return of `kubectl apply` to the last connection that was still allowed, milliseconds; 0 when that came before.
    pub policy_ms: Vec<f64>,
    /// Node, longest time without a success, milliseconds, and how many connections failed.
    pub kill: Vec<(String, f64, u64)>,
}

/// A client under steady load, and the server that it calls.
pub struct Steady<'a> {
    /// The `load` program.
    pub load: &'a Path,
    /// A process in the client's network.
    pub from: i32,
    /// host:port.
    pub to: &'a str,
}

impl Steady<'_> {
    fn start(&self, seconds: u32) -> Result<Child> {
        let mut command = processes::in_network_of(self.from);
        command
            .arg(self.load)
            .args(["new", "--to", self.to, "--rate", &RATE.to_string()])
            .args(["--seconds", &seconds.to_string()])
            .stdout(Stdio::piped());
        let child = command.spawn().context("starting the load")?;
        std::thread::sleep(LEAD);
        Ok(child)
    }
}

/// Measures all of it, `rounds` times.
pub fn measure(kubectl: &Kubectl, steady: &Steady<'_>, rounds: usize) -> Result<Operations> {
    let mut found = Operations {
        memory_mib: memory(kubectl)?,
        ..Operations::default()
    };
    for _ in 0..rounds {
        found.policy_ms.push(policy(kubectl, steady)?);
        for node in ["node1", "node2"] {
            found.kill.push(kill(kubectl, steady, node)?);
        }
    }
    Ok(found)
}

/// Proportional set size of all processes of a pod together, by pod, MiB.
pub(super) fn memory(kubectl: &Kubectl) -> Result<Vec<(String, f64)>> {
    let pods = kubectl.json("get pods -n istio-system")?;
    let items = pods["items"].as_array().context("no pods")?;
    items
        .iter()
        .map(|pod| {
            let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
            let bytes: u64 = processes::of_pod(text("uid"))?
                .keys()
                // A process may end while it is looked at.
                .filter_map(|pid| processes::memory(*pid).ok())
                .sum();
            Ok((text("name").to_owned(), bytes as f64 / f64::from(1 << 20)))
        })
        .collect()
}

fn policy(kubectl: &Kubectl, steady: &Steady<'_>) -> Result<f64> {
    let client = steady.start(4)?;
    kubectl.apply(DENY_ALL)?;
    let applied = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let outcome = outcome(client)?;
    kubectl.run("delete authorizationpolicy -n meshed nobody")?;
    ensure!(
        outcome.ok > 0 && outcome.failed > 0,
        "the policy changed nothing: {outcome:?}"
    );
    // Until connections pass again.
    std::thread::sleep(LEAD);
    Ok((outcome.last_success_at_ms - applied.as_secs_f64() * 1e3).max(0.0))
}

fn kill(kubectl: &Kubectl, steady: &Steady<'_>, node: &str) -> Result<(String, f64, u64)> {
    let client = steady.start(4)?;
    let (_, worker) = processes::ztunnel(kubectl, node)?;
    let killed = Command::new("kill")
        .args(["-9", &worker.to_string()])
        .status()?;
    ensure!(killed.success(), "kill -9 {worker}: {killed}");
    let outcome = outcome(client)?;
    ensure!(outcome.ok > 0, "nothing went through: {outcome:?}");
    Ok((node.to_owned(), outcome.longest_gap_ms, outcome.failed))
}

fn outcome(client: Child) -> Result<Outcome> {
    let output = client.wait_with_output()?;
    serde_json::from_slice(&output.stdout).context("the client's outcome")
}

impl Operations {
    /// Prints the figures.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nMemory at rest (PSS of all processes of a pod)")?;
        for (pod, mib) in &self.memory_mib {
            writeln!(out, "  {pod:<32} {mib:>8.1} MiB")?;
        }
        let policies: Vec<String> = self.policy_ms.iter().map(|ms| format!("{ms:.0}")).collect();
        writeln!(
            out,
            "Policy in force after kubectl returned, at {RATE} new connections/s: {} ms",
            policies.join(", ")
        )?;
        writeln!(
            out,
            "kill -9 of a ztunnel worker, at {RATE} new connections/s"
        )?;
        for (node, gap, failed) in &self.kill {
            writeln!(out, "  {node}: longest gap {gap:.0} ms, {failed} failed")?;
        }
        Ok(())
    }
}
