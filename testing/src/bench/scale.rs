//! What many pods cost in memory: the mesh on a playground, and pods that only the API server knows.
//!
//! The pods are bound to a third node that no kubelet runs; its lease is renewed and its pods are said to be ready, so that
//! to everybody who watches they look like any others. They are enrolled: each is a workload that speaks HBONE.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tulle_api::contract::{
    ANNOTATION_REDIRECTION, LABEL_APP, LABEL_VERSION, LABEL_WORKLOAD_NAME, REDIRECTION_ENABLED,
};
use tulle_api::k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use tulle_cluster::lease::{Candidate, take_part};
use tulle_cluster::{Api, Client, Connect, connect, create, merge_status};
use tulle_playground::Progress;

use super::operations::memory;
use crate::kubectl::Kubectl;
use crate::stage::{Programs, Stage};

/// Name of the node, and what the names of all other objects begin with.
const NAME: &str = "scale";
/// Pods of one Service.
const PODS_PER_SERVICE: usize = 20;
/// Namespaces that the pods are spread over.
const NAMESPACES: usize = 10;
/// Requests under way at once.
const LANES: usize = 16;
/// The address before that of the first pod: of a range that is for carriers, so that nothing else has it.
const ADDRESSES: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// After the last change: endpoints have been counted, and what was freed has gone back.
const SETTLED: Duration = Duration::from_secs(75);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Programs of the mesh.
    pub programs: Programs,
    /// How many pods.
    pub pods: usize,
}

/// Proportional set sizes of all processes of a pod together, by pod, MiB.
type Memory = Vec<(String, f64)>;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    /// How many pods there were.
    pub pods: usize,
    /// Before them.
    pub without: Memory,
    /// As soon as all were there.
    pub at_once: Memory,
    /// A good minute later.
    pub settled: Memory,
}

/// Runs it on a playground of its own, which is taken down with all objects.
pub fn run(options: &Options, progress: &mut Progress) -> Result<Findings> {
    let name = format!("scale{}", std::process::id());
    let stage = Stage::start(&name, &options.programs, &[], progress)?;
    stage.install_mesh(progress)?;
    let kubectl = &stage.kubectl;
    let pods = options.pods;
    let without = progress.step("memory before", |_| settled(kubectl))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let node = progress.step("a node without a kubelet", |_| {
        runtime.block_on(Crowd::start(kubectl))
    })?;
    progress.step(&format!("{pods} pods"), |_| {
        runtime.block_on(node.pods(pods))
    })?;
    progress.step("their Services", |_| runtime.block_on(node.services(pods)))?;
    let at_once = memory(kubectl)?;
    let settled = progress.step("memory with them", |_| settled(kubectl))?;
    // Afterwards: a page with all of them costs the proxy memory for a moment.
    for node in ["node1", "node2"] {
        let known = stage.tulle(&["ztunnel-config", "workloads", "--node", node])?;
        let known = known.lines().filter(|line| line.contains(NAME)).count();
        ensure!(
            known == pods,
            "the ztunnel of {node} knows {known} of {pods} pods"
        );
    }
    Ok(Findings {
        pods,
        without,
        at_once,
        settled,
    })
}

fn settled(kubectl: &Kubectl) -> Result<Memory> {
    std::thread::sleep(SETTLED);
    memory(kubectl)
}

/// A client, and the node that all pods are on.
struct Crowd {
    client: Client,
    /// Renews the node's lease for as long as it lives.
    _lease: tulle_cluster::lease::Participation,
}

