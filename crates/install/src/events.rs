//! Why a pod or a workload does not get on: conditions, container states and the last warning.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use tulle_api::k8s_openapi;
use tulle_cluster::kube::api::ListParams;
use tulle_cluster::{Api, Client};

use crate::limits::EVENTS_READ;

/// The newest warning about the object, e.g. "FailedMount: configmap … not found". Reasons are worth having but never
/// worth failing for: whoever may not read events gets none.
pub(crate) async fn last_warning(
    client: &Client,
    namespace: &str,
    kind: &str,
    name: &str,
) -> Option<String> {
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
    warnings(client, namespace, &fields, |_| true).await
}

/// The newest warning about any ReplicaSet of a Deployment: they, not the Deployment, fail to create pods.
pub(crate) async fn last_replica_set_warning(
    client: &Client,
    namespace: &str,
    deployment: &str,
) -> Option<String> {
    let prefix = format!("{deployment}-");
    let fields = "involvedObject.kind=ReplicaSet,type=Warning";
    warnings(client, namespace, fields, |name| name.starts_with(&prefix)).await
}

async fn warnings(
    client: &Client,
    namespace: &str,
    fields: &str,
    wanted: impl Fn(&str) -> bool,
) -> Option<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let parameters = ListParams::default().fields(fields).limit(EVENTS_READ);
    let list = events.list(&parameters).await.ok()?;
    let mut found: Vec<Event> = list.items;
    found.retain(|event| wanted(event.involved_object.name.as_deref().unwrap_or_default()));
    found.sort_by_key(seen);
    let newest = found.pop()?;
    let reason = newest.reason.unwrap_or_default();
    let message = newest.message.unwrap_or_default();
    Some(format!("{reason}: {}", hint(first_line(&message))))
}

/// When an event was last seen; clients fill in different fields.
fn seen(event: &Event) -> String {
    let newest = event.last_timestamp.as_ref().map(|time| time.0.to_string());
    let series = event.event_time.as_ref().map(|time| time.0.to_string());
    newest.or(series).unwrap_or_default()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Adds what to do to the messages that Kubernetes leaves without it.
fn hint(message: &str) -> String {
    if message.contains("insufficient quota to match these scopes") {
        return format!(
            "{message} (this cluster admits node-critical pods only under a quota: install with --set cni.resourceQuota=true)"
        );
    }
    message.to_owned()
}

/// Why `pod` is not ready, from its status alone. `None` if it is ready.
pub(crate) fn why_not_ready(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
    if condition("Ready").is_some_and(|ready| ready.status == "True") {
        return None;
    }
    if let Some(scheduled) = condition("PodScheduled").filter(|c| c.status == "False") {
        let message = scheduled.message.as_deref().unwrap_or("no node takes it");
        return Some(format!("not scheduled: {}", first_line(message)));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("is ending".to_owned());
    }
    if matches!(status.phase.as_deref(), Some("Failed")) {
        let reason = status.reason.or(status.message);
        return Some(format!(
            "failed: {}",
            reason.unwrap_or_else(|| "no reason given".to_owned())
        ));
    }
    let containers = status.container_statuses.unwrap_or_default();
    let waiting = containers.iter().find_map(container_trouble);
    Some(waiting.unwrap_or_else(|| match status.phase.as_deref() {
        Some("Running") => "runs, but is not ready yet".to_owned(),
        _ => "is starting".to_owned(),
    }))
}

/// What keeps a container from running, and how it ended last.
fn container_trouble(container: &ContainerStatus) -> Option<String> {
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let ended = last.map(|end| {
        let reason = end.reason.as_deref().unwrap_or("ended");
        format!(
            " (last run: {reason}, exit code {}, {} restarts)",
            end.exit_code, container.restart_count
        )
    });
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or("waiting");
    let message = match waiting.message.as_deref().map(first_line) {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    };
    Some(format!(
        "{}: {reason}{message}{}",
        container.name,
        ended.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests;
