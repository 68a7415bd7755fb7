//! What a route is attached to, and why not.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::contract::CONTROLLER_GATEWAY;
use tulle_api::gateway::{self as api, GROUP};
use tulle_model::ServiceKey;
use tulle_route::resource::{HostPattern, Parent};

use super::listeners::{Listening, View};
use super::output::key;
use super::state::{Named, ParentKey, RouteFacts};
use super::{Problem, RouteId, hostname};
use crate::cluster::Cluster;
use crate::service::{ServiceId, ServiceSource};

/// Whose status routes get.
pub(super) const CONTROLLER: &str = CONTROLLER_GATEWAY;

/// A listener that a route is attached to.
pub(super) struct Attached {
    pub(super) wire: Arc<str>,
    pub(super) hostnames: Vec<HostPattern>,
}

/// What became of one `parentRef`.
pub(super) struct Outcome {
    /// Where it counts.
    pub(super) parents: Vec<Parent>,
    /// Who must know.
    pub(super) audience: BTreeSet<Arc<str>>,
    /// Why it does not count.
    pub(super) refused: Option<Problem>,
    /// For services: no waypoint, so it has no effect yet.
    pub(super) waypoint: Option<Result<(), Problem>>,
    /// It is about a service of another namespace: it counts for clients of the route's own namespace only.
    pub(super) consumer: bool,
}

impl Outcome {
    fn refused(problem: Problem) -> Self {
        Self {
            parents: Vec::new(),
            audience: BTreeSet::new(),
            refused: Some(problem),
            waypoint: None,
            consumer: false,
        }
    }
}

/// What a reference names; `None` for kinds that take no routes.
pub(super) fn parent_key(parent: &api::ParentReference, own: &Arc<str>) -> Option<ParentKey> {
    let namespace = parent
        .namespace
        .as_deref()
        .map_or_else(|| own.clone(), Arc::from);
    let named = (namespace, parent.name.as_str().into());
    let group = parent.group.as_deref().unwrap_or(GROUP);
    match (group, parent.kind.as_deref().unwrap_or("Gateway")) {
        (GROUP, "Gateway") => Some(ParentKey::Gateway(named)),
        (GROUP, "ListenerSet") => Some(ParentKey::ListenerSet(named)),
        ("", "Service") => Some(ParentKey::Service(named)),
        ("networking.istio.io", "ServiceEntry") => Some(ParentKey::ServiceEntry(named)),
        _ => None,
    }
}

impl Cluster {
    /// What becomes of a `parentRef`; `None` when it is not ours to say.
    pub(super) fn outcome(
        &self,
        id: &RouteId,
        facts: &RouteFacts,
        parent: &api::ParentReference,
    ) -> Option<Outcome> {
        match parent_key(parent, &id.namespace)? {
            ParentKey::Gateway(gateway) => {
                let view = self.gateway.views.get(&gateway)?;
                Some(self.at_gateway(id, facts, parent, &gateway, view))
            }
            ParentKey::ListenerSet(set) => {
                let spec = &self.gateway.sets.get(&set)?.spec;
                let gateway = super::told::set_gateway(&set, spec)?;
                let view = self.gateway.views.get(&gateway)?;
                if let Some(problem) = view.sets.get(&set)? {
                    let message = format!("the ListenerSet is not accepted: {}", problem.message);
                    return Some(Outcome::refused(Problem::new("NoMatchingParent", message)));
                }
                Some(self.at_gateway(id, facts, parent, &gateway, view))
            }
            ParentKey::Service(named) => {
                self.at_service(id, parent, &named, ServiceSource::Kubernetes)
            }
            ParentKey::ServiceEntry(named) => {
                self.at_service(id, parent, &named, ServiceSource::Entry)
            }
        }
    }

    /// Gateways and waypoints that must know a route.
    pub(super) fn route_audience(&self, id: &RouteId, facts: &RouteFacts) -> BTreeSet<Arc<str>> {
        let outcomes = facts
            .parents
            .iter()
            .filter_map(|parent| self.outcome(id, facts, parent));
        outcomes.flat_map(|outcome| outcome.audience).collect()
    }

    fn at_gateway(
        &self,
        id: &RouteId,
        facts: &RouteFacts,
        parent: &api::ParentReference,
        gateway: &Named,
        view: &View,
    ) -> Outcome {
        let attached = match self.attach_to_listeners(id, facts, parent, gateway, view) {
            Ok(attached) => attached,
            Err(problem) => return Outcome::refused(problem),
        };
        let gateway = key(gateway);
        let parents = attached.into_iter().map(|attached| Parent::Listener {
            gateway: gateway.clone(),
            listener: attached.wire,
            hostnames: attached.hostnames,
        });
        Outcome {
            parents: parents.collect(),
            audience: BTreeSet::from([gateway]),
            refused: None,
            waypoint: None,
            consumer: false,
        }
    }

