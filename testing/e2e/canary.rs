//! Two waypoints for one service, and how much each of them gets; applications are told by which one a request came, and from whom.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tulle_testing::kubectl::eventually;
use tulle_testing::suite::Case;

use crate::stage::Stage;

const SOON: Duration = Duration::from_secs(60);
/// With even shares, all of so many calls go the same way once in billions of runs.
const CALLS: usize = 32;

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "canary: two waypoints that say who the client was",
        run: up,
    },
    Case {
        name: "canary: nothing, a half, everything, and back",
        run: shift,
    },
    Case {
        name: "canary: an ingress gateway splits requests likewise",
        run: ingress,
    },
    Case {
        name: "canary: gone again",
        run: down,
    },
];

const OBJECTS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: first, namespace: default, annotations: {ambient.istio.io/xfcc-include-client-identity: "true"}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: second, namespace: default, annotations: {ambient.istio.io/xfcc-include-client-identity: "true"}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front, namespace: default}
spec: {parentRefs: [{name: front}], rules: [{backendRefs: [{name: httpbin, port: 8000}]}]}
"#;

fn up(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label namespace default istio.io/dataplane-mode=ambient --overwrite")?;
    kubectl.apply(OBJECTS)?;
    stage.all_enrolled("default")?;
    for gateway in ["first", "second", "front"] {
        kubectl.run(&format!(
            "wait gateway/{gateway} --for=condition=Programmed --timeout=60s"
        ))?;
    }
    kubectl.run(
        "label service httpbin istio.io/use-waypoint=first istio.io/use-waypoint-canary=second",
    )?;
    Ok(())
}

/// How many of some calls came by which waypoint, and from whom.
fn ways(out: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut ways = BTreeMap::new();
    for answer in serde_json::Deserializer::from_str(out).into_iter::<Value>() {
        let answer = answer.with_context(|| out.to_owned())?;
        let said = answer["headers"]["X-Forwarded-Client-Cert"][0].as_str();
        *ways.entry(said.unwrap_or("nobody").to_owned()).or_default() += 1;
    }
    Ok(ways)
}

/// Each on a connection of its own.
fn calls(stage: &Stage) -> anyhow::Result<BTreeMap<String, usize>> {
    let script = format!(
        "for i in $(seq {CALLS}); do curl -s --max-time 5 http://httpbin:8000/headers; done"
    );
    ways(
        &stage
            .kubectl
            .exec("deploy/sleep", &["sh", "-c", &script])?
            .out,
    )
}

fn by(waypoint: &str, client: &str) -> String {
    let of = |account: &str| format!("spiffe://cluster.local/ns/default/sa/{account}");
    format!("By={};URI={}", of(waypoint), of(client))
}

fn become_split(
    what: &str,
    client: &str,
    expected: (bool, bool),
    look: impl Fn() -> anyhow::Result<BTreeMap<String, usize>>,
) -> anyhow::Result<()> {
    eventually(what, SOON, || {
        let ways = look()?;
        let of = |waypoint| ways.get(&by(waypoint, client)).copied().unwrap_or_default();
        let (first, second) = (of("first"), of("second"));
        ensure!(first + second == CALLS, "{ways:?}");
        ensure!((first > 0, second > 0) == expected, "{ways:?}");
        Ok(())
    })
}

fn weigh(stage: &Stage, weight: &str) -> anyhow::Result<()> {
    let annotation = format!(
        "annotate service httpbin --overwrite istio.io/use-waypoint-canary-weight={weight}"
    );
    stage.kubectl.run(&annotation).map(drop)
}

fn shift(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    for (weight, expected) in [
        ("0", (true, false)),
        ("50", (true, true)),
        ("100", (false, true)),
    ] {
        weigh(stage, weight)?;
        become_split(weight, "sleep", expected, || calls(stage))?;
    }
    // A canary that is not there is told of, and the first one serves.
    kubectl.run("label service httpbin --overwrite istio.io/use-waypoint-canary=nobody")?;
    become_split("no canary", "sleep", (true, false), || calls(stage))?;
    let service = kubectl.json("get service httpbin")?;
    let conditions = service["status"]["conditions"].to_string();
    ensure!(
        conditions.contains("Canary waypoint not attached"),
        "{conditions}"
    );
    kubectl
        .run("label service httpbin --overwrite istio.io/use-waypoint-canary=second")
        .map(drop)
}

fn ingress(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run("label service httpbin istio.io/ingress-use-waypoint=true")?;
    let address = kubectl.run(
        "get pods -l gateway.networking.k8s.io/gateway-name=front -o=jsonpath={.items[0].status.podIP}",
    )?;
    let look = || {
        let script = format!(
            "for i in $(seq {CALLS}); do curl -s --max-time 5 http://{address}/headers; done"
        );
        let output = kubectl.program("sh").args(["-c", &script]).output()?;
        ways(&String::from_utf8_lossy(&output.stdout))
    };
    for (weight, expected) in [("50", (true, true)), ("0", (true, false))] {
        weigh(stage, weight)?;
        become_split(weight, "front-istio", expected, look)?;
    }
    Ok(())
}

fn down(stage: &Stage) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run(
        "label service httpbin istio.io/use-waypoint- istio.io/use-waypoint-canary- istio.io/ingress-use-waypoint-",
    )?;
    kubectl.run("annotate service httpbin istio.io/use-waypoint-canary-weight-")?;
    kubectl.delete(OBJECTS)?;
    eventually("what was made for the gateways is gone", SOON, || {
        let left = kubectl.run("get deploy first second front-istio --ignore-not-found -o name")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}
