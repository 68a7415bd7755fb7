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
use tulle_telemetry::Gauge;
use tulle_translate::{Condition, ObjectKind, ObjectRef};

use crate::limits::{STATUS_RETRY, STATUS_TRIES, STATUSES_WAITING};

/// An object that shows conditions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

/// How the API server serves a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
}

impl From<ObjectRef> for Target {
    fn from(object: ObjectRef) -> Self {
        let ObjectRef {
            kind,
            namespace,
            name,
        } = object;
        Self {
            kind: kind.into(),
            namespace,
            name,
        }
    }
}

impl From<ObjectKind> for Kind {
    fn from(kind: ObjectKind) -> Self {
        let (group, kind, plural) = match kind {
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
            ObjectKind::WorkloadEntry => {
                ("networking.istio.io", "WorkloadEntry", "workloadentries")
            }
        };
        Self {
            group,
            version: "v1",
            kind,
            plural,
        }
    }
}

impl Kind {
    pub(crate) fn resource(self) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, self.version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

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
    wanted: HashMap<Target, Vec<Condition>>,
    queue: VecDeque<Target>,
    queued: HashSet<Target>,
}

impl Statuses {
    /// `conditions` are all that this object should show; none removes ours.
    pub(crate) fn submit(&self, object: Target, conditions: Vec<Condition>) {
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
    pub(crate) fn forget(&self, object: &Target) {
        self.lock().wanted.remove(object);
    }

    fn everything(&self) {
        let mut state = self.lock();
        let all: Vec<_> = state.wanted.keys().cloned().collect();
        all.into_iter().for_each(|object| state.enqueue(object));
    }

    async fn next(&self) -> (Target, Vec<Condition>) {
        loop {
            if let Some(work) = self.lock().pop() {
                return work;
            }
            self.0.changed.notified().await;
        }
    }

    fn again(&self, object: Target) {
        self.lock().enqueue(object);
        self.0.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, object: Target) {
        if self.queued.insert(object.clone()) {
            self.queue.push_back(object);
        }
        while self.queue.len() > STATUSES_WAITING {
            if let Some(oldest) = self.queue.pop_front() {
                self.queued.remove(&oldest);
            }
        }
    }

    fn pop(&mut self) -> Option<(Target, Vec<Condition>)> {
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
    errors: Gauge,
) {
    let mut tries: HashMap<Target, u32> = HashMap::new();
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

async fn write_one(client: &Client, object: &Target, conditions: &[Condition]) -> Result<()> {
    let resource = object.kind.resource();
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

#[cfg(test)]
mod tests;
