//! Status conditions: what the control plane tells users about their objects. Written by one
//! replica, by server-side apply, and only when something is different.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};
use tulle_api::contract;
use tulle_api::k8s_openapi::jiff::Timestamp;
use tulle_cluster::kube::api::{ApiResource, DynamicObject};
use tulle_cluster::{Api, Client, Result};
use tulle_telemetry::Gauge;
use tulle_translate::{Condition, ObjectRef, Status};

use crate::limits::{
    STATUS_HEALED, STATUS_HEALED_PER, STATUS_RETRY, STATUS_TRIES, STATUSES_WAITING,
};

mod kind;
mod shape;

pub(crate) use kind::*;

/// Field manager of addresses of ServiceEntries.
const ADDRESSES_MANAGER: &str = "tulle-addresses";

/// An object that shows conditions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    /// Parts of a status are written one by one.
    pub(crate) part: Part,
}

/// A part of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Conditions, and all else that tells what became of the object.
    Conditions,
    /// Addresses that were found for the hosts of a ServiceEntry.
    Addresses,
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
            part: Part::Conditions,
        }
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

/// What an object should show.
#[derive(Debug, Clone)]
enum Wanted {
    /// Conditions of ours, beside those of others.
    Conditions(Vec<Condition>),
    /// A status of the Gateway API's form.
    Status(Box<Status>),
    /// Host and address, all there are.
    Addresses(Vec<(Arc<str>, IpAddr)>),
}

#[derive(Default)]
struct State {
    /// What every object should show; the next leader starts with all of it.
    wanted: HashMap<Target, Wanted>,
    queue: VecDeque<Target>,
    queued: HashSet<Target>,
    /// How often a status was put right that somebody else had changed, since when.
    healed: HashMap<Target, (u32, Instant)>,
}

impl Statuses {
    /// `conditions` are all that this object should show; none removes ours.
    pub(crate) fn submit(&self, object: Target, conditions: Vec<Condition>) {
        let wanted = (!conditions.is_empty()).then_some(Wanted::Conditions(conditions));
        self.set(object, wanted);
    }

    /// The same for objects of the Gateway API; `None` takes off what is ours.
    pub(crate) fn submit_status(&self, object: Target, status: Option<Status>) {
        self.set(
            object,
            status.map(|status| Wanted::Status(Box::new(status))),
        );
    }

    /// All addresses that a ServiceEntry should show for its hosts.
    pub(crate) fn submit_addresses(
        &self,
        namespace: Arc<str>,
        name: Arc<str>,
        addresses: Vec<(Arc<str>, IpAddr)>,
    ) {
        let object = Target {
            kind: SERVICE_ENTRY,
            namespace,
            name,
            part: Part::Addresses,
        };
        self.set(object, Some(Wanted::Addresses(addresses)));
    }

