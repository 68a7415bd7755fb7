//! What users notice of operations on layer 7, at 500 requests per second.

use std::time::Duration;

use anyhow::ensure;
use tulle_testing::kubectl::{Kubectl, eventually};
use tulle_testing::processes;
use tulle_testing::suite::Case;

use crate::requests::{
    Client, RATE, SOON, apply_timed, none_failed, say, start, under_load, world,
};
use crate::stage::Stage;

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "requests: a rolling restart of a waypoint fails none",
        run: restart_waypoint,
    },
    Case {
        name: "requests: a rolling restart of a gateway fails none",
        run: restart_gateway,
    },
    Case {
        name: "requests: a route change is in force at once and fails none",
        run: route_change,
    },
    Case {
        name: "requests: the service behind a waypoint grows, shrinks and loses an endpoint",
        run: scale,
    },
    Case {
        name: "requests: the control plane restarts and nobody notices",
        run: restart_control_plane,
    },
    Case {
        name: "requests: kill -9 of a waypoint costs what it had in hand",
        run: kill,
    },
];

fn restart(kubectl: &Kubectl, deployment: &str) -> anyhow::Result<()> {
    kubectl.run(&format!("rollout restart {deployment}"))?;
    kubectl.run(&format!("rollout status {deployment} --timeout=120s"))?;
    Ok(())
}

fn restart_waypoint(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let what = "rolling restart of a waypoint of two";
    let outcome = under_load(stage, Client::Meshed, 16, what, |kubectl| {
        restart(kubectl, "-n requests deploy/waypoint")
    })?;
    none_failed(&outcome)
}

fn restart_gateway(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let what = "rolling restart of a gateway of two";
    let outcome = under_load(stage, Client::Outside, 16, what, |kubectl| {
        restart(kubectl, "-n requests deploy/front-istio")
    })?;
    none_failed(&outcome)
}

fn marked(parent: &str, version: &str) -> String {
    format!(
        r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: marked, namespace: requests}}
spec:
  parentRefs: [{parent}]
  rules:
  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-version, value: {version}}}]}}}}]
    backendRefs: [{{name: web, port: 80}}]
"#
    )
}

/// Changes a header; how long after the API server's answer the last answer without the change came.
fn route_change(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let kubectl = &stage.kubectl;
    let parent = r#"{group: "", kind: Service, name: web, port: 80}"#;
    kubectl.apply(&marked(parent, "one"))?;
    let mut found = Vec::new();
    for version in ["two", "three"] {
        let load = start(kubectl, Client::Meshed, 4, &format!("x-version: {version}"))?;
        let answered = apply_timed(kubectl, &marked(parent, version));
        let outcome = load.outcome();
        let (answered, outcome) = (answered?, outcome?);
        none_failed(&outcome)?;
        ensure!(
            outcome.first_marked_at_ms > 0.0 && outcome.last_unmarked_at_ms > 0.0,
            "the change was not seen: {outcome:?}"
        );
        found.push(outcome.last_unmarked_at_ms - answered);
    }
    kubectl.run("delete httproute -n requests marked")?;
    let texts: Vec<String> = found.iter().map(|ms| format!("{ms:.0} ms")).collect();
    say(&format!(
        "a route change is in force after {} (last old answer, from the API server's answer on, at {RATE} requests/s)",
        texts.join(", ")
    ));
    ensure!(found.iter().all(|ms| *ms < 2000.0), "{found:?}");
    Ok(())
}

fn scale(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let to = |kubectl: &Kubectl, replicas: u32| {
        kubectl.run(&format!(
            "scale -n requests deploy/web --replicas={replicas}"
        ))?;
        kubectl.run("rollout status -n requests deploy/web --timeout=60s")
    };
    let what = "two servers, then five, then one, then two";
    let outcome = under_load(stage, Client::Meshed, 14, what, |kubectl| {
        for replicas in [5, 1, 2] {
            to(kubectl, replicas)?;
            std::thread::sleep(Duration::from_millis(1500));
        }
        Ok(())
    })?;
    none_failed(&outcome)?;
    // Gone before anybody is told: what it had in hand is lost, everything else goes to the other one.
    let what = "kill -9 of one of two servers";
    let outcome = under_load(stage, Client::Meshed, 5, what, |kubectl| {
        kill_one(kubectl, "-n requests -l app=web")
    })?;
    ensure!(outcome.failed <= 5, "{:?}", outcome.errors);
    kubectl_ready(stage)
}

fn kubectl_ready(stage: &Stage) -> anyhow::Result<()> {
    stage
        .kubectl
        .run("rollout status -n requests deploy/web --timeout=60s")?;
    Ok(())
}

fn kill_one(kubectl: &Kubectl, selector: &str) -> anyhow::Result<()> {
    let pid = processes::application_of(kubectl, selector)?;
    let pid = rustix::process::Pid::from_raw(pid);
    let pid = pid.ok_or_else(|| anyhow::anyhow!("no such process"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    Ok(())
}

fn restart_control_plane(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let what = "rolling restart of the control plane";
    let outcome = under_load(stage, Client::Meshed, 10, what, |kubectl| {
        restart(kubectl, "-n istio-system deploy/istiod")
    })?;
    none_failed(&outcome)
}

/// The one on the client's own node, which it prefers, then the one on the other. Requests in hand may die, and nothing later: the
/// client's ztunnel asks the other one.
fn kill(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    let kubectl = &stage.kubectl;
    for (node, whose) in stage.nodes()?.iter().zip(["the client's", "another"]) {
        let selector = format!(
            "-n requests -l gateway.networking.k8s.io/gateway-name=waypoint --field-selector=status.phase=Running,spec.nodeName={node}"
        );
        let what = format!("kill -9 of one of two waypoints, on {whose} node");
        let outcome = under_load(stage, Client::Meshed, 6, &what, |kubectl| {
            kill_one(kubectl, &selector)
        })?;
        ensure!(
            outcome.failed <= 20 && outcome.longest_gap_ms < 1000.0,
            "{outcome:?}"
        );
        kubectl.run("rollout status -n requests deploy/waypoint --timeout=60s")?;
    }
    eventually("nothing fails any more", SOON, || {
        none_failed(&start(kubectl, Client::Meshed, 2, "")?.outcome()?)
    })
}
