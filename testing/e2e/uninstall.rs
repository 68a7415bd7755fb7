//! The last step of the walk: everything is taken out, and pods go on.

use std::time::Duration;

use anyhow::ensure;
use tulle_testing::kubectl::becomes;
use tulle_testing::suite::Case;

use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "uninstall: --purge un-enrols every pod first, pods go on, nothing is left",
        run: purge,
    },
    Case {
        name: "uninstall: install again",
        run: again,
    },
];

fn purge(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    let before = kubectl.run("get pods -o name")?;
    stage.tulle(&["uninstall", "--purge"])?;
    ensure!(
        kubectl.run("get pods -o name")? == before,
        "pods were replaced"
    );
    becomes("calls go on", &"200".to_owned(), SOON, || {
        kubectl.status_of("deploy/sleep", "http://productpage:9080/")
    })?;
    let pods = kubectl.run("get pods -A -o yaml")?;
    ensure!(
        !pods.contains("ambient.istio.io/redirection"),
        "a pod is still annotated"
    );
    for app in ["sleep", "productpage", "httpbin"] {
        let rules = stage.pod_rules(&format!("app={app}"))?;
        ensure!(rules.trim().is_empty(), "{app} still has rules:\n{rules}");
    }
    for node in stage.nodes()? {
        let config = stage.on_node(
            &node,
            &["sh", "-c", "cat /etc/cni/net.d/*; ls /opt/cni/bin"],
        )?;
        ensure!(
            !config.contains("istio-cni"),
            "{node} still has the CNI entry:\n{config}"
        );
    }
    let left =
        kubectl.run("get deployments,daemonsets -n istio-system -o name --ignore-not-found")?;
    ensure!(left.trim().is_empty(), "left: {left}");
    Ok(())
}

fn again(stage: &Stage) -> anyhow::Result<()> {
    stage.tulle(&["install"])?;
    stage.all_enrolled("default")?;
    becomes("calls work", &"200".to_owned(), SOON, || {
        stage
            .kubectl
            .status_of("deploy/sleep", "http://productpage:9080/")
    })
}
