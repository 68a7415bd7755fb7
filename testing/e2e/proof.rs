//! What crosses the link between the nodes: a marker in the payload is never seen in clear while its namespace is
//! enrolled. Without enrolment it is, so the capture does see what there is to see.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::eventually;
use tulle_testing::suite::Case;

use crate::stage::Stage;
use tulle_testing::fixtures;

const SOON: Duration = Duration::from_secs(60);
const MARKER: &str = "tulle-proof-marker-5d1f0c";

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "proof: enrolled, the marker never crosses in clear",
        run: enrolled,
    },
    Case {
        name: "proof: not enrolled, the marker is seen",
        run: not_enrolled,
    },
];

/// tcpdump on the playground's bridge, until it is stopped.
struct Capture {
    tcpdump: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    fn start(stage: &Stage) -> anyhow::Result<Self> {
        let file = tempfile::NamedTempFile::new()?;
        let tcpdump = Command::new("tcpdump")
            .args(["-i", &stage.bridge(), "-U", "-s", "0", "-Z", "root", "-w"])
            .arg(file.path())
            .args(["tcp"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting tcpdump")?;
        let capture = Self { tcpdump, file };
        eventually("tcpdump has begun", SOON, || {
            ensure!(size(capture.file.path())? > 0, "no header yet");
            Ok(())
        })?;
        Ok(capture)
    }

    fn stop(mut self) -> anyhow::Result<Vec<u8>> {
        let pid = rustix::process::Pid::from_child(&self.tcpdump);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        self.tcpdump.wait()?;
        Ok(std::fs::read(self.file.path())?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Already ended when `stop` was called.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

fn size(path: &Path) -> anyhow::Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}

fn seen(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|w| w == MARKER.as_bytes())
}

/// A client on one node that calls a service on the other from its first moment, again and again.
fn deploy(stage: &Stage, enrolled: bool) -> anyhow::Result<()> {
    let nodes = stage.nodes()?;
    let mode = if enrolled {
        "{istio.io/dataplane-mode: ambient}"
    } else {
        "{}"
    };
    let manifest = fixtures::load_namespace("proof", &nodes[0], &nodes[1]);
    stage.kubectl.apply(&manifest.replace(
        "metadata: {name: proof}",
        &format!("metadata: {{name: proof, labels: {mode}}}"),
    ))?;
    stage
        .kubectl
        .run("rollout status -n proof deploy/server --timeout=120s")?;
    let client = serde_json::json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": [
            "new", "--to", "server.proof:7000", "--rate", "50", "--seconds", "3600", "--marker", MARKER
        ]},
        {"op": "remove", "path": "/spec/template/spec/containers/0/readinessProbe"}
    ]);
    let args = client.to_string();
    stage.kubectl.run_args(&[
        "patch",
        "-n",
        "proof",
        "deploy/client",
        "--type=json",
        "-p",
        &args,
    ])?;
    stage
        .kubectl
        .run("rollout status -n proof deploy/client --timeout=120s")?;
    Ok(())
}

fn remove(stage: &Stage) -> anyhow::Result<()> {
    stage.kubectl.run("delete namespace proof --timeout=120s")?;
    Ok(())
}

fn enrolled(stage: &Stage) -> anyhow::Result<()> {
    let capture = Capture::start(stage)?;
    deploy(stage, true)?;
    stage.all_enrolled("proof")?;
    // A new client, a new endpoint, a ztunnel restart on both nodes: each with its first second in the capture.
    for deployment in ["client", "server"] {
        stage
            .kubectl
            .run(&format!("rollout restart -n proof deploy/{deployment}"))?;
        stage.kubectl.run(&format!(
            "rollout status -n proof deploy/{deployment} --timeout=120s"
        ))?;
    }
    stage.kill_ztunnel_worker(0)?;
    stage
        .kubectl
        .run("rollout restart -n istio-system daemonset/ztunnel")?;
    stage
        .kubectl
        .run("rollout status -n istio-system daemonset/ztunnel --timeout=120s")?;
    std::thread::sleep(Duration::from_secs(2));
    let bytes = capture.stop()?;
    ensure!(
        bytes.len() > 100_000,
        "the capture holds only {} bytes",
        bytes.len()
    );
    ensure!(!seen(&bytes), "the marker crossed the link in clear");
    let log = stage.ztunnel_logs("60s")?;
    let calls = log
        .lines()
        .filter(|l| l.contains("server.proof.svc.cluster.local") && l.contains("dst.hbone_addr"));
    ensure!(
        calls.count() > 20,
        "the client's calls are not in the access log: was there any traffic?"
    );
    remove(stage)
}

fn not_enrolled(stage: &Stage) -> anyhow::Result<()> {
    let capture = Capture::start(stage)?;
    deploy(stage, false)?;
    std::thread::sleep(Duration::from_secs(2));
    let bytes = capture.stop()?;
    ensure!(
        seen(&bytes),
        "the marker was not seen without the mesh: the capture proves nothing"
    );
    remove(stage)
}
