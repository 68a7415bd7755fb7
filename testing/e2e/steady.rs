//! Under a steady 200 new connections per second from one node to the other, operations fail none.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::eventually;
use tulle_testing::load::Outcome;
use tulle_testing::suite::Case;

use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "steady: labelling the namespace fails no connection",
        run: labelling,
    },
    Case {
        name: "steady: a policy change is in force at once",
        run: policy,
    },
    Case {
        name: "steady: a rolling restart of ztunnel fails no new connection",
        run: rolling_restart,
    },
    Case {
        name: "steady: kill -9 of the worker on the client's node",
        run: kill_client_side,
    },
    Case {
        name: "steady: kill -9 of the worker on the server's node",
        run: kill_server_side,
    },
    Case {
        name: "steady: un-labelling the namespace fails no connection",
        run: unlabelling,
    },
];

/// Runs `operation` in the middle of `seconds` of load; returns what the client counted.
fn under_load(
    stage: &Stage,
    seconds: u32,
    operation: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    stage.load()?;
    let child = stage
        .kubectl
        .program("kubectl")
        .args([
            "exec",
            "-n",
            "load",
            "deploy/client",
            "--",
            "/load",
            "new",
            "--to",
            "server.load:7000",
        ])
        .args(["--rate", "200", "--seconds", &seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    let done = operation();
    let output = child.wait_with_output()?;
    done?;
    let outcome: Outcome =
        serde_json::from_slice(&output.stdout).context("the client's outcome")?;
    ensure!(
        outcome.ok > u64::from(seconds) * 150,
        "too little load: {outcome:?}"
    );
    Ok(outcome)
}

fn none_failed(outcome: &Outcome) -> anyhow::Result<()> {
    ensure!(
        outcome.failed == 0,
        "{} of {} failed: {:?}",
        outcome.failed,
        outcome.ok,
        outcome.errors
    );
    Ok(())
}

fn labelling(stage: &Stage) -> anyhow::Result<()> {
    stage.load()?;
    stage
        .kubectl
        .run("label namespace load istio.io/dataplane-mode-")?;
    std::thread::sleep(Duration::from_secs(8));
    let outcome = under_load(stage, 10, || {
        stage
            .kubectl
            .run("label namespace load istio.io/dataplane-mode=ambient --overwrite")?;
        stage.all_enrolled("load")
    })?;
    none_failed(&outcome)
}

fn policy(stage: &Stage) -> anyhow::Result<()> {
    stage.load()?;
    stage.kubectl.apply(
        r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: load}
spec: {selector: {matchLabels: {app: server}}, action: ALLOW, rules: [{from: [{source: {principals: ["cluster.local/ns/load/sa/nobody"]}}]}]}
"#,
    )?;
    let applied = Instant::now();
    let refused = eventually("refused", Duration::from_secs(10), || {
        let outcome = stage.load_from(
            "client",
            &[
                "new",
                "--to",
                "server.load:7000",
                "--rate",
                "50",
                "--seconds",
                "0.1",
            ],
        )?;
        ensure!(outcome.ok == 0 && outcome.failed > 0, "{outcome:?}");
        Ok(applied.elapsed())
    });
    stage
        .kubectl
        .run("delete authorizationpolicy -n load nobody")?;
    eventually("allowed again", Duration::from_secs(10), || {
        let outcome = stage.load_from(
            "client",
            &[
                "new",
                "--to",
                "server.load:7000",
                "--rate",
                "50",
                "--seconds",
                "0.1",
            ],
        )?;
        none_failed(&outcome)
    })?;
    refused.map(|_| ())
}

fn rolling_restart(stage: &Stage) -> anyhow::Result<()> {
    let outcome = under_load(stage, 30, || {
        stage
            .kubectl
            .run("rollout restart -n istio-system daemonset/ztunnel")?;
        stage
            .kubectl
            .run("rollout status -n istio-system daemonset/ztunnel --timeout=120s")?;
        Ok(())
    })?;
    none_failed(&outcome)
}

/// New connections wait for the next worker: those under way may die, and nothing later than a generous second.
fn kill(stage: &Stage, node: usize) -> anyhow::Result<()> {
    let outcome = under_load(stage, 8, || stage.kill_ztunnel_worker(node))?;
    ensure!(
        outcome.failed <= 20,
        "{} failed: {:?}",
        outcome.failed,
        outcome.errors
    );
    ensure!(
        outcome.longest_gap_ms < 2000.0,
        "gap of {} ms",
        outcome.longest_gap_ms
    );
    eventually("nothing fails any more", SOON, || {
        none_failed(&stage.load_from(
            "client",
            &[
                "new",
                "--to",
                "server.load:7000",
                "--rate",
                "100",
                "--seconds",
                "1",
            ],
        )?)
    })
}

fn kill_client_side(stage: &Stage) -> anyhow::Result<()> {
    kill(stage, 0)
}

fn kill_server_side(stage: &Stage) -> anyhow::Result<()> {
    kill(stage, 1)
}

fn unlabelling(stage: &Stage) -> anyhow::Result<()> {
    let outcome = under_load(stage, 14, || {
        stage
            .kubectl
            .run("label namespace load istio.io/dataplane-mode-")?;
        Ok(())
    })?;
    none_failed(&outcome)?;
    stage
        .kubectl
        .run("label namespace load istio.io/dataplane-mode=ambient")?;
    stage.all_enrolled("load")
}
