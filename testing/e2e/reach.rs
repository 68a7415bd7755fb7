//! From an enrolled pod these work as before: step 6 of the walk, second half. `default` is enrolled here.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tulle_testing::kubectl::{becomes, eventually};
use tulle_testing::suite::Case;

use crate::stage::{OUTSIDER, Stage};
use tulle_testing::fixtures;

const SOON: Duration = Duration::from_secs(60);
const SLEEP: &str = "deploy/sleep";

pub const CASES: &[Case<Stage>] = &[
    Case {
        name: "reach: the API server, from an enrolled pod",
        run: api_server,
    },
    Case {
        name: "reach: an address outside of the cluster",
        run: outside_address,
    },
    Case {
        name: "reach: DNS over UDP and over TCP",
        run: dns,
    },
    Case {
        name: "reach: headless and StatefulSet names",
        run: headless,
    },
    Case {
        name: "reach: NodePort, from a pod and from the host",
        run: node_port,
    },
    Case {
        name: "reach: a server that speaks first",
        run: server_first,
    },
    Case {
        name: "reach: a pod calls itself, by its address and by its service",
        run: itself,
    },
    Case {
        name: "reach: host-network peers, both ways",
        run: host_network,
    },
    Case {
        name: "reach: a Job ends",
        run: job,
    },
    Case {
        name: "reach: calls from outside of the mesh into it",
        run: from_outside,
    },
    Case {
        name: "reach: a service without endpoints refuses",
        run: no_endpoints,
    },
];

fn api_server(stage: &Stage) -> anyhow::Result<()> {
    let script = "curl -s --max-time 10 --cacert /var/run/secrets/kubernetes.io/serviceaccount/ca.crt \
                  https://kubernetes.default.svc/version";
    let said = stage.kubectl.exec(SLEEP, &["sh", "-c", script])?;
    ensure!(
        said.code == 0 && said.out.contains("gitVersion"),
        "exit {}: {}{}",
        said.code,
        said.out,
        said.err
    );
    Ok(())
}

fn outside_address(stage: &Stage) -> anyhow::Result<()> {
    let server = stage.outside_server()?;
    let url = format!("http://{}/", server.address);
    becomes(
        "a server on the host answers",
        &"200".to_owned(),
        SOON,
        || stage.kubectl.status_of(SLEEP, &url),
    )
}

fn dns(stage: &Stage) -> anyhow::Result<()> {
    // curl resolves over UDP; the resolver option use-vc makes the C library ask over TCP.
    for option in ["", "RES_OPTIONS=use-vc "] {
        let script = format!(
            "{option}curl -s -o /dev/null -w '%{{http_code}}' --max-time 10 http://details.default.svc.cluster.local:9080/details/0"
        );
        let said = stage.kubectl.exec(SLEEP, &["sh", "-c", &script])?;
        ensure!(
            said.out == "200",
            "{option:?}: exit {}, {}{}",
            said.code,
            said.out,
            said.err
        );
    }
    Ok(())
}

fn headless(stage: &Stage) -> anyhow::Result<()> {
    stage.kubectl.apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: store}}
spec: {{clusterIP: None, selector: {{app: store}}, ports: [{{name: tcp, port: 7000}}, {{name: tcp-greet, port: 7001}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: store}}
spec:
  serviceName: store
  replicas: 2
  selector: {{matchLabels: {{app: store}}}}
  template:
    metadata: {{labels: {{app: store}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: load, image: "{image}", imagePullPolicy: IfNotPresent, args: [serve]}}
"#,
        image = fixtures::LOAD_IMAGE
    ))?;
    stage
        .kubectl
        .run("rollout status statefulset/store --timeout=120s")?;
    for name in ["store", "store-0.store", "store-1.store"] {
        eventually(name, SOON, || greeted(stage, &format!("{name}:7001")))?;
    }
    stage.kubectl.run("delete statefulset,service store")?;
    Ok(())
}

/// A server-first port says its greeting to a client that says nothing.
fn greeted(stage: &Stage, address: &str) -> anyhow::Result<()> {
    let url = format!("telnet://{address}");
    let said = stage
        .kubectl
        .exec(SLEEP, &["curl", "-s", "--max-time", "2", &url])?;
    ensure!(
        said.out.starts_with("220 load ready"),
        "{address}: exit {}: {:?}",
        said.code,
        said.out
    );
    Ok(())
}

fn server_first(stage: &Stage) -> anyhow::Result<()> {
    stage.load()?;
    eventually("the greeting arrives", SOON, || {
        greeted(stage, "server.load:7001")
    })
}

