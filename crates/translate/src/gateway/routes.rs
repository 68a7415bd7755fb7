//! Routes: what proxies are told, and what users are.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::gateway as api;
use tulle_model::ServiceKey;
use tulle_route::resource::{
    Backend, HostPattern, HttpRoute, Match, ObjectKey, Parent, Precedence, Rule, StreamMatch,
    StreamRoute, StreamRule,
};

use super::parents::{CONTROLLER, Outcome};
use super::state::{BackendKey, RouteFacts, RouteRules};
use super::status::{ParentStatus, RouteStatus, Status};
use super::{Problem, RouteId, RouteKind, condition};
use crate::cluster::{Cluster, Key, Outputs, Value};
use crate::condition::Condition;
use crate::resource::{Audience, Resource};

/// Problems found while a route was translated.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// A reference that leads nowhere.
    pub(super) unresolved: Option<Problem>,
    /// Rules that cannot be used at all, by what is wrong with them.
    pub(super) dropped: Vec<String>,
    /// What has no effect.
    pub(super) ignored: Vec<&'static str>,
}

enum Rules {
    Http(Vec<Rule>),
    Stream(Vec<StreamRule>),
}

impl Rules {
    fn is_empty(&self) -> bool {
        match self {
            Self::Http(rules) => rules.is_empty(),
            Self::Stream(rules) => rules.is_empty(),
        }
    }
}

impl Cluster {
    /// The resource and the status of a route.
    pub(super) fn route(&self, id: &RouteId) -> Option<Outputs> {
        let discovered = self.is_discovered(&id.namespace);
        let facts = self.gateway.routes.get(id).filter(|_| discovered)?;
        let outcomes: Vec<(&api::ParentReference, Outcome)> = facts
            .parents
            .iter()
            .filter_map(|parent| Some((parent, self.outcome(id, facts, parent)?)))
            .collect();
        if outcomes.is_empty() {
            return None;
        }
        let (mut rules, found) = self.rules(id, facts);
        let unusable = (rules.is_empty() && !found.dropped.is_empty())
            .then(|| Problem::new("UnsupportedValue", found.dropped.join("; ")));
        let mut effective = effective(&outcomes);
        if effective.consumer {
            for_clients_of(&mut rules, &id.namespace);
        }
        let mut outputs = vec![status(
            id,
            facts,
            &outcomes,
            &found,
            unusable.as_ref(),
            effective.mixed,
        )];
        effective.audience.retain(|_| unusable.is_none());
        if !effective.audience.is_empty() && !effective.parents.is_empty() {
            let resource = resource(id, facts, effective.parents, rules);
            let audience = Audience::Gateways(effective.audience);
            outputs.push(Value::resource(audience, resource));
        }
        Some(outputs)
    }

    fn rules(&self, id: &RouteId, facts: &RouteFacts) -> (Rules, Found) {
        let mut found = Found::default();
        let rules = match &facts.rules {
            RouteRules::Http(rules) => {
                let rules = rules
                    .iter()
                    .filter_map(|rule| self.http_rule(id, rule, &mut found));
                Rules::Http(rules.collect())
            }
            RouteRules::Grpc(rules) => {
                let rules = rules
                    .iter()
                    .filter_map(|rule| self.grpc_rule(id, rule, &mut found));
                Rules::Http(rules.collect())
            }
            RouteRules::Stream(rules) => {
                let rule = |rule| self.stream_rule(id, facts, rule, &mut found);
                Rules::Stream(rules.iter().map(rule).collect())
            }
        };
        (rules, found)
    }

    fn stream_rule(
        &self,
        id: &RouteId,
        facts: &RouteFacts,
        rule: &api::StreamRouteRule,
        found: &mut Found,
    ) -> StreamRule {
        let backends = rule.backend_refs.iter().map(|backend| Backend {
            weight: weight(backend.weight),
            target: self.backend(id, &backend.to, &mut found.unresolved),
            filters: Vec::new(),
        });
        let matches = match id.kind {
            RouteKind::Tls if !facts.hostnames.is_empty() => vec![StreamMatch {
                sni: facts.hostnames.iter().cloned().map(HostPattern).collect(),
                ..StreamMatch::default()
            }],
            _ => Vec::new(),
        };
        StreamRule {
            name: rule.name.as_deref().map(Arc::from),
            matches,
            backends: backends.collect(),
        }
    }

    /// Waypoints of a service, and Gateways with routes to it (`namespace/name`).
    pub(crate) fn route_users(&self, service: &ServiceKey) -> BTreeSet<Arc<str>> {
        let mut users: BTreeSet<Arc<str>> = self.waypoints_of(service).into_iter().collect();
        let hostname: Arc<str> = service.hostname().into();
        let mut keys = vec![BackendKey::Hostname(hostname.clone())];
        if let Some((namespace, facts)) = self.winner(service) {
            keys.push(BackendKey::ServiceEntry((
                namespace.clone(),
                facts.id.name.clone(),
            )));
        }
        let mut seen = BTreeSet::new();
        for id in keys
            .iter()
            .filter_map(|key| self.gateway.routes_by_backend.get(key))
            .flatten()
        {
            let discovered = self.is_discovered(&id.namespace);
            if let Some(facts) = self
                .gateway
                .routes
                .get(id)
                .filter(|_| discovered && seen.insert(id))
            {
                users.extend(self.route_audience(id, facts));
            }
        }
        users
    }
}

