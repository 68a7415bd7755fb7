//! How the mesh is: parts, nodes, enrolled pods, and what is wrong.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde::Serialize;
use tulle_api::contract::{
    ANNOTATION_REDIRECTION, LABEL_APP_VERSION, REDIRECTION_ENABLED, REDIRECTION_PENDING,
    SYSTEM_NAMESPACE,
};
use tulle_api::k8s_openapi;
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::{Api, Client, Result};

use crate::events::why_not_ready;
use crate::limits::PODS_NAMED;
use crate::ready::{Component, look};

/// The whole picture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Parts in the order of installation; missing ones are in `problems`.
    pub components: Vec<ComponentStatus>,
    /// All nodes by name.
    pub nodes: Vec<NodeStatus>,
    /// Pods whose traffic goes through the mesh.
    pub enrolled: usize,
    /// Pods whose redirect is in place and that wait for their node proxy.
    pub pending: usize,
    /// What is wrong, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

/// One part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Name of its workload.
    pub name: String,
    /// Versions of its pods with their numbers.
    pub versions: BTreeMap<String, usize>,
    /// Ready pods.
    pub ready: i32,
    /// Wanted pods.
    pub desired: i32,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the node.
    pub name: String,
    /// The kubelet says that it is ready.
    pub ready: bool,
    /// Its node agent is ready.
    pub agent: bool,
    /// It has a ready node proxy.
    pub ztunnel: bool,
    /// Enrolled pods on it.
    pub enrolled: usize,
    /// Pods on it that wait for their proxy.
    pub pending: usize,
}

/// Looks at everything.
pub async fn status(client: &Client) -> Result<Status> {
    let all_pods: Api<Pod> = Api::all(client.clone());
    let all_nodes: Api<Node> = Api::all(client.clone());
    let pods = tulle_cluster::list(&all_pods, None).await?;
    let nodes = tulle_cluster::list(&all_nodes, None).await?;
    let mut status = Status::default();
    for component in Component::ALL {
        match look(client, component).await? {
            Some(readiness) => {
                if let Some(reason) = &readiness.reason {
                    let name = component.name();
                    let (ready, desired) = (readiness.ready, readiness.desired);
                    status
                        .problems
                        .push(format!("{name}: {ready}/{desired} ready: {reason}"));
                }
                status.components.push(ComponentStatus {
                    name: component.name().to_owned(),
                    versions: versions(&pods, component),
                    ready: readiness.ready,
                    desired: readiness.desired,
                });
            }
            None => status
                .problems
                .push(format!("{} is not installed", component.name())),
        }
    }
    status.nodes = nodes.iter().map(|node| node_status(node, &pods)).collect();
    status.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    status.enrolled = status.nodes.iter().map(|node| node.enrolled).sum();
    status.pending = status.nodes.iter().map(|node| node.pending).sum();
    status.problems.extend(pod_problems(&status.nodes, &pods));
    Ok(status)
}

/// Is `pod` one of the component's?
fn belongs(pod: &Pod, component: Component) -> bool {
    let in_system = pod.namespace().as_deref() == Some(SYSTEM_NAMESPACE);
    in_system
        && component.selector().split(',').all(|term| {
            term.split_once('=').is_some_and(|(name, value)| {
                pod.labels().get(name).map(String::as_str) == Some(value)
            })
        })
}

fn versions(pods: &[Pod], component: Component) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for pod in pods.iter().filter(|pod| belongs(pod, component)) {
        let version = pod.labels().get(LABEL_APP_VERSION).cloned();
        *versions
            .entry(version.unwrap_or_else(|| "unknown".to_owned()))
            .or_default() += 1;
    }
    versions
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn redirection(pod: &Pod) -> Option<&str> {
    pod.annotations()
        .get(ANNOTATION_REDIRECTION)
        .map(String::as_str)
}

fn node_status(node: &Node, pods: &[Pod]) -> NodeStatus {
    let name = node.name_any();
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let here = || {
        pods.iter()
            .filter(|pod| node_of(pod) == Some(name.as_str()))
    };
    let runs =
        |component| here().any(|pod| belongs(pod, component) && why_not_ready(pod).is_none());
    let count = |value| here().filter(|pod| redirection(pod) == Some(value)).count();
    NodeStatus {
        ready: conditions
            .unwrap_or_default()
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True"),
        agent: runs(Component::NodeAgent),
        ztunnel: runs(Component::Ztunnel),
        enrolled: count(REDIRECTION_ENABLED),
        pending: count(REDIRECTION_PENDING),
        name,
    }
}

/// Pods that say they are in the mesh where nothing serves it.
fn pod_problems(nodes: &[NodeStatus], pods: &[Pod]) -> Vec<String> {
    let mut problems = Vec::new();
    for node in nodes
        .iter()
        .filter(|node| !node.ztunnel && node.enrolled + node.pending > 0)
    {
        let count = node.enrolled + node.pending;
        let name = &node.name;
        problems.push(format!(
            "node {name}: {count} pods are in the mesh, but no ready ztunnel runs there: they have no connections"
        ));
    }
    let pending: Vec<String> = pods
        .iter()
        .filter(|pod| redirection(pod) == Some(REDIRECTION_PENDING))
        .map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()))
        .collect();
    if !pending.is_empty() {
        let named = pending
            .iter()
            .take(PODS_NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        problems.push(format!(
            "{} pods wait for their node proxy, e.g. {named}",
            pending.len()
        ));
    }
    problems
}

#[cfg(test)]
mod tests;
