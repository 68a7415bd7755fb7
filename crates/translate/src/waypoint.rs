//! Which waypoint an object asks for, and which one it gets.

mod wish;

use std::sync::Arc;

use tulle_api::contract::{
    CONDITION_WAYPOINT_BOUND, CONDITION_WAYPOINT_MISSING, LABEL_GATEWAY_MANAGED,
    LABEL_GATEWAY_NAME, MANAGED_EAST_WEST, MANAGED_MESH_CONTROLLER,
};
use tulle_model::{
    GatewayAddress, Service, ServiceKey, Visibility, WaypointUse, WeightedWaypoint, Workload,
};

use crate::cluster::Cluster;
use crate::condition::{Condition, ObjectKind, reason};
use crate::gateway::{Allowed, Named};
use crate::labels::Labels;
use crate::service::{ServiceFacts, ServiceSource};
pub(crate) use wish::UseWaypoint;
use wish::Wish;

/// Whether the labels are those of a waypoint, or of a gateway between networks: such have no waypoint themselves.
pub(crate) fn is_part_of_mesh(labels: &Labels) -> bool {
    let managed = labels.get(LABEL_GATEWAY_MANAGED);
    managed.is_some_and(|by| **by == *MANAGED_MESH_CONTROLLER || **by == *MANAGED_EAST_WEST)
}

/// A Gateway that objects may be attached to: it has an address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WaypointFacts {
    pub(crate) address: GatewayAddress,
    pub(crate) services: bool,
    pub(crate) workloads: bool,
    /// As the label says, for messages.
    pub(crate) allowed: Allowed,
    pub(crate) enforced: bool,
    /// Its proxies are ours, so they may be told things.
    pub(crate) ours: bool,
}

/// What is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    Service,
    Workload,
}

/// Why an object does not get the waypoint that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    reason: &'static str,
    message: String,
}

type Attached<'a> = (Named, &'a WaypointFacts);

/// The waypoints of a service.
#[derive(Default)]
pub(crate) struct Binding<'a> {
    primary: Option<Attached<'a>>,
    /// With its share.
    canary: Option<(Attached<'a>, u32)>,
    refusal: Option<Refusal>,
    ingress: Option<bool>,
}

impl Binding<'_> {
    /// `namespace/name` of waypoints that are ours.
    fn ours(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        let canary = self.canary.as_ref().map(|(attached, _)| attached);
        let all = self.primary.iter().chain(canary);
        all.filter(|(_, facts)| facts.ours)
            .map(|((namespace, name), _)| format!("{namespace}/{name}").into())
    }
}

