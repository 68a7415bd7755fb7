//! Where routes lead.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::gateway as api;
use tulle_model::ServiceKey;
use tulle_route::resource::{BackendTarget, Unroutable};

use super::grants::{Referent, Referrer};
use super::state::{BackendKey, RouteFacts, RouteRules};
use super::{Problem, RouteId};
use crate::cluster::Cluster;
use crate::service::ServiceSource;

/// Istio's group of ServiceEntry and Hostname.
const ISTIO: &str = "networking.istio.io";
/// What a request gets whose backend cannot be used (Gateway API).
const STATUS_UNROUTABLE: u16 = 500;

/// Everything that the rules of a route name as a destination, mirrors included.
fn references(facts: &RouteFacts) -> Vec<&api::ObjectRefTo> {
    fn http_mirror(filter: &api::HttpFilter) -> Option<&api::ObjectRefTo> {
        filter
            .request_mirror
            .as_ref()
            .map(|mirror| &mirror.backend_ref)
    }
    fn grpc_mirror(filter: &api::GrpcFilter) -> Option<&api::ObjectRefTo> {
        filter
            .request_mirror
            .as_ref()
            .map(|mirror| &mirror.backend_ref)
    }
    match &facts.rules {
        RouteRules::Http(rules) => {
            let backends = || rules.iter().flat_map(|rule| &rule.backend_refs);
            let filters = rules.iter().flat_map(|rule| &rule.filters);
            let filters = filters.chain(backends().flat_map(|backend| &backend.filters));
            let targets = backends().map(|backend| &backend.to);
            targets.chain(filters.filter_map(http_mirror)).collect()
        }
        RouteRules::Grpc(rules) => {
            let backends = || rules.iter().flat_map(|rule| &rule.backend_refs);
            let filters = rules.iter().flat_map(|rule| &rule.filters);
            let filters = filters.chain(backends().flat_map(|backend| &backend.filters));
            let targets = backends().map(|backend| &backend.to);
            targets.chain(filters.filter_map(grpc_mirror)).collect()
        }
        RouteRules::Stream(rules) => {
            let backends = rules.iter().flat_map(|rule| &rule.backend_refs);
            backends.map(|backend| &backend.to).collect()
        }
    }
}

/// Namespaces that a route refers to explicitly.
pub(super) fn backend_namespaces(facts: &RouteFacts) -> impl Iterator<Item = &str> {
    references(facts)
        .into_iter()
        .filter_map(|to| to.namespace.as_deref())
}

/// What a route depends on.
pub(super) fn backend_keys(facts: &RouteFacts, own: &str, domain: &str) -> BTreeSet<BackendKey> {
    let key = |to: &api::ObjectRefTo| {
        let namespace = to.namespace.as_deref().unwrap_or(own);
        match kind(to) {
            ("", "Service") => {
                let hostname = format!("{}.{namespace}.svc.{domain}", to.name);
                Some(BackendKey::Hostname(hostname.into()))
            }
            (ISTIO, "Hostname") => Some(BackendKey::Hostname(to.name.as_str().into())),
            (ISTIO, "ServiceEntry") => Some(BackendKey::ServiceEntry((
                namespace.into(),
                to.name.as_str().into(),
            ))),
            _ => None,
        }
    };
    references(facts).into_iter().filter_map(key).collect()
}

fn kind(to: &api::ObjectRefTo) -> (&str, &str) {
    let kind = to.kind.as_deref().unwrap_or("Service");
    (to.group.as_deref().unwrap_or_default(), kind)
}

impl Cluster {
    /// Services that a reference may mean.
    pub(super) fn services_behind(&self, key: &BackendKey) -> Vec<ServiceKey> {
        match key {
            BackendKey::Hostname(hostname) => {
                let claims = self.hostnames.get(hostname).into_iter().flatten();
                claims
                    .map(|(namespace, _)| ServiceKey::new(namespace, hostname))
                    .collect()
            }
            BackendKey::ServiceEntry((namespace, name)) => {
                let services = self.services_named(namespace, ServiceSource::Entry, name);
                services
                    .iter()
                    .map(|id| ServiceKey::new(namespace, &id.hostname))
                    .collect()
            }
        }
    }

    /// The destination, or one that answers with an error and why.
    pub(super) fn backend(
        &self,
        route: &RouteId,
        to: &api::ObjectRefTo,
        problem: &mut Option<Problem>,
    ) -> BackendTarget {
        match self.resolve(route, to) {
            Ok((service, port)) => BackendTarget::Service {
                service,
                port: Some(port),
                subset: None,
            },
            Err(found) => {
                let why = found.message.as_str().into();
                problem.get_or_insert(found);
                BackendTarget::Unroutable(Unroutable {
                    status: STATUS_UNROUTABLE,
                    why,
                })
            }
        }
    }

