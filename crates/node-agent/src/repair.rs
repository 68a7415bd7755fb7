//! Notices that somebody changed or flushed our rules, and puts them back.

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};

use crate::agent::Agent;
use crate::life::Stage;
use crate::limits::REPAIR_INTERVAL;

/// Looks at all enrolled pods and at the node every few seconds, for as long as it is polled.
pub(crate) async fn run(agent: Agent) {
    let mut rounds = interval(REPAIR_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut host = None;
    loop {
        rounds.tick().await;
        for (slot, key) in agent.all_slots() {
            // A pod that is being worked on is looked at in the next round.
            let Ok(mut stage) = slot.stage.try_lock() else {
                continue;
            };
            look_at_pod(&agent, &mut stage, &key.to_string()).await;
        }
        host = look_at_host(&agent, host).await;
        // Pods that ended must not be kept alive by what an enrolment looked for.
        agent.means.node.forget_scan().await;
    }
}

async fn look_at_pod(agent: &Agent, stage: &mut Stage, pod: &str) {
    let Stage::In(enrolled) = stage else { return };
    let node = &agent.means.node;
    let now = node.observe(&enrolled.ns).await;
    if now.is_some() && now == enrolled.seen && now.is_some_and(|seen| seen.routed) {
        return;
    }
    if node.intact(&enrolled.ns, &enrolled.redirect).await {
        enrolled.seen = now;
        return;
    }
    warn!(
        "pod {pod}: the redirect rules were changed or flushed by somebody; they are installed again"
    );
    agent.means.metrics.repairs.with(&["pod"]).inc();
    match node.install(&enrolled.ns, &enrolled.redirect).await {
        Ok(seen) => enrolled.seen = seen,
        Err(error) => error!(
            "pod {pod}: its traffic bypasses the mesh, the rules cannot be installed again: {error}"
        ),
    }
}

/// The node's rules change often for other reasons; only then ours are compared.
async fn look_at_host(agent: &Agent, before: Option<u32>) -> Option<u32> {
    let node = &agent.means.node;
    let now = node.host_generation().await;
    if now.is_some() && now == before {
        return now;
    }
    match node.repair_probes().await {
        Ok(false) => now,
        Ok(true) => {
            warn!(
                "the probe rules of the node were changed or flushed by somebody; they are installed again"
            );
            agent.means.metrics.repairs.with(&["host"]).inc();
            None
        }
        Err(error) => {
            error!(
                "health probes of pods in STRICT mode may fail, the probe rules cannot be installed again: {error}"
            );
            None
        }
    }
}