impl Cluster {
    /// The waypoints of a service: its own label, or else its namespace's. What is `private` to its namespace must not be
    /// shown to another one's waypoint.
    fn binding(&self, own: &UseWaypoint, namespace: &Arc<str>, private: bool) -> Binding<'_> {
        let inherited = self.inherited(namespace);
        let mut binding = Binding {
            ingress: own.ingress.or(inherited.ingress),
            ..Binding::default()
        };
        let wish = if own.is_unset() { &inherited } else { own };
        let Wish::Named(reference) = &wish.wish else {
            return binding;
        };
        let named = reference.named(namespace);
        if private && named.0 != *namespace {
            binding.refusal = Some(forbidden(&named));
            return binding;
        }
        match self.attach(named, namespace, Traffic::Service) {
            Ok(attached) => binding.primary = Some(attached),
            Err(refusal) => {
                binding.refusal = Some(refusal);
                return binding;
            }
        }
        // Read from the level that declares the primary one; an object's own canary counts for an inherited one, too.
        let (canary, weight) = if own.is_unset() {
            (
                own.canary.as_ref().or(inherited.canary.as_ref()),
                own.weight.or(inherited.weight),
            )
        } else {
            (own.canary.as_ref(), own.weight)
        };
        let primary = binding.primary.as_ref().map(|(named, _)| named.clone());
        if let Some(canary) = canary {
            match self.canary(canary.named(namespace), primary, weight, namespace) {
                Ok(canary) => binding.canary = Some(canary),
                Err(refusal) => binding.refusal = Some(refusal),
            }
        }
        binding
    }

    fn canary(
        &self,
        canary: Named,
        primary: Option<Named>,
        weight: Option<Option<u32>>,
        namespace: &Arc<str>,
    ) -> Result<(Attached<'_>, u32), Refusal> {
        let (of, name) = &canary;
        if primary.as_ref() == Some(&canary) {
            return Err(Refusal {
                reason: "CanarySameAsPrimary",
                message: format!(
                    "canary waypoint \"{of}/{name}\" must differ from the primary waypoint"
                ),
            });
        }
        let Some(weight) = weight.unwrap_or(Some(0)) else {
            return Err(Refusal {
                reason: "CanaryInvalidWeight",
                message: format!(
                    "canary waypoint \"{of}/{name}\" has an invalid weight; must be an integer in [0,100]"
                ),
            });
        };
        Ok((self.attach(canary, namespace, Traffic::Service)?, weight))
    }

    fn attach(
        &self,
        named: Named,
        from: &Arc<str>,
        traffic: Traffic,
    ) -> Result<Attached<'_>, Refusal> {
        let (namespace, name) = &named;
        let Some(facts) = self.gateway.waypoints.get(&named) else {
            return Err(Refusal {
                reason: reason::WAYPOINT_IS_NOT_READY,
                message: format!("waypoint \"{namespace}/{name}\" is not ready"),
            });
        };
        let labels = self.namespaces.get(from).map(|state| &state.facts.labels);
        if !facts
            .allowed
            .allows(namespace, from, labels.unwrap_or(&Labels::default()))
        {
            return Err(Refusal {
                reason: "AttachmentDenied",
                message: format!(
                    "we are not permitted to attach to waypoint \"{namespace}/{name}\" (missing allowedRoutes?)"
                ),
            });
        }
        let (served, word) = match traffic {
            Traffic::Service => (facts.services, "service"),
            Traffic::Workload => (facts.workloads, "workload"),
        };
        if !served {
            return Err(Refusal {
                reason: "UnsupportedTrafficType",
                message: format!(
                    "attempting to bind to traffic type {word:?} which the waypoint \"{namespace}/{name}\" \
                     does not support"
                ),
            });
        }
        Ok((named, facts))
    }

    fn inherited(&self, namespace: &str) -> UseWaypoint {
        let state = self.namespaces.get(namespace);
        state
            .map(|state| state.facts.waypoint.clone())
            .unwrap_or_default()
    }

    /// What the labels of the object behind a service say.
    fn own_waypoint(&self, namespace: &str, facts: &ServiceFacts) -> UseWaypoint {
        let kind = match facts.id.source {
            ServiceSource::Kubernetes => ObjectKind::Service,
            ServiceSource::Entry => ObjectKind::ServiceEntry,
        };
        let state = self.namespaces.get(namespace);
        let user = state.and_then(|state| state.waypoint_users.get(&(kind, facts.id.name.clone())));
        user.map(|(own, _)| own.clone()).unwrap_or_default()
    }

    /// A service with its waypoints.
    pub(crate) fn with_waypoint(
        &self,
        namespace: &Arc<str>,
        facts: &ServiceFacts,
        service: Service,
    ) -> Service {
        let own = self.own_waypoint(namespace, facts);
        let binding = self.binding(&own, namespace, is_private(facts));
        let Some((_, primary)) = &binding.primary else {
            // Nobody but a waypoint can find out where a wildcard leads: without one its names stay as they were.
            let addresses = match needs_waypoint(facts) {
                true => Vec::new(),
                false => service.addresses,
            };
            return Service {
                addresses,
                ..service
            };
        };
        let weighted = binding.canary.as_ref().map(|((_, canary), weight)| {
            let share = |waypoint: &WaypointFacts, weight| WeightedWaypoint {
                waypoint: waypoint.address.clone(),
                weight,
            };
            vec![share(primary, 100 - weight), share(canary, *weight)]
        });
        Service {
            waypoint: Some(Box::new(primary.address.clone())),
            waypoint_use: WaypointUse {
                weighted: weighted.unwrap_or_default(),
                ingress: binding.ingress == Some(true) && !service.addresses.is_empty(),
                enforced: primary.enforced,
            },
            ..service
        }
    }

    /// A workload with its waypoint. A waypoint's own pods have none.
    pub(crate) fn with_workload_waypoint(
        &self,
        namespace: &Arc<str>,
        labels: &Labels,
        workload: Option<Workload>,
    ) -> Option<Workload> {
        let workload = workload?;
        let waypoint = self.workload_waypoint(&UseWaypoint::of(labels), namespace);
        let Some((_, facts)) = waypoint.filter(|_| !self.is_waypoint(namespace, labels)) else {
            return Some(workload);
        };
        Some(Workload {
            waypoint: Some(Box::new(facts.address.clone())),
            waypoint_enforced: facts.enforced,
            ..workload
        })
    }

    fn workload_waypoint(&self, own: &UseWaypoint, namespace: &Arc<str>) -> Option<Attached<'_>> {
        let inherited = self.inherited(namespace);
        let wish = if own.is_unset() { &inherited } else { own };
        let Wish::Named(reference) = &wish.wish else {
            return None;
        };
        self.attach(reference.named(namespace), namespace, Traffic::Workload)
            .ok()
    }

    fn is_waypoint(&self, namespace: &Arc<str>, labels: &Labels) -> bool {
        let gateway = labels.get(LABEL_GATEWAY_NAME);
        let instance = gateway.is_some_and(|name| {
            self.gateway
                .waypoints
                .contains_key(&(namespace.clone(), name.clone()))
        });
        instance || is_part_of_mesh(labels)
    }

    /// `namespace/name` of the waypoints of a service whose proxies are ours.
    pub(crate) fn waypoints_of(&self, service: &ServiceKey) -> Vec<Arc<str>> {
        let Some((namespace, facts)) = self.winner(service) else {
            return Vec::new();
        };
        let own = self.own_waypoint(namespace, facts);
        self.binding(&own, namespace, is_private(facts))
            .ours()
            .collect()
    }

    /// The waypoint that an object's labels ask for, its own or its namespace's; none for `none`.
    pub(crate) fn wished_waypoint(
        &self,
        namespace: &Arc<str>,
        facts: &ServiceFacts,
    ) -> Option<Named> {
        let own = self.own_waypoint(namespace, facts);
        let inherited = self.inherited(namespace);
        let wish = if own.is_unset() { &inherited } else { &own };
        match &wish.wish {
            Wish::Named(reference) => Some(reference.named(namespace)),
            _ => None,
        }
    }

    /// The service of a key, if it is the one of its host name in its namespace.
    pub(crate) fn winner(&self, service: &ServiceKey) -> Option<(&Arc<str>, &ServiceFacts)> {
        let claims = self.hostnames.get(service.hostname())?.iter();
        let mut claims = claims.filter(|(namespace, _)| **namespace == *service.namespace());
        claims.find_map(|(namespace, id)| {
            let facts = self.namespace(namespace)?.services.get(id)?;
            self.wins(namespace, id).then_some((namespace, facts))
        })
    }

    /// Conditions of an object that may have a waypoint.
    pub(crate) fn waypoint_conditions(
        &self,
        kind: ObjectKind,
        namespace: &Arc<str>,
        name: &Arc<str>,
        own: &UseWaypoint,
        generation: Option<i64>,
    ) -> Vec<Condition> {
        if kind == ObjectKind::WorkloadEntry {
            return self.entry_conditions(own, namespace, generation);
        }
        let entry = match kind {
            ObjectKind::ServiceEntry => self.services_named(namespace, ServiceSource::Entry, name),
            _ => Vec::new(),
        };
        let facts = |id| self.namespaces.get(namespace)?.services.get(id);
        let private = entry.iter().filter_map(facts).any(is_private);
        let binding = self.binding(own, namespace, private);
        let mut conditions = Vec::new();
        if let Some(condition) = bound(&binding, generation) {
            conditions.push(condition);
        }
        let missing = missing(entry.iter().filter_map(facts));
        if let Some((reason, message)) = missing.filter(|_| binding.primary.is_none()) {
            conditions.push(Condition {
                kind: CONDITION_WAYPOINT_MISSING,
                status: true,
                reason,
                message: message.to_owned(),
                observed_generation: generation,
            });
        }
        conditions
    }

    fn entry_conditions(
        &self,
        own: &UseWaypoint,
        namespace: &Arc<str>,
        generation: Option<i64>,
    ) -> Vec<Condition> {
        let inherited = self.inherited(namespace);
        let wish = if own.is_unset() { &inherited } else { own };
        let Wish::Named(reference) = &wish.wish else {
            return Vec::new();
        };
        let mut binding = Binding::default();
        match self.attach(reference.named(namespace), namespace, Traffic::Workload) {
            Ok(attached) => binding.primary = Some(attached),
            // What a namespace says for its services is no wish of an entry.
            Err(refusal) if own.is_unset() && refusal.reason == "UnsupportedTrafficType" => {}
            Err(refusal) => binding.refusal = Some(refusal),
        }
        bound(&binding, generation).into_iter().collect()
    }
}