impl Crowd {
    async fn start(kubectl: &Kubectl) -> Result<Self> {
        let connection = Connect {
            kubeconfig: Some(kubectl.kubeconfig.clone()),
            context: None,
        };
        let client = connect(&connection).await?;
        // Without the label of an operating system no DaemonSet wants it.
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": NAME },
            "spec": { "unschedulable": true },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        }))?;
        create(&Api::<Node>::all(client.clone()), &node).await?;
        let lease = Candidate {
            namespace: "kube-node-lease".to_owned(),
            lease: NAME.to_owned(),
            holder: NAME.to_owned(),
        };
        for n in 0..NAMESPACES {
            let name = namespace(n);
            let object: Namespace =
                serde_json::from_value(json!({ "metadata": { "name": name } }))?;
            create(&Api::all(client.clone()), &object).await?;
            let account: ServiceAccount =
                serde_json::from_value(json!({ "metadata": { "name": NAME } }))?;
            create(&Api::namespaced(client.clone(), &name), &account).await?;
        }
        Ok(Self {
            _lease: take_part(client.clone(), lease),
            client,
        })
    }

    async fn pods(&self, count: usize) -> Result<()> {
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let client = self.client.clone();
            lanes.spawn(async move {
                for index in (lane..count).step_by(LANES) {
                    let service = index / PODS_PER_SERVICE;
                    let api = Api::<Pod>::namespaced(client.clone(), &namespace(service));
                    let name = pod_name(index);
                    create(&api, &pod(index)?)
                        .await
                        .with_context(|| format!("pod {name}"))?;
                    merge_status(&api, &name, &running(index)?).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = lanes.join_next().await {
            done??;
        }
        Ok(())
    }

    /// After the pods, so that nobody counts endpoints twenty times for each.
    async fn services(&self, pods: usize) -> Result<()> {
        for index in 0..pods.div_ceil(PODS_PER_SERVICE) {
            let service: Service = serde_json::from_value(json!({
                "metadata": {
                    "name": format!("{NAME}-{index}"),
                    // Nobody dials them: the nodes' proxies need not bother.
                    "labels": { "service.kubernetes.io/service-proxy-name": NAME },
                },
                "spec": {
                    "selector": { LABEL_APP: format!("{NAME}-{index}") },
                    "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
                },
            }))?;
            let api = Api::namespaced(self.client.clone(), &namespace(index));
            create(&api, &service).await?;
        }
        Ok(())
    }
}

fn namespace(service: usize) -> String {
    format!("{NAME}-{}", service % NAMESPACES)
}

/// As a ReplicaSet would name it.
fn pod_name(index: usize) -> String {
    let service = index / PODS_PER_SERVICE;
    format!("{NAME}-{service}-7d4b9c6f5b-{index:05}")
}

fn pod(index: usize) -> Result<Pod> {
    let deployment = format!("{NAME}-{}", index / PODS_PER_SERVICE);
    let labels = BTreeMap::from([
        (LABEL_APP, deployment.as_str()),
        (LABEL_VERSION, "v1"),
        // In place of an owner: without the real one the pod would be collected.
        (LABEL_WORKLOAD_NAME, &deployment),
    ]);
    let pod = json!({
        "metadata": {
            "name": pod_name(index),
            "labels": labels,
            "annotations": { ANNOTATION_REDIRECTION: REDIRECTION_ENABLED },
        },
        "spec": {
            "nodeName": NAME,
            "serviceAccountName": NAME,
            "containers": [{ "name": "app", "image": "none", "ports": [{ "name": "http", "containerPort": 8080 }] }],
        },
    });
    Ok(serde_json::from_value(pod)?)
}

fn running(index: usize) -> Result<serde_json::Value> {
    let address = Ipv4Addr::from(u32::from(ADDRESSES) + 1 + u32::try_from(index)?);
    Ok(json!({ "status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "conditions": [{ "type": "Ready", "status": "True" }],
    }}))
}

impl Findings {
    /// Prints a table.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let services = self.pods.div_ceil(PODS_PER_SERVICE);
        writeln!(
            out,
            "\nMemory with {} pods in {services} Services (PSS of all processes of a pod, MiB)",
            self.pods
        )?;
        writeln!(
            out,
            "{:<32} {:>10} {:>10} {:>10}",
            "POD", "WITHOUT", "AT ONCE", "SETTLED"
        )?;
        for (pod, without) in &self.without {
            let of = |all: &Memory| {
                all.iter()
                    .find(|(name, _)| name == pod)
                    .map_or(f64::NAN, |m| m.1)
            };
            let (at_once, settled) = (of(&self.at_once), of(&self.settled));
            writeln!(
                out,
                "{pod:<32} {without:>10.1} {at_once:>10.1} {settled:>10.1}"
            )?;
        }
        Ok(())
    }
}