fn node_port(stage: &Stage) -> anyhow::Result<()> {
    stage.kubectl.apply(
        r#"
apiVersion: v1
kind: Service
metadata: {name: details-nodeport}
spec: {type: NodePort, selector: {app: details}, ports: [{name: http, port: 9080, nodePort: 30980}]}
"#,
    )?;
    for node in stage.node_addresses()? {
        let url = format!("http://{node}:30980/details/0");
        becomes("from a pod", &"200".to_owned(), SOON, || {
            stage.kubectl.status_of(SLEEP, &url)
        })?;
        eventually("from the host", SOON, || {
            let output = stage
                .kubectl
                .program("curl")
                .args(["-sf", "--max-time", "5", &url])
                .output()?;
            ensure!(output.status.success(), "curl {url}: {}", output.status);
            Ok(())
        })?;
    }
    stage.kubectl.run("delete service details-nodeport")?;
    Ok(())
}

fn itself(stage: &Stage) -> anyhow::Result<()> {
    let address = stage
        .kubectl
        .run("get pod -l app=sleep -o=jsonpath={.items[0].status.podIP}")?;
    let pods = stage
        .kubectl
        .run("get pod -l app=httpbin -o=jsonpath={.items[0].status.podIP}")?;
    ensure!(!address.is_empty() && !pods.is_empty(), "no addresses");
    stage.load()?;
    let own = stage
        .kubectl
        .run("get pod -n load -l app=server -o=jsonpath={.items[0].status.podIP}")?;
    for to in [
        format!("{own}:7000"),
        "server.load:7000".to_owned(),
        "127.0.0.1:7000".to_owned(),
    ] {
        let outcome = stage.load_from(
            "server",
            &["new", "--to", &to, "--rate", "20", "--seconds", "1"],
        )?;
        ensure!(outcome.ok > 10 && outcome.failed == 0, "{to}: {outcome:?}");
    }
    Ok(())
}

fn host_network(stage: &Stage) -> anyhow::Result<()> {
    let manifest = fixtures::load_deployment("default", "hostpeer", &stage.nodes()?[1], 1)
        .replace(
            "serviceAccountName: hostpeer",
            "serviceAccountName: hostpeer\n      hostNetwork: true",
        )
        .replace("7000", "17000");
    stage.kubectl.apply(&manifest)?;
    stage
        .kubectl
        .run("rollout status deploy/hostpeer --timeout=120s")?;
    let node = stage
        .kubectl
        .run("get pod -l app=hostpeer -o=jsonpath={.items[0].status.podIP}")?;
    eventually("pod to host network", SOON, || {
        greeted(stage, &format!("{node}:17001"))
    })?;
    stage.load()?;
    let server = stage
        .kubectl
        .run("get service -n load server -o=jsonpath={.spec.clusterIP}")?;
    let said = stage.kubectl.exec(
        "deploy/hostpeer",
        &[
            "/load",
            "new",
            "--to",
            &format!("{server}:7000"),
            "--rate",
            "20",
            "--seconds",
            "1",
        ],
    )?;
    let outcome: tulle_testing::load::Outcome =
        serde_json::from_str(&said.out).context(said.err)?;
    ensure!(
        outcome.ok > 10 && outcome.failed == 0,
        "host network to pod: {outcome:?}"
    );
    stage
        .kubectl
        .run("delete deploy/hostpeer serviceaccount/hostpeer")?;
    Ok(())
}

fn job(stage: &Stage) -> anyhow::Result<()> {
    stage.kubectl.apply(&format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  backoffLimit: 4
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: load
        image: {image}
        imagePullPolicy: IfNotPresent
        args: ["new", "--to", "helloworld.default:5000", "--rate", "5", "--seconds", "0.2"]
"#,
        image = fixtures::LOAD_IMAGE
    ))?;
    stage
        .kubectl
        .run("wait job/once --for=condition=Complete --timeout=90s")?;
    stage.kubectl.run("delete job once")?;
    Ok(())
}

fn from_outside(stage: &Stage) -> anyhow::Result<()> {
    stage.outsider()?;
    let url = "http://productpage.default:9080/";
    becomes(
        "from a pod outside of the mesh",
        &"200".to_owned(),
        SOON,
        || stage.kubectl.status_of(OUTSIDER, url),
    )?;
    let pod = stage
        .kubectl
        .run("get pod -l app=productpage -o=jsonpath={.items[0].status.podIP}")?;
    let output = stage
        .kubectl
        .program("curl")
        .args(["-sf", "--max-time", "5", &format!("http://{pod}:9080/")])
        .output()?;
    ensure!(output.status.success(), "from the host: {}", output.status);
    Ok(())
}

fn no_endpoints(stage: &Stage) -> anyhow::Result<()> {
    stage.kubectl.apply(
        r#"
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
"#,
    )?;
    eventually("refused at once", SOON, || {
        let said = stage.kubectl.curl(SLEEP, &["http://nobody/"])?;
        // 7: refused by the cluster's own rules; 52 and 56: closed or reset by the proxy.
        ensure!(
            [7, 52, 56].contains(&said.code),
            "curl ended with {}",
            said.code
        );
        Ok(())
    })?;
    stage.kubectl.run("delete service nobody")?;
    Ok(())
}
