//! Is everything up, and if not, why not?

use std::fmt;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use tulle_api::contract::{CONTROL_PLANE, NODE_AGENT, SYSTEM_NAMESPACE, ZTUNNEL};
use tulle_api::k8s_openapi;
use tulle_cluster::{Api, Client, Result};

use crate::events::{last_replica_set_warning, last_warning, why_not_ready};
use crate::limits::PODS_EXPLAINED;

/// A part of the mesh that runs as pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Deployment istiod.
    ControlPlane,
    /// DaemonSet istio-cni-node.
    NodeAgent,
    /// DaemonSet ztunnel.
    Ztunnel,
}

impl Component {
    /// All, in the order of installation.
    pub const ALL: [Component; 3] = [
        Component::ControlPlane,
        Component::NodeAgent,
        Component::Ztunnel,
    ];

    /// Name of its workload in `istio-system`.
    pub fn name(self) -> &'static str {
        match self {
            Component::ControlPlane => CONTROL_PLANE,
            Component::NodeAgent => NODE_AGENT,
            Component::Ztunnel => ZTUNNEL,
        }
    }

    /// Label selector of its pods.
    pub fn selector(self) -> &'static str {
        match self {
            Component::ControlPlane => "app=istiod,istio=pilot",
            Component::NodeAgent => "k8s-app=istio-cni-node",
            Component::Ztunnel => "app=ztunnel",
        }
    }
}

/// How far a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Pods that are ready and up to date.
    pub ready: i32,
    /// Pods that there should be.
    pub desired: i32,
    /// Why not all are; `None` when they are.
    pub reason: Option<String>,
}

impl Readiness {
    /// Everything of it runs.
    pub fn is_ready(&self) -> bool {
        self.reason.is_none()
    }

    fn of(ready: i32, desired: i32, settled: bool) -> Self {
        let reason = if settled && ready >= desired {
            None
        } else {
            Some(String::new())
        };
        Readiness {
            ready,
            desired,
            reason,
        }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ready", self.ready, self.desired)?;
        match &self.reason {
            Some(reason) if !reason.is_empty() => write!(f, ": {reason}"),
            _ => Ok(()),
        }
    }
}

/// Looks at one component. `None` if its workload does not exist.
pub(crate) async fn look(client: &Client, component: Component) -> Result<Option<Readiness>> {
    let name = component.name();
    let readiness = match component {
        Component::ControlPlane => {
            let api: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
            tulle_cluster::get(&api, name)
                .await?
                .as_ref()
                .map(deployment_readiness)
        }
        Component::NodeAgent | Component::Ztunnel => {
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
            tulle_cluster::get(&api, name)
                .await?
                .as_ref()
                .map(daemon_set_readiness)
        }
    };
    let Some(mut readiness) = readiness else {
        return Ok(None);
    };
    if !readiness.is_ready() {
        readiness.reason = Some(explain(client, component).await?);
    }
    Ok(Some(readiness))
}

fn deployment_readiness(deployment: &Deployment) -> Readiness {
    let desired = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let observed = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let ready = status.available_replicas.unwrap_or(0).min(updated);
    // Old pods that still end are not the new version.
    let settled = observed && status.replicas.unwrap_or(0) == updated;
    Readiness::of(ready, desired, settled)
}

fn daemon_set_readiness(daemon_set: &DaemonSet) -> Readiness {
    let Some(status) = &daemon_set.status else {
        return Readiness::of(0, 0, false);
    };
    let observed = status.observed_generation >= daemon_set.metadata.generation;
    let desired = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let ready = status.number_available.unwrap_or(0).min(updated);
    // A cluster without nodes has nothing to wait for, but also no mesh: not settled.
    Readiness::of(ready, desired, observed && desired > 0)
}

/// The first reasons that pods or events give.
async fn explain(client: &Client, component: Component) -> Result<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let pods = tulle_cluster::list(&api, Some(component.selector())).await?;
    let mut reasons = Vec::new();
    for pod in &pods {
        let Some(why) = why_not_ready(pod) else {
            continue;
        };
        if reasons.len() == PODS_EXPLAINED {
            reasons.push("...".to_owned());
            break;
        }
        reasons.push(explain_pod(client, pod, &why).await);
    }
    if !reasons.is_empty() {
        return Ok(reasons.join("; "));
    }
    let name = component.name();
    let warning = match component {
        Component::ControlPlane => last_replica_set_warning(client, SYSTEM_NAMESPACE, name).await,
        _ => last_warning(client, SYSTEM_NAMESPACE, "DaemonSet", name).await,
    };
    Ok(warning.unwrap_or_else(|| {
        if pods.is_empty() {
            "no pod has been created yet".to_owned()
        } else {
            "an older version is still running".to_owned()
        }
    }))
}

async fn explain_pod(client: &Client, pod: &Pod, why: &str) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let at = node.map(|node| format!(" on {node}")).unwrap_or_default();
    let warning = last_warning(client, SYSTEM_NAMESPACE, "Pod", name).await;
    match warning {
        Some(warning) if !why.contains(&warning) => format!("{name}{at} {why} ({warning})"),
        _ => format!("{name}{at} {why}"),
    }
}

#[cfg(test)]
mod tests;
