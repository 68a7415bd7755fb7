//! What users of Gateways and ListenerSets are told.

use std::collections::BTreeMap;

use tulle_api::gateway::GROUP;

use super::deployable::NotDeployed;
use super::listeners::{Listening, View};
use super::state::{GatewayFacts, Named, ParentKey};
use super::status::{Class, GatewayStatus, ListenerSetStatus, ListenerStatus, Status};
use super::{Problem, condition};
use crate::cluster::{Cluster, Key, Outputs, Value};
use crate::condition::{Condition, ObjectKind, ObjectRef};

impl Cluster {
    /// Status of a Gateway.
    pub(super) fn gateway_status(&self, named: &Named) -> Option<Outputs> {
        let facts = self.gateway.gateways.get(named)?;
        let view = self.gateway.views.get(named)?;
        let generation = facts.meta.generation;
        let attached = self.attached_routes(&ParentKey::Gateway(named.clone()), named, view);
        let listeners = listener_statuses(view, None, &attached, generation);
        let (addresses, mut programmed) = self.programmed(named, facts, view);
        let mut accepted = accepted(view);
        match self.gateway.undeployed.get(named) {
            Some(NotDeployed::Parameters(why)) => accepted.unless("InvalidParameters", why),
            // That is also why there are no addresses.
            Some(NotDeployed::Refused(why)) if view.refused.is_none() => {
                programmed.problem = Some(Problem::new("Invalid", why.as_str()));
            }
            Some(NotDeployed::Refused(_)) => {}
            None => {}
        }
        let fine = ("ResolvedRefs", "All references resolved");
        let mut conditions = vec![
            accepted.observed(generation),
            programmed.observed(generation),
            condition("ResolvedRefs", view.references.as_ref(), fine, generation),
        ];
        if view.insecure_fallback {
            let message =
                "Gateway is operating in AllowInsecureFallback mode for frontend validation";
            let fine = ("ConfigurationChanged", message);
            conditions.push(condition(
                "InsecureFrontendValidationMode",
                None,
                fine,
                generation,
            ));
        }
        let sets = view
            .sets
            .iter()
            .filter(|(set, problem)| set_accepted(view, set, problem.as_ref()).problem.is_none())
            .count();
        let status = Status::Gateway(GatewayStatus {
            addresses,
            conditions,
            listeners,
            attached_listener_sets: u32::try_from(sets).unwrap_or(u32::MAX),
        });
        Some(vec![(
            Key::Status(object(ObjectKind::Gateway, named)),
            Value::Status(status),
        )])
    }

    fn programmed(
        &self,
        named: &Named,
        facts: &GatewayFacts,
        view: &View,
    ) -> (Vec<super::StatusAddress>, Told) {
        let reached = self.reached(named, facts, view);
        let services = reached.services.join(", ");
        let problem = if let Some(refused) = &view.refused {
            Some(Problem::new("Invalid", refused.message.clone()))
        } else if reached.missing.is_empty() {
            None
        } else {
            let reason = if reached.unusable {
                "AddressNotUsable"
            } else {
                "AddressNotAssigned"
            };
            let missing = reached.missing.join("; ");
            let message = if services.is_empty() {
                format!("Failed to assign to any requested addresses: {missing}")
            } else {
                format!(
                    "Assigned to service(s) {services}, but failed to assign to all requested addresses: {missing}"
                )
            };
            Some(Problem::new(reason, message))
        };
        let told = Told {
            kind: "Programmed",
            problem,
            fine: "Programmed",
            message: format!("Resource programmed, assigned to service(s) {services}"),
        };
        (reached.addresses, told)
    }

    /// Status of a ListenerSet; none when its Gateway is not ours.
    pub(super) fn set_status(&self, named: &Named) -> Option<Outputs> {
        let facts = self.gateway.sets.get(named)?;
        let gateway = set_gateway(named, &facts.spec)?;
        let view = self.gateway.views.get(&gateway)?;
        let problem = view.sets.get(named)?;
        let generation = facts.meta.generation;
        let key = ParentKey::ListenerSet(named.clone());
        let attached = self.attached_routes(&key, &gateway, view);
        let listeners = listener_statuses(view, Some(named), &attached, generation);
        let accepted = set_accepted(view, named, problem.as_ref());
        let programmed = Told {
            kind: "Programmed",
            fine: "Programmed",
            message: "Resource programmed".to_owned(),
            problem: accepted.problem.clone(),
        };
        let status = Status::ListenerSet(ListenerSetStatus {
            conditions: vec![
                accepted.observed(generation),
                programmed.observed(generation),
            ],
            listeners,
        });
        Some(vec![(
            Key::Status(object(ObjectKind::ListenerSet, named)),
            Value::Status(status),
        )])
    }