/// A missing weight is 1.
pub(super) fn weight(weight: Option<i64>) -> u32 {
    weight.map_or(1, |weight| u32::try_from(weight).unwrap_or_default())
}

/// What the proxies are told of all parents together.
struct Effective {
    parents: Vec<Parent>,
    audience: BTreeSet<Arc<str>>,
    /// The rules count for clients of the route's own namespace only.
    consumer: bool,
    /// Services of other namespaces stand beside other parents: one set of rules cannot be for both.
    mixed: bool,
}

fn effective(outcomes: &[(&api::ParentReference, Outcome)]) -> Effective {
    let accepted = || {
        outcomes
            .iter()
            .map(|(_, o)| o)
            .filter(|o| o.refused.is_none())
    };
    let consumer = accepted().any(|o| o.consumer);
    let mixed = consumer && accepted().any(|o| !o.consumer);
    let mut effective = Effective {
        parents: Vec::new(),
        audience: BTreeSet::new(),
        consumer: consumer && !mixed,
        mixed,
    };
    for outcome in accepted().filter(|o| !(mixed && o.consumer)) {
        for parent in &outcome.parents {
            if !effective.parents.contains(parent) {
                effective.parents.push(parent.clone());
            }
        }
        effective.audience.extend(outcome.audience.iter().cloned());
    }
    effective
}

/// A route about somebody else's service counts for the clients of its own namespace (GAMMA, "consumer").
fn for_clients_of(rules: &mut Rules, namespace: &Arc<str>) {
    match rules {
        Rules::Http(rules) => {
            for rule in rules {
                if rule.matches.is_empty() {
                    rule.matches.push(Match::default());
                }
                for of_rule in &mut rule.matches {
                    of_rule.source_namespace = Some(namespace.clone());
                }
            }
        }
        Rules::Stream(rules) => {
            for rule in rules {
                if rule.matches.is_empty() {
                    rule.matches.push(StreamMatch::default());
                }
                for of_rule in &mut rule.matches {
                    of_rule.source_namespace = Some(namespace.clone());
                }
            }
        }
    }
}

fn resource(id: &RouteId, facts: &RouteFacts, parents: Vec<Parent>, rules: Rules) -> Resource {
    let object = ObjectKey::new(id.kind.as_str(), &id.namespace, &id.name);
    let created = facts.meta.created;
    let precedence = Precedence::Specific;
    match rules {
        Rules::Http(rules) => Resource::HttpRoute(Box::new(HttpRoute {
            object,
            parents,
            created,
            precedence,
            rules,
        })),
        Rules::Stream(rules) => Resource::StreamRoute(Box::new(StreamRoute {
            object,
            parents,
            created,
            precedence,
            rules,
        })),
    }
}

fn status(
    id: &RouteId,
    facts: &RouteFacts,
    outcomes: &[(&api::ParentReference, Outcome)],
    found: &Found,
    unusable: Option<&Problem>,
    mixed: bool,
) -> (Key, Value) {
    let mut parents: Vec<ParentStatus> = Vec::new();
    for (parent, outcome) in outcomes {
        if parents.iter().any(|told| told.parent == **parent) {
            continue;
        }
        parents.push(ParentStatus {
            parent: (*parent).clone(),
            controller: CONTROLLER,
            conditions: conditions(outcome, found, unusable, mixed, facts.meta.generation),
        });
    }
    let status = Status::Route(RouteStatus { parents });
    (Key::Status(id.object()), Value::Status(status))
}

fn conditions(
    outcome: &Outcome,
    found: &Found,
    unusable: Option<&Problem>,
    mixed: bool,
    generation: Option<i64>,
) -> Vec<Condition> {
    let message = match (outcome.parents.len(), found.ignored.as_slice()) {
        (_, [first, ..]) => format!("Route was valid; without effect: {first}"),
        (0 | 1, _) => "Route was valid".to_owned(),
        (count, _) => format!("Route was valid, bound to {count} parents"),
    };
    let beside = (mixed && outcome.consumer).then(|| {
        Problem::new(
            "UnsupportedValue",
            "a Service of another namespace cannot stand beside other parents; use a route of its own",
        )
    });
    let refused = outcome.refused.as_ref().or(beside.as_ref()).or(unusable);
    let fine = ("ResolvedRefs", "All references resolved");
    let mut conditions = vec![
        condition("Accepted", refused, ("Accepted", &message), generation),
        condition("ResolvedRefs", found.unresolved.as_ref(), fine, generation),
    ];
    if unusable.is_none() && !found.dropped.is_empty() {
        conditions.push(Condition {
            kind: "PartiallyInvalid",
            status: true,
            reason: "UnsupportedValue",
            message: format!("Dropped Rule: {}", found.dropped.join("; ")),
            observed_generation: generation,
        });
    }
    if let Some(waypoint) = &outcome.waypoint {
        let fine = ("ResolvedWaypoints", "All waypoints resolved");
        conditions.push(condition(
            "ResolvedWaypoints",
            waypoint.as_ref().err(),
            fine,
            generation,
        ));
    }
    conditions
}