/// A wildcard whose names are to be resolved: its endpoint is whatever host a request names.
fn needs_waypoint(facts: &ServiceFacts) -> bool {
    facts.id.source == ServiceSource::Entry
        && facts.id.hostname.starts_with('*')
        && !facts.passthrough
}

/// Why services of an entry need a waypoint: reason and text, in Istio's words.
fn missing<'a>(
    services: impl Iterator<Item = &'a ServiceFacts>,
) -> Option<(&'static str, &'static str)> {
    let mut missing = None;
    for facts in services {
        if facts.races {
            return Some((
                "NoWaypointForRacingConnectStrategy",
                "ServiceEntry has a non-default connect strategy but no waypoint bound. A waypoint is required for \
                 connect strategies to take effect for ambient clients.",
            ));
        }
        if facts.id.hostname.starts_with('*') {
            missing = Some((
                "NoWaypointForWildcardService",
                "ServiceEntry will not apply until it is bound to a valid waypoint.",
            ));
        }
    }
    missing
}

fn is_private(facts: &ServiceFacts) -> bool {
    facts.id.source == ServiceSource::Entry && facts.visibility == Visibility::Namespace
}

fn forbidden((namespace, name): &Named) -> Refusal {
    Refusal {
        reason: "CrossNamespaceWaypointForbidden",
        message: format!(
            "cannot bind to waypoint \"{namespace}/{name}\" in another namespace: cross-namespace waypoint \
             binding is not permitted for a ServiceEntry with NAMESPACE visibility"
        ),
    }
}

fn bound(binding: &Binding<'_>, generation: Option<i64>) -> Option<Condition> {
    let (status, reason, message) = match (&binding.primary, &binding.refusal) {
        (Some(((namespace, name), _)), refusal) => {
            let mut message = format!("Successfully attached to waypoint {namespace}/{name}");
            match binding.ingress {
                Some(true) => message.push_str(". Ingress traffic will traverse the waypoint"),
                Some(false) => message.push_str(
                    ". Ingress traffic is not using the waypoint, set the istio.io/ingress-use-waypoint label to \
                     true if desired.",
                ),
                None => {}
            }
            if let Some(refusal) = refusal {
                message.push_str(". Canary waypoint not attached: ");
                message.push_str(&refusal.message);
            }
            (true, "WaypointAccepted", message)
        }
        (None, Some(refusal)) => (false, refusal.reason, refusal.message.clone()),
        (None, None) => return None,
    };
    Some(Condition {
        kind: CONDITION_WAYPOINT_BOUND,
        status,
        reason,
        message,
        observed_generation: generation,
    })
}
