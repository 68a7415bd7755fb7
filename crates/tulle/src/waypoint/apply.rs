//! `tulle waypoint apply`: the Gateway, the wait until it works, and the namespace's label.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};
use tulle_api::contract::{
    DATAPLANE_MODE_AMBIENT, LABEL_DATAPLANE_MODE, LABEL_GATEWAY_NAME, LABEL_USE_WAYPOINT,
};
use tulle_cluster::kube::ResourceExt;
use tulle_cluster::kube::api::DynamicObject;
use tulle_cluster::{Api, Progress};

use super::{Target, Wanted, is_programmed, legacy, programmed, without_definitions};
use crate::cli::waypoint::ApplyArguments;
use crate::output::Terminal;

/// Who owns what is applied here; istioctl's name, so that both tools change the same fields.
const MANAGER: &str = "istioctl";
/// How long the reasons for a wait that was in vain may take to find.
const REASONS_DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn apply(
    target: &Target,
    wanted: &Wanted<'_>,
    arguments: &ApplyArguments,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let namespace = &target.namespace;
    let found = found(target).await?;
    let enrolled = found.labels().get(LABEL_USE_WAYPOINT);
    if arguments.enroll_namespace {
        if enrolled.is_some_and(|name| !name.is_empty()) && !arguments.overwrite {
            return terminal.print(&format!(
                "⚠️ Warning: namespace ({namespace}) already has an enrolled Waypoint. Consider adding the `--overwrite` flag to your \
                 apply command.\n"
            ));
        }
        let mode = found.labels().get(LABEL_DATAPLANE_MODE);
        if mode.map(String::as_str) != Some(DATAPLANE_MODE_AMBIENT) {
            terminal.print(&format!(
                "⚠️ Warning: namespace is not enrolled in ambient. Consider running\t\
                 `kubectl label namespace {namespace} {LABEL_DATAPLANE_MODE}={DATAPLANE_MODE_AMBIENT}`\n"
            ))?;
        }
    }
    let api = target.gateways(false);
    let applied: DynamicObject =
        tulle_cluster::apply(&api, wanted.name, MANAGER, &wanted.gateway())
            .await
            .map_err(without_definitions)?;
    for hint in legacy::hints(&applied) {
        terminal.error_line(&hint);
    }
    let name = wanted.name;
    terminal.print(&format!("✅ waypoint {namespace}/{name} applied\n"))?;
    if arguments.wait {
        wait(target, name, arguments.waypoint_timeout).await?;
        terminal.print(&format!("✅ waypoint {namespace}/{name} is ready!\n"))?;
    }
    if arguments.enroll_namespace {
        let patch = json!({ "metadata": { "labels": { LABEL_USE_WAYPOINT: name } } });
        let api: Api<Namespace> = Api::all(target.client.clone());
        tulle_cluster::merge_patch(&api, namespace, &patch)
            .await
            .context("failed to label namespace with waypoint")?;
        terminal.print(&format!(
            "✅ namespace {namespace} labeled with \"{LABEL_USE_WAYPOINT}: {name}\"\n"
        ))?;
    }
    Ok(())
}

async fn found(target: &Target) -> anyhow::Result<Namespace> {
    let api: Api<Namespace> = Api::all(target.client.clone());
    let found = tulle_cluster::get(&api, &target.namespace).await?;
    found.with_context(|| format!("namespace: {} not found", target.namespace))
}

/// Waits until the waypoint is programmed; if it never is, says why as far as the cluster tells.
pub(super) async fn wait(target: &Target, name: &str, deadline: Duration) -> anyhow::Result<()> {
    let what = format!("waypoint {}/{name} being programmed", target.namespace);
    let waited = tulle_cluster::wait_for(
        target.gateways(false),
        name,
        &what,
        deadline,
        |gateway: Option<&DynamicObject>| match gateway {
            None => Progress::Waiting("it does not exist".to_owned()),
            Some(gateway) if is_programmed(gateway) => Progress::Done(()),
            Some(gateway) => Progress::Waiting(seen(gateway)),
        },
    )
    .await;
    let Err(error @ tulle_cluster::Error::Deadline { .. }) = waited else {
        return Ok(waited?);
    };
    let reasons = tokio::time::timeout(REASONS_DEADLINE, reasons(target, name)).await;
    let mut text = format!(
        "timed out while waiting for waypoint\t{}/{name}",
        target.namespace
    );
    for reason in reasons.unwrap_or_default() {
        text.push_str(&format!("\n  - {reason}"));
    }
    Err(anyhow::Error::new(error).context(text))
}

fn seen(gateway: &DynamicObject) -> String {
    match programmed(gateway) {
        None => "the control plane has not looked at it: is it of this revision, and does istiod run (`tulle status`)?".to_owned(),
        Some(condition) => {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", text("reason"), text("message"))
        }
    }
}

/// What its pods and their owner say.
async fn reasons(target: &Target, name: &str) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(target.client.clone(), &target.namespace);
    let selector = format!("{LABEL_GATEWAY_NAME}={name}");
    let pods = match tulle_cluster::list(&api, Some(&selector)).await {
        Ok(pods) => pods,
        Err(error) => return vec![error.to_string()],
    };
    if pods.is_empty() {
        return vec![format!(
            "it has no pods: see `kubectl describe deployment -n {} -l {selector}`, and the log of istiod",
            target.namespace
        )];
    }
    pods.iter().flat_map(of_pod).collect()
}

fn of_pod(pod: &Pod) -> Vec<String> {
    let name = pod.name_any();
    let Some(status) = &pod.status else {
        return vec![format!("pod {name} has no status yet")];
    };
    let mut reasons = Vec::new();
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "PodScheduled" && condition.status != "True" {
            let message = condition.message.as_deref().unwrap_or("no reason given");
            reasons.push(format!("pod {name} is not scheduled: {message}"));
        }
    }
    for container in status.container_statuses.iter().flatten() {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        if let Some(waiting) = waiting {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let message = waiting.message.as_deref().unwrap_or_default();
            reasons.push(
                format!("pod {name}: {reason} {message}")
                    .trim_end()
                    .to_owned(),
            );
        } else if !container.ready {
            reasons.push(format!(
                "pod {name} runs and is not ready: see `kubectl logs -n {} {name}`",
                pod.namespace().unwrap_or_default()
            ));
        }
    }
    if reasons.is_empty() {
        let phase = status.phase.as_deref().unwrap_or("unknown");
        reasons.push(format!("pod {name} is {phase}"));
    }
    reasons
}

/// What a condition shows, as columns.
pub(super) fn columns(condition: Option<&Value>) -> [String; 4] {
    let text = |field: &str| {
        let value = condition.and_then(|condition| condition[field].as_str());
        value.unwrap_or_default().to_owned()
    };
    match condition {
        None => [
            "False".to_owned(),
            "Programmed".to_owned(),
            "Pending".to_owned(),
            "the control plane has not looked at it yet".to_owned(),
        ],
        Some(_) => [
            text("status"),
            text("type"),
            text("reason"),
            text("message"),
        ],
    }
}
