//! Status conditions: what the control plane tells users about their objects. Written by one
//! replica, by server-side apply, and only when something is different.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::{debug, warn};
use tulle_api::contract;
use tulle_api::k8s_openapi::jiff::Timestamp;
use tulle_cluster::kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use tulle_cluster::{Api, Client, Result};
use tulle_telemetry::Counter;
use tulle_translate::{Condition, ObjectKind, ObjectRef};

use crate::limits::{STATUS_RETRY, STATUS_TRIES, STATUSES_WAITING};

/// Where conditions are handed in. Clones share one queue.
#[derive(Clone, Default)]
pub(crate) struct Statuses(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What every object should show; the next leader starts with all of it.
    wanted: HashMap<ObjectRef, Vec<Condition>>,
    queue: VecDeque<ObjectRef>,
    queued: HashSet<ObjectRef>,
}

impl Statuses {
    /// `conditions` are all that this object should show; none removes ours.
    pub(crate) fn submit(&self, object: ObjectRef, conditions: Vec<Condition>) {
        let mut state = self.lock();
        let before = if conditions.is_empty() {
            state.wanted.remove(&object)
        } else {
            state.wanted.insert(object.clone(), conditions)
        };
        // An object that never showed anything needs no write to show nothing.
        if before.is_some() || state.wanted.contains_key(&object) {
            state.enqueue(object);
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// An object that is gone needs no status.
    pub(crate) fn forget(&self, object: &ObjectRef) {
        self.lock().wanted.remove(object);
    }

    fn everything(&self) {
        let mut state = self.lock();
        let all: Vec<_> = state.wanted.keys().cloned().collect();
        all.into_iter().for_each(|object| state.enqueue(object));
    }

    async fn next(&self) -> (ObjectRef, Vec<Condition>) {
        loop {
            if let Some(work) = self.lock().pop() {
                return work;
            }
            self.0.changed.notified().await;
        }
    }

    fn again(&self, object: ObjectRef) {
        self.lock().enqueue(object);
        self.0.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, object: ObjectRef) {
        if self.queued.insert(object.clone()) {
            self.queue.push_back(object);
        }
        while self.queue.len() > STATUSES_WAITING {
            if let Some(oldest) = self.queue.pop_front() {
                self.queued.remove(&oldest);
            }
        }
    }

    fn pop(&mut self) -> Option<(ObjectRef, Vec<Condition>)> {
        let object = self.queue.pop_front()?;
        self.queued.remove(&object);
        let conditions = self.wanted.get(&object).cloned().unwrap_or_default();
        Some((object, conditions))
    }
}

/// Writes while `leads` says so, for ever.
pub(crate) async fn write(
    client: Client,
    statuses: Statuses,
    mut leads: watch::Receiver<bool>,
    errors: Counter,
) {
    let mut tries: HashMap<ObjectRef, u32> = HashMap::new();
    loop {
        if leads.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        statuses.everything();
        while *leads.borrow() {
            let (object, conditions) = tokio::select! {
                next = statuses.next() => next,
                _ = leads.changed() => break,
            };
            match write_one(&client, &object, &conditions).await {
                Ok(()) => {
                    tries.remove(&object);
                }
                Err(error) if error.is_not_found() => {
                    tries.remove(&object);
                }
                Err(error) => {
                    errors.inc();
                    let count = tries.entry(object.clone()).or_default();
                    *count += 1;
                    if *count >= STATUS_TRIES {
                        warn!(
                            ?object,
                            "status not written, given up until it changes: {error}"
                        );
                        tries.remove(&object);
                        continue;
                    }
                    debug!(?object, "status not written: {error}");
                    statuses.again(object);
                    sleep(STATUS_RETRY).await;
                }
            }
        }
    }
}

async fn write_one(client: &Client, object: &ObjectRef, conditions: &[Condition]) -> Result<()> {
    let resource = resource(object.kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &object.namespace, &resource);
    let Some(now) = tulle_cluster::get(&api, &object.name).await? else {
        return Ok(());
    };
    let shown = now
        .data
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let shown = shown.map_or(&[][..], Vec::as_slice);
    let Some(wanted) = merged(shown, conditions, Timestamp::now()) else {
        return Ok(());
    };
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "name": &*object.name, "namespace": &*object.namespace },
        "status": { "conditions": wanted },
    });
    tulle_cluster::apply_status(&api, &object.name, contract::FIELD_MANAGER, &patch).await?;
    debug!(?object, "status written");
    Ok(())
}

/// The conditions to apply, or `None` when the object shows them already.
fn merged(shown: &[Value], wanted: &[Condition], now: Timestamp) -> Option<Vec<Value>> {
    let find = |kind: &str| shown.iter().find(|c| c["type"].as_str() == Some(kind));
    let mut different = OURS.iter().any(|kind| {
        find(kind).is_some() && !wanted.iter().any(|condition| condition.kind == *kind)
    });
    let mut result = Vec::with_capacity(wanted.len());
    for condition in wanted {
        let status = if condition.status { "True" } else { "False" };
        let old = find(condition.kind);
        let text = |key: &str| old.and_then(|old| old[key].as_str());
        let generation = old.and_then(|old| generation(&old["observedGeneration"]));
        different |= text("status") != Some(status)
            || text("reason") != Some(condition.reason)
            || text("message").unwrap_or_default() != condition.message
            || generation != condition.observed_generation;
        let since = match text("lastTransitionTime") {
            Some(since) if text("status") == Some(status) => since.to_owned(),
            _ => now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        let mut value = json!({
            "type": condition.kind,
            "status": status,
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": since,
        });
        if let Some(generation) = condition.observed_generation {
            value["observedGeneration"] = generation.into();
        }
        result.push(value);
    }
    different.then_some(result)
}

/// Condition types that only this control plane writes.
const OURS: [&str; 3] = [
    contract::CONDITION_ZTUNNEL_ACCEPTED,
    contract::CONDITION_WAYPOINT_ACCEPTED,
    contract::CONDITION_WAYPOINT_BOUND,
];

/// Istio writes generations as numbers, and as texts in older releases.
fn generation(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn resource(kind: ObjectKind) -> ApiResource {
    let (group, name, plural) = match kind {
        ObjectKind::AuthorizationPolicy => (
            "security.istio.io",
            "AuthorizationPolicy",
            "authorizationpolicies",
        ),
        ObjectKind::PeerAuthentication => (
            "security.istio.io",
            "PeerAuthentication",
            "peerauthentications",
        ),
        ObjectKind::Service => ("", "Service", "services"),
        ObjectKind::ServiceEntry => ("networking.istio.io", "ServiceEntry", "serviceentries"),
        ObjectKind::WorkloadEntry => ("networking.istio.io", "WorkloadEntry", "workloadentries"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", name), plural)
}

#[cfg(test)]
mod tests;
