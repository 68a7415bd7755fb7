//! Statuses of the Gateway API as JSON: ours laid into what is there, so that times of transitions and what other
//! controllers wrote stay.

use serde_json::{Map, Value, json};
use tulle_api::contract::{CONTROLLER_GATEWAY, CONTROLLER_MESH};
use tulle_api::gateway::ParentReference;
use tulle_api::k8s_openapi::jiff::Timestamp;
use tulle_translate::{Condition, ListenerStatus, Status};

/// Controllers whose entries are ours.
const OURS: [&str; 2] = [CONTROLLER_GATEWAY, CONTROLLER_MESH];

/// The new status, or `None` when the object shows it already. `wanted` none takes off what is ours.
pub(super) fn laid(shown: &Value, wanted: Option<&Status>, now: Timestamp) -> Option<Value> {
    let mut status = shown.as_object().cloned().unwrap_or_default();
    match wanted {
        Some(Status::GatewayClass(class)) => {
            let features = class.supported_features.iter();
            set(
                &mut status,
                "supportedFeatures",
                features.map(|name| json!({ "name": name })).collect(),
            );
            own_conditions(&mut status, shown, &class.conditions, now);
        }
        Some(Status::Gateway(gateway)) => {
            let addresses = gateway.addresses.iter();
            let addresses = addresses.map(|a| json!({ "type": a.kind, "value": &*a.value }));
            set(&mut status, "addresses", addresses.collect());
            own_conditions(&mut status, shown, &gateway.conditions, now);
            let listeners = listeners(shown, &gateway.listeners, now);
            set(&mut status, "listeners", listeners);
            let attached = gateway.attached_listener_sets;
            if attached > 0 || status.contains_key("attachedListenerSets") {
                status.insert("attachedListenerSets".to_owned(), attached.into());
            }
        }
        Some(Status::ListenerSet(set_status)) => {
            own_conditions(&mut status, shown, &set_status.conditions, now);
            let listeners = listeners(shown, &set_status.listeners, now);
            set(&mut status, "listeners", listeners);
        }
        Some(Status::Route(route)) => {
            let entries = route.parents.iter().map(|parent| Entry {
                reference: &parent.parent,
                controller: parent.controller,
                conditions: &parent.conditions,
            });
            let all = entries_beside(shown, "parents", "parentRef", entries, now);
            set(&mut status, "parents", all);
        }
        Some(Status::Policy(policy)) => {
            let entries = policy.ancestors.iter().map(|ancestor| Entry {
                reference: &ancestor.ancestor,
                controller: ancestor.controller,
                conditions: &ancestor.conditions,
            });
            let all = entries_beside(shown, "ancestors", "ancestorRef", entries, now);
            set(&mut status, "ancestors", all);
        }
        None => {
            for list in ["parents", "ancestors"] {
                if let Some(Value::Array(entries)) = status.get_mut(list) {
                    entries.retain(|entry| !is_ours(entry));
                }
            }
        }
    }
    let status = Value::Object(status);
    (!same(shown, &status)).then_some(status)
}

/// Conditions as written, each with the time of its last transition. Others of the list are kept.
fn own_conditions(
    status: &mut Map<String, Value>,
    shown: &Value,
    wanted: &[Condition],
    now: Timestamp,
) {
    let before = list(shown, "conditions");
    let foreign = before.iter().filter(|condition| {
        let kind = condition["type"].as_str().unwrap_or_default();
        !wanted.iter().any(|wanted| wanted.kind == kind)
            && kind.contains('/')
            && !kind.starts_with("istio.io/")
    });
    let mut all = conditions(before, wanted, now);
    all.extend(foreign.cloned());
    set(status, "conditions", all);
}

fn conditions(before: &[Value], wanted: &[Condition], now: Timestamp) -> Vec<Value> {
    let wanted = wanted.iter().map(|condition| {
        let status = if condition.status { "True" } else { "False" };
        let old = before
            .iter()
            .find(|old| old["type"] == condition.kind && old["status"] == status);
        let since = old.and_then(|old| old["lastTransitionTime"].as_str());
        let since = since.map_or_else(
            || now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            str::to_owned,
        );
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
        value
    });
    wanted.collect()
}

fn listeners(shown: &Value, wanted: &[ListenerStatus], now: Timestamp) -> Vec<Value> {
    let before = list(shown, "listeners");
    let wanted = wanted.iter().map(|listener| {
        let old = before.iter().find(|old| old["name"] == *listener.name);
        let old = old.map_or(&[][..], |old| list(old, "conditions"));
        let kinds = listener.supported_kinds.iter();
        let kinds = kinds.map(|(group, kind)| json!({ "group": group, "kind": kind }));
        json!({
            "name": &*listener.name,
            "supportedKinds": kinds.collect::<Vec<_>>(),
            "attachedRoutes": listener.attached_routes,
            "conditions": conditions(old, &listener.conditions, now),
        })
    });
    wanted.collect()
}

/// One parent of a route, or one ancestor of a policy.
struct Entry<'a> {
    reference: &'a ParentReference,
    controller: &'static str,
    conditions: &'a [Condition],
}

/// Entries of other controllers as they are, then ours.
fn entries_beside<'a>(
    shown: &Value,
    field: &str,
    reference: &str,
    wanted: impl Iterator<Item = Entry<'a>>,
    now: Timestamp,
) -> Vec<Value> {
    let before = list(shown, field);
    let mut all: Vec<Value> = before.iter().filter(|old| !is_ours(old)).cloned().collect();
    for entry in wanted {
        let target = filled(&serde_json::to_value(entry.reference).unwrap_or_default());
        let old = before.iter().find(|old| {
            old["controllerName"] == entry.controller && filled(&old[reference]) == target
        });
        let old = old.map_or(&[][..], |old| list(old, "conditions"));
        all.push(json!({
            reference: target,
            "controllerName": entry.controller,
            "conditions": conditions(old, entry.conditions, now),
        }));
    }
    all
}

/// A reference with the API's defaults, so that the same one looks the same; without empty fields.
fn filled(reference: &Value) -> Value {
    let mut reference = reference.as_object().cloned().unwrap_or_default();
    reference.retain(|_, value| !value.is_null());
    let fields = [("group", "gateway.networking.k8s.io"), ("kind", "Gateway")];
    for (field, default) in fields {
        reference.entry(field).or_insert_with(|| default.into());
    }
    Value::Object(reference)
}

fn is_ours(entry: &Value) -> bool {
    let controller = entry["controllerName"].as_str();
    controller.is_some_and(|name| OURS.contains(&name))
}

fn list<'a>(of: &'a Value, field: &str) -> &'a [Value] {
    let list = of.get(field).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn set(status: &mut Map<String, Value>, field: &str, value: Vec<Value>) {
    if value.is_empty() && !status.contains_key(field) {
        return;
    }
    status.insert(field.to_owned(), Value::Array(value));
}

/// Whether an object shows a status already; what the API server fills in is no difference.
fn same(shown: &Value, status: &Value) -> bool {
    let empty = Value::Object(Map::new());
    let shown = if shown.is_null() { &empty } else { shown };
    shown == status
}

#[cfg(test)]
mod tests;
