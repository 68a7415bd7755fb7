//! From what the user names to the proxies that are asked.

use std::io::Read as _;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use tulle_api::contract::{SYSTEM_NAMESPACE, ZTUNNEL};
use tulle_api::k8s_openapi;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::{Api, Client};

use super::dump::Dump;
use crate::cli::{Global, Source};
use crate::connect;
use crate::exit::Usage;
use crate::http::ask_pod;
use crate::limits::{MAX_ADMIN_ANSWER, PARALLEL_PROXIES};

/// How many proxies have the answer when the user names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All know the same: any one will do.
    Any,
    /// Each knows its own node's.
    All,
}

/// The pod that the user named, if it was not a ztunnel: output is about it alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Target(Option<(String, String)>);

impl Target {
    pub(super) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|(_, name)| name.as_str())
    }

    /// The pod's namespace, else the one asked for by flag.
    pub(super) fn namespace<'a>(&'a self, flag: Option<&'a str>) -> Option<&'a str> {
        self.0
            .as_ref()
            .map(|(namespace, _)| namespace.as_str())
            .or(flag)
    }
}

/// One ztunnel pod.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) pod: String,
    pub(super) namespace: String,
    pub(super) node: String,
}

/// The dumps of the proxies, or of the file, that the user means.
pub(super) async fn load(
    global: &Global,
    source: &Source,
    scope: Scope,
) -> anyhow::Result<(Vec<Dump>, Target)> {
    if let Some(path) = &source.file {
        let bytes = read(path)?;
        let dump =
            Dump::parse(&bytes, None).with_context(|| format!("cannot use {}", path.display()))?;
        return Ok((vec![dump], Target::default()));
    }
    let client = connect(global).await?;
    let (proxies, target) = choose(&client, source, scope).await?;
    let dumps = stream::iter(
        proxies
            .iter()
            .map(|proxy| dump(&client, proxy, source.proxy_admin_port)),
    )
    .buffered(PARALLEL_PROXIES)
    .try_collect()
    .await?;
    Ok((dumps, target))
}

fn read(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MAX_ADMIN_ANSWER)
            .read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(path);
        file.and_then(|file| file.take(MAX_ADMIN_ANSWER).read_to_end(&mut bytes))
    };
    read.map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes)
}

async fn dump(client: &Client, proxy: &Proxy, port: u16) -> anyhow::Result<Dump> {
    let bytes = ask_pod(
        client,
        &proxy.namespace,
        &proxy.pod,
        port,
        "GET",
        "/config_dump",
    )
    .await?;
    Dump::parse(&bytes, Some(proxy.node.clone()))
}

/// The proxies that `source` means.
pub(super) async fn choose(
    client: &Client,
    source: &Source,
    scope: Scope,
) -> anyhow::Result<(Vec<Proxy>, Target)> {
    let mut proxies = running(client).await?;
    if let Some(name) = &source.pod {
        return choose_by_pod(client, source, name, proxies).await;
    }
    if let Some(node) = &source.node {
        proxies.retain(|proxy| proxy.node == *node);
        anyhow::ensure!(
            !proxies.is_empty(),
            "no running ztunnel on node {node}; `kubectl get pods -n {SYSTEM_NAMESPACE} -l app=ztunnel -o wide` shows where there are some"
        );
        proxies.truncate(1);
    }
    anyhow::ensure!(
        !proxies.is_empty(),
        "no ztunnel runs in this cluster; `tulle status` says why"
    );
    if scope == Scope::Any {
        proxies.truncate(1);
    }
    Ok((proxies, Target::default()))
}

/// A ztunnel pod by its name, or the ztunnel on the node of any other pod.
async fn choose_by_pod(
    client: &Client,
    source: &Source,
    text: &str,
    proxies: Vec<Proxy>,
) -> anyhow::Result<(Vec<Proxy>, Target)> {
    let (kind, rest) = text.split_once('/').unwrap_or(("pod", text));
    let (name, dotted) = rest
        .split_once('.')
        .map_or((rest, None), |(n, ns)| (n, Some(ns)));
    if let Some(proxy) = proxies.iter().find(|proxy| proxy.pod == name) {
        return Ok((vec![proxy.clone()], Target::default()));
    }
    let namespace = dotted.or(source.namespace.as_deref()).unwrap_or("default");
    let pod = find_pod(client, kind, namespace, name).await?;
    let pod_name = pod.name_any();
    let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
    let proxy = proxies
        .into_iter()
        .find(|proxy| proxy.node == node)
        .with_context(|| {
            format!(
                "pod {namespace}/{pod_name} runs on node {node:?}, which has no running ztunnel"
            )
        })?;
    Ok((vec![proxy], Target(Some((namespace.to_owned(), pod_name)))))
}

/// The pod itself, or the first pod of a Deployment, StatefulSet or DaemonSet.
async fn find_pod(client: &Client, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let missing =
        || format!("there is no {kind} {namespace}/{name}; name it as [kind/]name[.namespace]");
    match kind {
        "pod" | "pods" | "po" => tulle_cluster::get(&api, name).await?.with_context(missing),
        "deploy" | "deployment" | "deployments" | "sts" | "statefulset" | "ds" | "daemonset" => {
            let pods = tulle_cluster::list(&api, None).await?;
            pods.into_iter()
                .find(|pod| owned_by(pod, name))
                .with_context(missing)
        }
        other => Err(Usage(format!(
            "{other:?} is no kind that has pods: pod, deploy, sts or ds are known here"
        ))
        .into()),
    }
}

/// Is `workload` the pod's owner, or the owner of its ReplicaSet (whose name is the Deployment's with a hash)?
fn owned_by(pod: &Pod, workload: &str) -> bool {
    pod.owner_references().iter().any(|owner| {
        owner.name == workload
            || owner.kind == "ReplicaSet"
                && owner
                    .name
                    .rsplit_once('-')
                    .is_some_and(|(name, _)| name == workload)
    })
}

/// All running ztunnels, by node; on a node with two (an update under way) the younger first.
async fn running(client: &Client) -> anyhow::Result<Vec<Proxy>> {
    let api: Api<Pod> = Api::all(client.clone());
    let mut pods = tulle_cluster::list(&api, Some(&format!("app={ZTUNNEL}"))).await?;
    pods.retain(|pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    });
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp()));
    let mut proxies: Vec<Proxy> = pods
        .iter()
        .map(|pod| Proxy {
            pod: pod.name_any(),
            namespace: pod.namespace().unwrap_or_default(),
            node: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
        })
        .collect();
    proxies.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(proxies)
}
