//! A waypoint that nobody gets around: `tulle.mesh/waypoint-enforced`.

use anyhow::ensure;
use tulle_testing::kubectl::{becomes, eventually};
use tulle_testing::suite::Case;

use crate::requests::{SLEEP, SOON, sum, world};
use crate::stage::{OUTSIDER, Stage};

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "enforced: who goes around a waypoint is counted",
        run: counted,
    },
    Case {
        name: "enforced: who goes around an enforced waypoint is refused",
        run: refused,
    },
];

fn pod(stage: &Stage) -> anyhow::Result<String> {
    let ip = stage.kubectl.run("get pods -n requests -l app=web --field-selector=status.phase=Running -o=jsonpath={.items[0].status.podIP}")?;
    Ok(format!("http://{ip}:7000/"))
}

fn bypassed(stage: &Stage, refused: &str) -> anyhow::Result<f64> {
    let refused = format!("refused=\"{refused}\"");
    let texts = [
        "tulle_waypoint_bypassed_total",
        "destination_workload=\"web\"",
        refused.as_str(),
    ];
    Ok(sum(&stage.ztunnel_metrics()?, &texts))
}

fn counted(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    stage.outsider()?;
    let before = bypassed(stage, "false")?;
    let pod = pod(stage)?;
    for from in [OUTSIDER, SLEEP] {
        becomes("around the waypoint", &"200".to_owned(), SOON, || {
            stage.kubectl.status_of(from, &pod)
        })?;
    }
    becomes(
        "by the service's name, from outside",
        &"200".to_owned(),
        SOON,
        || stage.kubectl.status_of(OUTSIDER, "http://web.requests/"),
    )?;
    eventually("all three are counted", SOON, || {
        let now = bypassed(stage, "false")?;
        ensure!(now >= before + 3.0, "{before}, then {now}");
        Ok(())
    })?;
    let before = bypassed(stage, "false")?;
    for _ in 0..3 {
        ensure!(stage.kubectl.status_of(SLEEP, "http://web.requests/")? == "200");
    }
    let now = bypassed(stage, "false")?;
    ensure!(
        now == before,
        "requests through the waypoint are counted: {before}, then {now}"
    );
    Ok(())
}

fn refused(stage: &Stage) -> anyhow::Result<()> {
    world(stage)?;
    stage.outsider()?;
    let kubectl = &stage.kubectl;
    let pod = pod(stage)?;
    kubectl.run("label gateway -n requests waypoint tulle.mesh/waypoint-enforced=true")?;
    for (who, from, url) in [
        ("from outside, to the pod", OUTSIDER, pod.as_str()),
        (
            "from outside, to the service",
            OUTSIDER,
            "http://web.requests/",
        ),
        ("in the mesh, to the pod", SLEEP, pod.as_str()),
    ] {
        eventually(&format!("{who}: refused"), SOON, || {
            let said = kubectl.status_of(from, url)?;
            ensure!(said.starts_with("exit "), "{said}");
            Ok(())
        })?;
    }
    let through = kubectl.status_of(SLEEP, "http://web.requests/")?;
    ensure!(through == "200", "through the waypoint: {through}");
    ensure!(bypassed(stage, "true")? >= 3.0, "not counted");
    eventually("the log says why", SOON, || {
        let log = stage.ztunnel_logs("60s")?;
        ensure!(
            log.lines().any(|l| l.contains("waypoint")
                && l.contains("requests/waypoint")
                && l.contains("error")),
            "{log}"
        );
        Ok(())
    })?;
    // Probes of the kubelet are no requests.
    let ready = kubectl.run("get deploy -n requests web -o=jsonpath={.status.readyReplicas}")?;
    ensure!(ready == "2", "{ready} ready");
    kubectl.run("label gateway -n requests waypoint tulle.mesh/waypoint-enforced-")?;
    becomes("around again", &"200".to_owned(), SOON, || {
        kubectl.status_of(OUTSIDER, &pod)
    })
}