    /// Listeners of a Gateway, or of a ListenerSet of it, that take a route.
    pub(super) fn attach_to_listeners(
        &self,
        id: &RouteId,
        facts: &RouteFacts,
        parent: &api::ParentReference,
        gateway: &Named,
        view: &View,
    ) -> Result<Vec<Attached>, Problem> {
        let set = match parent_key(parent, &id.namespace) {
            Some(ParentKey::ListenerSet(set)) => Some(set),
            _ => None,
        };
        let section = parent.section_name.as_deref();
        let named: Vec<&Listening> = view
            .listeners
            .iter()
            .filter(|l| l.set == set && section.is_none_or(|section| *l.section == *section))
            .filter(|l| parent.port.is_none_or(|port| i64::from(l.port) == port))
            .collect();
        if named.is_empty() {
            return Err(Problem::new("NoMatchingParent", no_listener(parent)));
        }
        let usable = named.iter().filter(|l| l.takes_routes());
        let allowed: Vec<&&Listening> = usable
            .filter(|l| l.kinds.contains(&id.kind) && self.namespace_allowed(l, gateway, id))
            .collect();
        if allowed.is_empty() {
            return Err(self.not_allowed(&named, gateway, id));
        }
        let attached: Vec<Attached> = allowed
            .iter()
            .filter_map(|listening| {
                Some(Attached {
                    wire: listening.wire.clone(),
                    hostnames: hostname::common(listening.hostname.as_ref(), &facts.hostnames)?,
                })
            })
            .collect();
        if attached.is_empty() {
            let hosts = allowed.iter().filter_map(|l| l.hostname.as_ref());
            let hosts: Vec<&str> = hosts.map(|host| &*host.0).collect();
            let message = format!(
                "no hostnames matched parent hostname {:?}",
                hosts.join(", ")
            );
            return Err(Problem::new("NoMatchingListenerHostname", message));
        }
        Ok(attached)
    }

    fn namespace_allowed(&self, listening: &Listening, gateway: &Named, id: &RouteId) -> bool {
        let own = listening.set.as_ref().unwrap_or(gateway);
        let labels = match listening.namespaces.looks_at_labels() {
            true => self.namespace_labels(&id.namespace),
            false => Default::default(),
        };
        listening.namespaces.allows(&own.0, &id.namespace, &labels)
    }

    fn not_allowed(&self, named: &[&Listening], gateway: &Named, id: &RouteId) -> Problem {
        let usable = || named.iter().filter(|l| l.takes_routes());
        if usable().next().is_none() {
            let message = "the listener is not accepted; see the status of the Gateway";
            return Problem::new("NoMatchingParent", message);
        }
        let kind = id.kind.as_str();
        let message = if usable().any(|l| l.kinds.contains(&id.kind)) {
            format!(
                "namespace {:?} is not allowed by the parent {}/{} (allowedRoutes)",
                id.namespace, gateway.0, gateway.1
            )
        } else {
            format!(
                "kind {kind} is not allowed by the parent {}/{}",
                gateway.0, gateway.1
            )
        };
        Problem::new("NotAllowedByListeners", message)
    }

    /// A service that a route is for (GAMMA).
    fn at_service(
        &self,
        id: &RouteId,
        parent: &api::ParentReference,
        named: &Named,
        source: ServiceSource,
    ) -> Option<Outcome> {
        let (namespace, name) = named;
        let services = match self.namespace(namespace) {
            Some(_) => self.services_named(namespace, source, name),
            None => Vec::new(),
        };
        let services: Vec<&ServiceId> = services
            .iter()
            .filter(|id| self.wins(namespace, id))
            .collect();
        if services.is_empty() {
            let what = match source {
                ServiceSource::Kubernetes => "service",
                ServiceSource::Entry => "service entry",
            };
            let message = format!("parent {what}: {name:?} not found");
            let not_found = Problem::new("NoMatchingParent", "parent not found");
            return Some(Outcome {
                waypoint: Some(Err(not_found)),
                ..Outcome::refused(Problem::new("NoMatchingParent", message))
            });
        }
        let facts = || {
            services
                .iter()
                .filter_map(|id| self.namespaces.get(namespace)?.services.get(id))
        };
        let wished = facts().find_map(|facts| self.wished_waypoint(namespace, facts));
        if wished
            .as_ref()
            .is_some_and(|waypoint| self.gateway.foreign.contains(waypoint))
        {
            return None;
        }
        let port = match parent.port {
            None => None,
            Some(port) => {
                let number = u16::try_from(port).ok();
                let exposed = facts().any(|f| f.ports.iter().any(|p| Some(p.number) == number));
                if !exposed {
                    let message = format!("port {port} not found on {namespace}/{name}");
                    return Some(Outcome::refused(Problem::new("NoMatchingParent", message)));
                }
                number
            }
        };
        let keys = services
            .iter()
            .map(|id| ServiceKey::new(namespace, &id.hostname));
        let keys: Vec<ServiceKey> = keys.collect();
        let audience: BTreeSet<Arc<str>> =
            keys.iter().flat_map(|key| self.waypoints_of(key)).collect();
        let of_waypoint =
            |waypoint: &Arc<str>| waypoint.split_once('/').map(|(ns, _)| ns.to_owned());
        let operator = audience
            .iter()
            .filter_map(of_waypoint)
            .any(|ns| *ns == *id.namespace);
        let waypoint = match wished {
            Some(_) => Ok(()),
            None => Err(Problem::new(
                "MissingUseWaypointLabel",
                "istio.io/use-waypoint label missing from parent and parent namespace; in ambient mode, route will \
                 not be respected",
            )),
        };
        Some(Outcome {
            parents: keys
                .into_iter()
                .map(|service| Parent::Service { service, port })
                .collect(),
            audience,
            refused: None,
            waypoint: Some(waypoint),
            // A route beside the waypoint is its operator's, and for all.
            consumer: id.namespace != *namespace && !operator,
        })
    }
}

fn no_listener(parent: &api::ParentReference) -> String {
    match (&parent.section_name, parent.port) {
        (Some(section), Some(port)) => format!("no listener {section:?} on port {port}"),
        (Some(section), None) => format!("sectionName {section:?} not found"),
        (None, Some(port)) => format!("port {port} not found"),
        (None, None) => "the parent has no listeners".to_owned(),
    }
}
