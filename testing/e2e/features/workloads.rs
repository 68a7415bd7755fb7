//! Waypoints for the addresses of pods and WorkloadEntries (`--for workload`).

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::{Kubectl, eventually};

use super::mesh::CLIENT;
use super::{SOON, told};
use crate::stage::Stage;
use crate::table::{Asker, get};

/// Requests that pass the waypoint `pods` are GETs.
const ONLY_GET: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: pods-get, namespace: gw}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: pods}]
  action: ALLOW
  rules: [{to: [{operation: {methods: [GET]}}]}]
"#;

pub(super) fn waypoint(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    stage.tulle(&[
        "waypoint", "apply", "-n", "gw", "--name", "pods", "--for", "workload", "--wait",
    ])?;
    kubectl.apply(ONLY_GET)?;
    let outside = stage.outside_server()?.address;
    kubectl.apply(&format!(
        r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: machine, namespace: gw, labels: {{istio.io/use-waypoint: pods, app: machine}}}}
spec: {{address: {}, labels: {{app: machine}}}}
"#,
        outside.ip()
    ))?;
    let pod = address_of(kubectl, "one")?;
    let other = address_of(kubectl, "two")?;
    let asker = Asker::pod(kubectl, CLIENT);
    let post = &["-XPOST"];
    let (labelled, unlabelled) = (get(pod, "/").port(8080), get(other, "/").port(8080));
    let machine = get(outside.ip().to_string().leak(), "/").port(outside.port());
    // The label is on the pod: before it is there, nobody looks into requests.
    asker.expect(&[(
        "no waypoint",
        &[labelled
            .options(post)
            .to("one")
            .kept_back(&["x-request-id"])],
    )])?;
    kubectl.run("label pod -n gw -l app=one istio.io/use-waypoint=pods")?;
    asker.expect(&[
        (
            "workload waypoint of a pod",
            &[
                labelled.to("one"),
                labelled.options(post).status(403),
                unlabelled
                    .options(post)
                    .to("two")
                    .kept_back(&["x-request-id"]),
                // A Service is not for this waypoint.
                get("one.gw", "/").options(post).to("one"),
            ],
        ),
        (
            "workload waypoint of a WorkloadEntry",
            &[machine, machine.options(post).status(403)],
        ),
    ])?;
    told(
        kubectl,
        &[(
            "WorkloadEntry/machine",
            "",
            "istio.io/WaypointBound",
            "True",
            "WaypointAccepted",
        )],
    )?;
    eventually("the waypoint has it in its log", SOON, || {
        let log = kubectl.run("logs -n gw deploy/pods --tail=200")?;
        let refused = |line: &&str| {
            line.contains("POST / ") && line.contains(" 403 ") && line.contains("pods-get")
        };
        ensure!(log.lines().filter(refused).count() >= 2, "{log}");
        Ok(())
    })?;
    // Away with the label: straight to the pod again.
    kubectl.run("label pod -n gw -l app=one istio.io/use-waypoint-")?;
    asker.expect(&[(
        "no waypoint any more",
        &[labelled
            .options(post)
            .to("one")
            .kept_back(&["x-request-id"])],
    )])?;
    kubectl.run("delete workloadentry -n gw machine")?;
    kubectl.run("delete authorizationpolicy -n gw pods-get")?;
    stage
        .tulle(&["waypoint", "delete", "-n", "gw", "pods"])
        .map(drop)
}

/// The address of the pod of an echo of namespace `gw`, for a table.
fn address_of(kubectl: &Kubectl, app: &str) -> anyhow::Result<&'static str> {
    let text = kubectl.run(&format!(
        "get pods -n gw -l app={app} --field-selector=status.phase=Running -o=jsonpath={{.items[0].status.podIP}}"
    ))?;
    text.parse::<std::net::IpAddr>()
        .with_context(|| format!("no pod of {app}: {text:?}"))?;
    Ok(text.leak())
}