    /// How many routes each listener has, by its name in the Gateway.
    fn attached_routes(
        &self,
        key: &ParentKey,
        gateway: &Named,
        view: &View,
    ) -> BTreeMap<std::sync::Arc<str>, u32> {
        let mut counts = BTreeMap::new();
        for id in self.gateway.routes_by_parent.get(key).into_iter().flatten() {
            let Some(facts) = self
                .gateway
                .routes
                .get(id)
                .filter(|_| self.is_discovered(&id.namespace))
            else {
                continue;
            };
            let mut listeners: Vec<_> = facts
                .parents
                .iter()
                .filter(|parent| {
                    super::parents::parent_key(parent, &id.namespace).as_ref() == Some(key)
                })
                .filter_map(|parent| {
                    self.attach_to_listeners(id, facts, parent, gateway, view)
                        .ok()
                })
                .flatten()
                .map(|attached| attached.wire)
                .collect();
            listeners.sort();
            listeners.dedup();
            for wire in listeners {
                *counts.entry(wire).or_default() += 1;
            }
        }
        counts
    }
}

/// A condition in the making.
struct Told {
    kind: &'static str,
    problem: Option<Problem>,
    fine: &'static str,
    message: String,
}

impl Told {
    fn accepted() -> Self {
        Self {
            kind: "Accepted",
            problem: None,
            fine: "Accepted",
            message: "Resource accepted".to_owned(),
        }
    }

    fn refused(problem: Problem) -> Self {
        Self {
            problem: Some(problem),
            ..Self::accepted()
        }
    }

    /// A problem, unless there is another one already.
    fn unless(&mut self, reason: &'static str, why: &str) {
        self.problem
            .get_or_insert_with(|| Problem::new(reason, why));
    }

    fn observed(&self, generation: Option<i64>) -> Condition {
        condition(
            self.kind,
            self.problem.as_ref(),
            (self.fine, &self.message),
            generation,
        )
    }
}

/// A Gateway is accepted as long as one of its listeners is valid.
fn accepted(view: &View) -> Told {
    if let Some(problem) = &view.refused {
        return Told::refused(problem.clone());
    }
    let own = || view.listeners.iter().filter(|l| l.set.is_none());
    let invalid = own().filter(|l| !l.valid()).count();
    if invalid == 0 || view.class == Class::Waypoint {
        Told::accepted()
    } else if invalid == own().count() {
        let message = "None of the Gateway's listeners are valid";
        Told::refused(Problem::new("ListenersNotValid", message))
    } else {
        Told {
            fine: "ListenersNotValid",
            message: "One or more of the Gateway's listeners are invalid".to_owned(),
            ..Told::accepted()
        }
    }
}

/// A ListenerSet that may attach is accepted as long as one of its listeners is valid.
fn set_accepted(view: &View, set: &Named, problem: Option<&Problem>) -> Told {
    let own = || {
        view.listeners
            .iter()
            .filter(|l| l.set.as_ref() == Some(set))
    };
    let invalid = own().filter(|l| !l.valid()).count();
    match problem {
        Some(problem) => Told::refused(problem.clone()),
        None if invalid == 0 => Told::accepted(),
        None if invalid == own().count() => Told::refused(Problem::new(
            "ListenersNotValid",
            "None of the ListenerSet's listeners are valid",
        )),
        None => Told {
            fine: "ListenersNotValid",
            message: "One or more of the ListenerSet's listeners are invalid".to_owned(),
            ..Told::accepted()
        },
    }
}

fn listener_statuses(
    view: &View,
    set: Option<&Named>,
    attached: &BTreeMap<std::sync::Arc<str>, u32>,
    generation: Option<i64>,
) -> Vec<ListenerStatus> {
    let own = view.listeners.iter().filter(|l| l.set.as_ref() == set);
    own.map(|listening| ListenerStatus {
        name: listening.section.clone(),
        supported_kinds: listening
            .kinds
            .iter()
            .map(|kind| (GROUP, kind.as_str()))
            .collect(),
        attached_routes: attached.get(&listening.wire).copied().unwrap_or_default(),
        conditions: listener_conditions(listening, generation),
    })
    .collect()
}

fn listener_conditions(listening: &Listening, generation: Option<i64>) -> Vec<Condition> {
    const FINE: &str = "No errors found";
    let conflict = listening.conflict.as_ref();
    let told = |kind, problem: Option<&Problem>, reason| {
        condition(kind, problem, (reason, FINE), generation)
    };
    let unaccepted = listening.unaccepted.as_ref().or(conflict);
    let unprogrammed = listening.unprogrammed.as_ref().or(conflict);
    vec![
        told("Accepted", unaccepted, "Accepted"),
        told("Programmed", unprogrammed, "Programmed"),
        told(
            "ResolvedRefs",
            listening.unresolved.as_ref(),
            "ResolvedRefs",
        ),
        Condition {
            kind: "Conflicted",
            status: conflict.is_some(),
            reason: conflict.map_or("NoConflicts", |problem| problem.reason),
            message: conflict.map_or_else(|| FINE.to_owned(), |problem| problem.message.clone()),
            observed_generation: generation,
        },
    ]
}

/// The Gateway of a ListenerSet.
pub(super) fn set_gateway(
    named: &Named,
    spec: &tulle_api::gateway::ListenerSetSpec,
) -> Option<Named> {
    let parent = &spec.parent_ref;
    let group = parent.group.as_deref().unwrap_or(GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    if group != GROUP || kind != "Gateway" {
        return None;
    }
    let namespace = parent.namespace.as_deref().unwrap_or(&named.0);
    Some((namespace.into(), parent.name.as_str().into()))
}

pub(super) fn object(kind: ObjectKind, (namespace, name): &Named) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: namespace.clone(),
        name: name.clone(),
    }
}