    fn set(&self, object: Target, wanted: Option<Wanted>) {
        let mut state = self.lock();
        let before = match wanted {
            None => state.wanted.remove(&object),
            Some(wanted) => state.wanted.insert(object.clone(), wanted),
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
        let mut state = self.lock();
        state.wanted.remove(object);
        state.healed.remove(object);
        if object.kind == SERVICE_ENTRY {
            state.wanted.remove(&Target {
                part: Part::Addresses,
                ..object.clone()
            });
        }
    }

    /// What the API server shows of an object's status. If somebody wiped ours, it is written again; a fight with another
    /// writer is given up for a while.
    pub(crate) fn seen(&self, object: &Target, shown: impl FnOnce() -> Value) {
        let mut state = self.lock();
        let Some(wanted) = state.wanted.get(object) else {
            return;
        };
        if !wanted.differs(&shown()) {
            return;
        }
        let now = Instant::now();
        let (times, since) = state.healed.entry(object.clone()).or_insert((0, now));
        if now.duration_since(*since) > STATUS_HEALED_PER {
            (*times, *since) = (0, now);
        }
        if *times >= STATUS_HEALED {
            return;
        }
        *times += 1;
        state.enqueue(object.clone());
        drop(state);
        self.0.changed.notify_one();
    }

    fn everything(&self) {
        let mut state = self.lock();
        let all: Vec<_> = state.wanted.keys().cloned().collect();
        all.into_iter().for_each(|object| state.enqueue(object));
    }

    async fn next(&self) -> (Target, Option<Wanted>) {
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

impl Wanted {
    /// Whether an object with this status has to be written.
    fn differs(&self, shown: &Value) -> bool {
        let list = |field: &str| {
            let list = shown.get(field).and_then(Value::as_array);
            list.map_or(&[][..], Vec::as_slice)
        };
        match self {
            Self::Conditions(wanted) => {
                merged(list("conditions"), wanted, Timestamp::now()).is_some()
            }
            Self::Status(wanted) => shape::laid(shown, Some(wanted), Timestamp::now()).is_some(),
            Self::Addresses(wanted) => list("addresses") != written(wanted),
        }
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

    fn pop(&mut self) -> Option<(Target, Option<Wanted>)> {
        let object = self.queue.pop_front()?;
        self.queued.remove(&object);
        let wanted = self.wanted.get(&object).cloned();
        Some((object, wanted))
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
    let served = Served::default();
    loop {
        if leads.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        statuses.everything();
        while *leads.borrow() {
            let (object, wanted) = tokio::select! {
                next = statuses.next() => next,
                _ = leads.changed() => break,
            };
            match write_one(&client, &served, &object, wanted.as_ref()).await {
                Ok(()) => {
                    tries.remove(&object);
                }
                Err(error) if error.is_not_found() => {
                    served.forget(object.kind);
                    tries.remove(&object);
                }
                Err(error) => {
                    errors.inc();
                    served.forget(object.kind);
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
                    // Somebody else wrote in between: what it wrote is there to be read.
                    if !error.is_conflict() {
                        sleep(STATUS_RETRY).await;
                    }
                }
            }
        }
    }
}

async fn write_one(
    client: &Client,
    served: &Served,
    object: &Target,
    wanted: Option<&Wanted>,
) -> Result<()> {
    let Some(resource) = served.resource(client, object.kind).await? else {
        return Ok(());
    };
    let api: Api<DynamicObject> = match &*object.namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let Some(now) = tulle_cluster::get(&api, &object.name).await? else {
        return Ok(());
    };
    match wanted {
        Some(Wanted::Status(status)) => write_status(&api, object, &now, Some(status)).await,
        Some(Wanted::Addresses(addresses)) => {
            write_addresses(&api, &resource, object, &now, addresses).await
        }
        None if object.part == Part::Addresses => Ok(()),
        None if object.kind.has_gateway_status() => write_status(&api, object, &now, None).await,
        Some(Wanted::Conditions(conditions)) => {
            write_conditions(&api, &resource, object, &now, conditions).await
        }
        None => write_conditions(&api, &resource, object, &now, &[]).await,
    }
}

/// The whole status, laid over what is there now; refused by the server if somebody else wrote in between.
async fn write_status(
    api: &Api<DynamicObject>,
    object: &Target,
    now: &DynamicObject,
    status: Option<&Status>,
) -> Result<()> {
    let shown = now.data.get("status").unwrap_or(&Value::Null);
    let Some(status) = shape::laid(shown, status, Timestamp::now()) else {
        return Ok(());
    };
    let patch = json!({
        "metadata": { "resourceVersion": now.metadata.resource_version },
        "status": status,
    });
    tulle_cluster::merge_status(api, &object.name, &patch).await?;
    debug!(?object, "status written");
    Ok(())
}

fn written(addresses: &[(Arc<str>, IpAddr)]) -> Vec<Value> {
    let addresses = addresses.iter();
    addresses
        .map(|(host, address)| json!({ "host": &**host, "value": address.to_string() }))
        .collect()
}

/// Under a name of its own, so that conditions and addresses do not take each other off.
async fn write_addresses(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    object: &Target,
    now: &DynamicObject,
    addresses: &[(Arc<str>, IpAddr)],
) -> Result<()> {
    let addresses = written(addresses);
    let shown = now
        .data
        .pointer("/status/addresses")
        .and_then(Value::as_array);
    if shown.map_or(&[][..], Vec::as_slice) == addresses {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "name": &*object.name, "namespace": &*object.namespace },
        "status": { "addresses": addresses },
    });
    tulle_cluster::apply_status(api, &object.name, ADDRESSES_MANAGER, &patch).await?;
    debug!(?object, "addresses written");
    Ok(())
}

async fn write_conditions(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    object: &Target,
    now: &DynamicObject,
    conditions: &[Condition],
) -> Result<()> {
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
    tulle_cluster::apply_status(api, &object.name, contract::FIELD_MANAGER, &patch).await?;
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
