//! Two ztunnels against a plain two-hop relay and against the direct path, in one alternating run.
//!
//! All three paths lead from a pod on the first node to a pod on the second. The relay is `load relay` once in each
//! pod's namespace: the same three TCP hops as the mesh, without encryption. What carries over between machines is the
//! ratio to the relay, taken in the same run; absolute figures of a shared machine mean little.

pub mod layer7;
mod measure;
mod operations;
mod report;
pub mod scale;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tulle_playground::{Progress, images};

use crate::kubectl::{Kubectl, becomes};
use crate::processes;
use crate::stage::{Programs, Stage};

pub use measure::{Sample, Way, Workload};
pub use operations::Operations;
use operations::Steady;
pub use report::print;

/// Where the relays listen.
const RELAY_PORT: u16 = 7100;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Programs of the mesh.
    pub programs: Programs,
    /// The `load` program.
    pub load: PathBuf,
    /// Rounds of direct, relay, mesh, mesh, relay, direct.
    pub rounds: usize,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Only workloads with this in their name, and no operations.
    pub only: Option<String>,
}

impl Options {
    fn wants(&self, workload: Workload) -> bool {
        let name = workload.to_string();
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}

/// Client and server pods of one namespace, by a process in each, and the server's address.
struct Pair {
    client: i32,
    server: i32,
    address: String,
}

/// Kills a relay when dropped.
struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have died by itself; then the measurement failed and said so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the bench found.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    /// Of the three paths.
    pub samples: Vec<Sample>,
    /// Of operations on the mesh.
    pub operations: Option<Operations>,
}

/// Runs the whole bench on a playground of its own.
pub fn run(options: &Options, progress: &mut Progress) -> Result<Findings> {
    let image = images::program("docker.io/tulle/load:bench", &options.load, "/load")?;
    let name = format!("bench{}", std::process::id());
    let stage = Stage::start(&name, &options.programs, &[image], progress)?;
    stage.install_mesh(progress)?;
    let kubectl = &stage.kubectl;
    let meshed = deploy(kubectl, "meshed", true)?;
    let plain = deploy(kubectl, "plain", false)?;
    let meshed_server = format!("{}:7000", meshed.address);
    let steady = Steady {
        load: &options.load,
        from: meshed.client,
        to: &meshed_server,
    };
    // Before the workers are looked up: this kills some.
    let operations = options.only.is_none().then(|| {
        progress.step("memory, policies, killed workers", |_| {
            operations::measure(kubectl, &steady, options.rounds)
        })
    });
    let operations = operations.transpose()?;
    let mut ztunnels = Vec::new();
    for node in ["node1", "node2"] {
        let (keeper, worker) = processes::ztunnel(kubectl, node)?;
        ztunnels.extend([keeper, worker]);
    }
    let far = relay(
        &options.load,
        plain.server,
        &format!("0.0.0.0:{RELAY_PORT}"),
        "127.0.0.1:7000",
    )?;
    let to = format!("{}:{RELAY_PORT}", plain.address);
    let near = relay(
        &options.load,
        plain.client,
        &format!("127.0.0.1:{RELAY_PORT}"),
        &to,
    )?;
    let paths = [
        Way {
            name: "direct",
            from: plain.client,
            to: format!("{}:7000", plain.address),
            proxies: Vec::new(),
        },
        Way {
            name: "relay",
            from: plain.client,
            to: format!("127.0.0.1:{RELAY_PORT}"),
            proxies: vec![processes_id(&near), processes_id(&far)],
        },
        Way {
            name: "tulle",
            from: meshed.client,
            to: meshed_server.clone(),
            proxies: ztunnels,
        },
    ];
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        for workload in Workload::ALL.into_iter().filter(|one| options.wants(*one)) {
            progress.step(
                &format!("round {round} of {}: {workload}", options.rounds),
                |_| {
                    for index in [0, 1, 2, 2, 1, 0] {
                        samples.push(paths[index].measure(
                            &options.load,
                            workload,
                            options.seconds,
                        )?);
                    }
                    Ok(())
                },
            )?;
        }
    }
    Ok(Findings {
        samples,
        operations,
    })
}

fn processes_id(relay: &Relay) -> i32 {
    relay.0.id().cast_signed()
}

fn deploy(kubectl: &Kubectl, namespace: &str, enrolled: bool) -> Result<Pair> {
    let manifest = crate::fixtures::load_namespace(namespace, "node1", "node2")
        .replace("load:test", "load:bench");
    kubectl.apply(&manifest)?;
    if enrolled {
        kubectl.run(&format!(
            "label namespace {namespace} istio.io/dataplane-mode=ambient"
        ))?;
    }
    for name in ["client", "server"] {
        kubectl.run(&format!(
            "rollout status -n {namespace} deploy/{name} --timeout=120s"
        ))?;
    }
    if enrolled {
        becomes(
            "both pods are enrolled",
            &2,
            std::time::Duration::from_secs(60),
            || {
                let pods = kubectl.run(&format!("get pods -n {namespace} -o yaml"))?;
                Ok(pods
                    .matches("ambient.istio.io/redirection: enabled")
                    .count())
            },
        )?;
    }
    let pick = |app: &str| format!("-n {namespace} -l app={app}");
    Ok(Pair {
        client: processes::one_of(kubectl, &pick("client"))?,
        server: processes::one_of(kubectl, &pick("server"))?,
        address: kubectl.run(&format!(
            "get pods {} -o=jsonpath={{.items[0].status.podIP}}",
            pick("server")
        ))?,
    })
}

fn relay(load: &Path, pid: i32, listen: &str, to: &str) -> Result<Relay> {
    let child = processes::in_network_of(pid)
        .arg(load)
        .args(["relay", "--listen", listen, "--to", to])
        .stdin(Stdio::null())
        .spawn()
        .context("starting a relay")?;
    Ok(Relay(child))
}