    fn resolve(
        &self,
        route: &RouteId,
        to: &api::ObjectRefTo,
    ) -> Result<(ServiceKey, u16), Problem> {
        let (group, kind) = kind(to);
        let namespace = to.namespace.as_deref().unwrap_or(&route.namespace);
        let name = to.name.as_str();
        if !matches!(
            (group, kind),
            ("", "Service") | (ISTIO, "ServiceEntry" | "Hostname")
        ) {
            return Err(Problem::new(
                "InvalidKind",
                format!("referencing unsupported backendRef: group {group:?} kind {kind:?}"),
            ));
        }
        let referrer = Referrer {
            kind: route.kind.as_str(),
            namespace: &route.namespace,
        };
        let permitted = || {
            self.may_refer(
                referrer,
                Referent {
                    group,
                    kind,
                    namespace,
                    name,
                },
            )
        };
        if !self.is_about(route, (group, kind, namespace, name)) && !permitted() {
            return Err(Problem::new(
                "RefNotPermitted",
                format!(
                    "backendRef {name}/{namespace} not accessible to a {} in namespace {:?} (missing a \
                     ReferenceGrant?)",
                    route.kind.as_str(),
                    route.namespace
                ),
            ));
        }
        let service = match kind {
            "Service" => self.kubernetes_backend(namespace, name),
            "ServiceEntry" => self.entry_backend(&namespace.into(), &name.into()),
            _ if to.namespace.is_some() => {
                let message = "namespace may not be set with Hostname type";
                return Err(Problem::new("UnsupportedValue", message));
            }
            _ => self.hostname_backend(&route.namespace, name),
        };
        let Some(service) = service else {
            let message =
                format!("backend({name}) of kind {kind} not found in namespace {namespace}");
            return Err(Problem::new("BackendNotFound", message));
        };
        let Some(port) = to.port.and_then(|port| u16::try_from(port).ok()) else {
            return Err(Problem::new(
                "UnsupportedValue",
                "port is required in backendRef",
            ));
        };
        let exposed = self.winner(&service).is_some_and(|(_, facts)| {
            facts.ports.is_empty() || facts.ports.iter().any(|exposed| exposed.number == port)
        });
        if !exposed {
            let message = format!("backend({name}) does not expose TCP port {port}");
            return Err(Problem::new("BackendNotFound", message));
        }
        Ok((service, port))
    }

    /// A route about one service alone, which its clients have addressed already: it needs no grant to send them there. To any
    /// other service it does, as the waypoint would speak in its own name.
    fn is_about(&self, route: &RouteId, service: (&str, &str, &str, &str)) -> bool {
        let Some(facts) = self.gateway.routes.get(route) else {
            return false;
        };
        let is = |parent: &api::ParentReference| {
            let group = parent.group.as_deref().unwrap_or(api::GROUP);
            let kind = parent.kind.as_deref().unwrap_or("Gateway");
            let namespace = parent.namespace.as_deref().unwrap_or(&route.namespace);
            (group, kind, namespace, parent.name.as_str()) == service
        };
        matches!(service.1, "Service" | "ServiceEntry")
            && !facts.parents.is_empty()
            && facts.parents.iter().all(is)
    }

    fn kubernetes_backend(&self, namespace: &str, name: &str) -> Option<ServiceKey> {
        let state = self.namespace(namespace)?;
        let hostname = self.hostname(name, namespace);
        let service = state.service(name, &hostname)?;
        Some(service.key.clone())
    }

    /// The first host of the entry that is the one of its name.
    fn entry_backend(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<ServiceKey> {
        self.namespace(namespace)?;
        let services = self.services_named(namespace, ServiceSource::Entry, name);
        let mut winning = services.iter().filter(|id| self.wins(namespace, id));
        winning
            .next()
            .map(|id| ServiceKey::new(namespace, &id.hostname))
    }

    /// A host name that somebody has a service for: of the route's own namespace before all others.
    fn hostname_backend(&self, own: &Arc<str>, hostname: &str) -> Option<ServiceKey> {
        let claims = self.hostnames.get(hostname)?.iter();
        let winning = claims.filter(|(namespace, id)| self.wins(namespace, id));
        let best = winning.min_by_key(|(namespace, id)| {
            let state = self.namespaces.get(namespace);
            let created = state
                .and_then(|state| state.services.get(id))
                .map(|facts| facts.created);
            (namespace != own, id.source, created, namespace.clone())
        });
        best.map(|(namespace, _)| ServiceKey::new(namespace, hostname))
    }
}
