//! Pods and parts of the mesh come and go: step 6 of the walk, first half. `default` is enrolled here.

use std::time::Duration;

use anyhow::ensure;
use tulle_testing::kubectl::{becomes, eventually};
use tulle_testing::suite::Case;

use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);
const PAGE: &str = "http://productpage.default:9080/";

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "lifecycle: a pod opts out and comes back",
        run: opt_out,
    },
    Case {
        name: "lifecycle: pods are deleted, re-created and scaled",
        run: recreate,
    },
    Case {
        name: "lifecycle: a new namespace, enrolled from its first pod",
        run: new_namespace,
    },
    Case {
        name: "lifecycle: flushed rules are repaired within 10 s",
        run: flushed_rules,
    },
    Case {
        name: "lifecycle: the node agent restarts",
        run: agent_restart,
    },
    Case {
        name: "lifecycle: without istiod traffic goes on",
        run: without_istiod,
    },
    Case {
        name: "lifecycle: a ztunnel pod is killed",
        run: ztunnel_killed,
    },
    Case {
        name: "lifecycle: un-labelling takes every pod out",
        run: unlabel,
    },
];

fn works(stage: &Stage, from: &str) -> anyhow::Result<()> {
    becomes("productpage answers", &"200".to_owned(), SOON, || {
        stage.kubectl.status_of(from, PAGE)
    })
}

fn opt_out(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label pod -l app=notsleep istio.io/dataplane-mode=none")?;
    eventually("the annotation goes", SOON, || {
        let pod = kubectl.json("get pods -l app=notsleep")?;
        let annotation =
            &pod["items"][0]["metadata"]["annotations"]["ambient.istio.io/redirection"];
        ensure!(annotation.is_null(), "still {annotation}");
        Ok(())
    })?;
    works(stage, "deploy/notsleep")?;
    kubectl.run("label pod -l app=notsleep istio.io/dataplane-mode-")?;
    stage.all_enrolled("default")?;
    works(stage, "deploy/notsleep")
}

fn recreate(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("delete pod -l app=helloworld --wait=true")?;
    kubectl.run("scale deploy/helloworld-v1 --replicas=3")?;
    kubectl.run("rollout status deploy/helloworld-v1 --timeout=120s")?;
    kubectl.run("rollout status deploy/helloworld-v2 --timeout=120s")?;
    stage.all_enrolled("default")?;
    for _ in 0..10 {
        let status = kubectl.status_of("deploy/sleep", "http://helloworld:5000/hello")?;
        ensure!(status == "200", "{status}");
    }
    kubectl.run("scale deploy/helloworld-v1 --replicas=1")?;
    kubectl.run("rollout restart deploy/helloworld-v2")?;
    kubectl.run("rollout status deploy/helloworld-v2 --timeout=120s")?;
    becomes("helloworld answers", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/sleep", "http://helloworld:5000/hello")
    })
}

fn new_namespace(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("create namespace fresh")?;
    kubectl.run("label namespace fresh istio.io/dataplane-mode=ambient")?;
    kubectl.run(&format!("apply -n fresh -f {}", stage.sample("sleep.yaml")))?;
    kubectl.run("rollout status -n fresh deploy/sleep --timeout=120s")?;
    stage.all_enrolled("fresh")?;
    works(stage, "-n fresh deploy/sleep")?;
    kubectl.run("get configmap -n fresh istio-ca-root-cert")?;
    kubectl.run("delete namespace fresh --wait=false")?;
    Ok(())
}

fn flushed_rules(stage: &Stage) -> anyhow::Result<()> {
    let before = stage.pod_rules("app=sleep")?;
    ensure!(
        before.contains("15001"),
        "sleep's namespace has no redirect:\n{before}"
    );
    stage.in_pod("app=sleep", &["nft", "flush", "ruleset"])?;
    eventually("the redirect is back", Duration::from_secs(10), || {
        let now = stage.pod_rules("app=sleep")?;
        ensure!(now.contains("15001"), "not yet:\n{now}");
        Ok(())
    })?;
    works(stage, "deploy/sleep")
}

fn agent_restart(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("rollout restart -n istio-system daemonset/istio-cni-node")?;
    kubectl.run("rollout status -n istio-system daemonset/istio-cni-node --timeout=180s")?;
    works(stage, "deploy/sleep")?;
    kubectl.run("delete pod -l app=sleep --wait=true")?;
    kubectl.run("rollout status deploy/sleep --timeout=120s")?;
    stage.all_enrolled("default")?;
    works(stage, "deploy/sleep")
}

fn without_istiod(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("scale -n istio-system deploy/istiod --replicas=0")?;
    kubectl.run("wait -n istio-system pod -l app=istiod --for=delete --timeout=60s")?;
    for _ in 0..5 {
        let status = kubectl.status_of("deploy/sleep", PAGE)?;
        ensure!(status == "200", "without istiod: {status}");
    }
    kubectl.run("scale -n istio-system deploy/istiod --replicas=1")?;
    kubectl.run("rollout status -n istio-system deploy/istiod --timeout=120s")?;
    kubectl.run("delete pod -l app=notsleep --wait=true")?;
    kubectl.run("rollout status deploy/notsleep --timeout=120s")?;
    works(stage, "deploy/notsleep")
}

fn ztunnel_killed(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("delete pod -n istio-system -l app=ztunnel --grace-period=0 --force")?;
    kubectl.run("rollout status -n istio-system daemonset/ztunnel --timeout=120s")?;
    works(stage, "deploy/sleep")
}

fn unlabel(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label namespace default istio.io/dataplane-mode-")?;
    eventually("no pod is annotated", SOON, || {
        let pods = kubectl.run("get pods -o yaml")?;
        ensure!(
            !pods.contains("ambient.istio.io/redirection: enabled"),
            "some still are"
        );
        Ok(())
    })?;
    works(stage, "deploy/sleep")?;
    eventually("no rule is left", SOON, || {
        let rules = stage.pod_rules("app=sleep")?;
        ensure!(!rules.contains("15001"), "still:\n{rules}");
        Ok(())
    })?;
    kubectl.run("label namespace default istio.io/dataplane-mode=ambient")?;
    stage.all_enrolled("default")
}
