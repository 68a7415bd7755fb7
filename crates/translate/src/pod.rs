//! What matters of a pod.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tulle_api::contract::{
    ANNOTATION_REDIRECTION, LABEL_POD_TEMPLATE_HASH, LABEL_WORKLOAD_NAME, REDIRECTION_ENABLED,
};
use tulle_model::{Health, Interner};

use crate::labels::Labels;
use crate::workload::{WorkloadFacts, native_tunnel};

/// Why an object gives no workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The pod has ended; its address may be someone else's already.
    #[error("pod {0} has ended")]
    Ended(String),
    /// It has no name, which the API server does not let happen.
    #[error("an object without a name")]
    Nameless,
}

/// Label that Argo Rollouts writes in place of `pod-template-hash`.
const LABEL_ROLLOUTS_HASH: &str = "rollouts-pod-template-hash";
/// Label that OpenShift's DeploymentConfig writes.
const LABEL_DEPLOYMENT_CONFIG: &str = "deploymentconfig";
/// Digits at the end of the name of a Job that a CronJob made.
const CRON_DIGITS: std::ops::RangeInclusive<usize> = 8..=10;

/// Takes what matters of a pod. A pod without an address yet is kept (certificates are asked for it) and gives no
/// workload; a Pending pod with an address does.
pub fn pod_facts(pod: &Pod, texts: &mut Interner) -> Result<WorkloadFacts, Rejected> {
    let name = pod.metadata.name.as_deref().ok_or(Rejected::Nameless)?;
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Err(Rejected::Ended(name.to_owned()));
    }
    let spec = pod.spec.as_ref();
    let labels = Labels::of(pod.metadata.labels.as_ref(), texts);
    let annotation = |key| pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
    let ready = status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let healthy = ready && pod.metadata.deletion_timestamp.is_none();
    let account = spec.and_then(|spec| spec.service_account_name.as_deref());
    Ok(WorkloadFacts {
        addresses: addresses(pod).into(),
        hostname: Arc::default(),
        node: texts.intern(
            spec.and_then(|spec| spec.node_name.as_deref())
                .unwrap_or_default(),
        ),
        service_account: texts.intern(account.filter(|a| !a.is_empty()).unwrap_or("default")),
        workload_name: texts.intern(workload_name(pod, name, &labels)),
        ports: named_ports(pod, texts),
        health: if healthy {
            Health::Healthy
        } else {
            Health::Unhealthy
        },
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or_default(),
        tunnel: annotation(ANNOTATION_REDIRECTION).is_some_and(|v| v == REDIRECTION_ENABLED),
        native_tunnel: native_tunnel(&labels),
        labels,
        network: None,
        locality: None,
        capacity: 1,
    })
}

/// All addresses, or none when one of them cannot be read.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let texts: Vec<&str> = match status.pod_ips.as_deref() {
        Some(all) if !all.is_empty() => all.iter().map(|ip| ip.ip.as_str()).collect(),
        _ => status
            .pod_ip
            .iter()
            .filter(|ip| !ip.is_empty())
            .map(String::as_str)
            .collect(),
    };
    let parsed: Result<Vec<IpAddr>, _> = texts.iter().map(|text| text.parse()).collect();
    parsed.unwrap_or_default()
}

/// TCP container ports with a name, of containers and of init containers that keep running; the first of a name wins.
fn named_ports(pod: &Pod, texts: &mut Interner) -> Box<[(Arc<str>, u16)]> {
    let Some(spec) = &pod.spec else {
        return Box::default();
    };
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let init = spec.init_containers.iter().flatten().filter(sidecar);
    let ports = spec
        .containers
        .iter()
        .chain(init)
        .flat_map(|c| c.ports.iter().flatten());
    let mut named: Vec<(Arc<str>, u16)> = Vec::new();
    for port in ports {
        let tcp = port
            .protocol
            .as_deref()
            .is_none_or(|protocol| protocol == "TCP");
        let number = u16::try_from(port.container_port).ok();
        if let (true, Some(name), Some(number)) = (tcp, port.name.as_deref(), number)
            && !named.iter().any(|(n, _)| **n == *name)
        {
            named.push((texts.intern(name), number));
        }
    }
    named.into()
}

/// Name of what owns the pod, by Istio's rules: a label, then the owner of a pod with a generated name.
fn workload_name<'a>(pod: &'a Pod, name: &'a str, labels: &'a Labels) -> &'a str {
    if let Some(name) = labels.get(LABEL_WORKLOAD_NAME) {
        return name;
    }
    let generated = pod
        .metadata
        .generate_name
        .as_deref()
        .is_some_and(|name| !name.is_empty());
    let owners = pod.metadata.owner_references.iter().flatten();
    match owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
    {
        Some(owner) if generated => owner_name(owner, labels),
        _ => name,
    }
}

fn owner_name<'a>(owner: &'a OwnerReference, labels: &'a Labels) -> &'a str {
    match owner.kind.as_str() {
        "ReplicaSet" => [LABEL_POD_TEMPLATE_HASH, LABEL_ROLLOUTS_HASH]
            .into_iter()
            .filter_map(|label| labels.get(label))
            .filter(|hash| !hash.is_empty())
            .find_map(|hash| owner.name.strip_suffix(&**hash)?.strip_suffix('-'))
            .unwrap_or(&owner.name),
        "ReplicationController" => labels
            .get(LABEL_DEPLOYMENT_CONFIG)
            .map_or(owner.name.as_str(), |name| name),
        "Job" => cron_job(&owner.name).unwrap_or(&owner.name),
        _ => &owner.name,
    }
}

/// A CronJob names its Jobs after itself and the minute.
fn cron_job(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let digits = minute.bytes().all(|b| b.is_ascii_digit());
    (digits && CRON_DIGITS.contains(&minute.len()) && !name.is_empty()).then_some(name)
}
