//! All routes of a proxy and their look-up.

mod hosts;
mod index;
mod shared;
mod streams;

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tulle_model::ServiceKey;

pub use streams::{StreamFound, StreamLookup, StreamRequest};

use crate::compiled::{CompiledRule, MatchedPath, Route};
use crate::error::RouteError;
use crate::request::RequestHead;
use crate::resource::{HttpRoute, ObjectKey, Parent, Precedence, StreamRoute};
use crate::text::Patterns;
use hosts::Hosts;
use index::Found;
use shared::Shared;
use streams::Streams;

/// Routes by where they count. Cheap to clone: whoever updates changes a clone and publishes it whole. A clone's first change copies the
/// tables' pointers once; what is not touched is shared.
#[derive(Clone, Debug, Default)]
pub struct Table {
    tables: Arc<Tables>,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    http: HashSet<ByName>,
    streams: HashMap<ObjectKey, Arc<StreamRoute>>,
    http_scopes: Scopes<Hosts>,
    stream_scopes: Scopes<Streams>,
    patterns: Patterns,
    shared: Shared,
}

/// A route, found by the name of its object.
#[derive(Clone, Debug)]
struct ByName(Arc<Route>);

/// One `T` for each listener, and for each service and port of it.
#[derive(Clone, Debug)]
struct Scopes<T> {
    listeners: HashMap<Arc<str>, HashMap<Arc<str>, Arc<T>>>,
    services: HashMap<ServiceKey, Ports<T>>,
}

/// By port; `None` is every port.
type Ports<T> = Vec<(Option<u16>, Arc<T>)>;

/// Where a request was addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// A listener of a gateway ([`crate::resource::Gateway::listener_of_host`]).
    Listener {
        /// `namespace/name`.
        gateway: &'a str,
        /// Name of the section.
        listener: &'a str,
    },
    /// A port of a service behind a waypoint. The request's host does not matter.
    Service {
        /// Which.
        service: &'a ServiceKey,
        /// On the service.
        port: u16,
    },
}

/// What the table says about a request.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// This rule.
    Routed(Routed<'a>),
    /// There are routes, but none for this request: answer with 404.
    NoMatch,
    /// There are no routes at all, or only for clients of other namespaces: a waypoint sends the request to the service itself, a gateway answers with 404.
    Unrouted,
}

/// The rule that won.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// The rule.
    pub rule: &'a CompiledRule,
    /// How the path matched.
    pub matched: MatchedPath,
}

impl<'a> Routed<'a> {
    /// The object of the user.
    pub fn route(&self) -> &'a ObjectKey {
        self.rule.object()
    }
}

impl<'a> Lookup<'a> {
    /// The rule, if there is one.
    pub fn routed(self) -> Option<Routed<'a>> {
        match self {
            Self::Routed(routed) => Some(routed),
            Self::NoMatch | Self::Unrouted => None,
        }
    }
}

impl Table {
    /// Adds or replaces a route of requests. On an error the table is as it was: the last good route stays.
    pub fn insert_http(&mut self, mut route: HttpRoute) -> Result<(), RouteError> {
        let tables = Arc::make_mut(&mut self.tables);
        tables.share(&mut route.parents);
        let mut route = Route::compile(route, &mut tables.patterns)?;
        for backends in route.backends_mut() {
            tables.shared.backends(backends);
        }
        let route = Arc::new(route);
        tables.remove_http(route.object.text());
        for parent in &route.parents {
            let hosts = tables.http_scopes.entry(parent);
            for rule in CompiledRule::all(&route) {
                hosts.insert(hostnames(parent), &rule);
            }
            // A route without rules still counts: what it is attached to has routes.
            hosts.attach(consumer(&route));
        }
        tables.http.insert(ByName(route));
        Ok(())
    }

    /// Adds or replaces a route of connections.
    pub fn insert_stream(&mut self, mut route: StreamRoute) {
        let tables = Arc::make_mut(&mut self.tables);
        tables.remove_stream(route.object.text());
        tables.share(&mut route.parents);
        let route = Arc::new(route);
        for parent in &route.parents {
            tables
                .stream_scopes
                .entry(parent)
                .insert(&route, hostnames(parent));
        }
        tables.streams.insert(route.object.clone(), route);
    }

    /// Removes the route of requests with this resource name (`Kind/namespace/name`); false when there was none.
    pub fn remove_http(&mut self, name: &str) -> bool {
        self.tables.http.contains(name) && Arc::make_mut(&mut self.tables).remove_http(name)
    }

    /// Removes the route of connections with this resource name; false when there was none. One object may have a route of each sort.
    pub fn remove_stream(&mut self, name: &str) -> bool {
        self.tables.streams.contains_key(name)
            && Arc::make_mut(&mut self.tables).remove_stream(name)
    }

    /// The rule for a request.
    pub fn http(&self, scope: Scope<'_>, request: &RequestHead<'_>) -> Lookup<'_> {
        let mut lookup = Lookup::Unrouted;
        let mut best: Found<'_> = None;
        self.tables.http_scopes.each(scope, |hosts| {
            if hosts.counts_for(request) {
                lookup = Lookup::NoMatch;
            }
            let found = hosts.find(scope, request);
            best = index::better(best, found);
        });
        best.map_or(lookup, |(rule, matched)| {
            Lookup::Routed(Routed { rule, matched })
        })
    }

    /// The rule for a connection.
    pub fn stream(&self, scope: Scope<'_>, request: &StreamRequest<'_>) -> StreamLookup<'_> {
        let mut lookup = StreamLookup::Unrouted;
        let mut best = None;
        self.tables.stream_scopes.each(scope, |streams| {
            if matches!(lookup, StreamLookup::Unrouted) {
                lookup = StreamLookup::NoMatch;
            }
            best = streams::better(best.take(), streams.find(request));
        });
        best.map_or(lookup, StreamLookup::from)
    }

    /// How many routes there are, of both sorts.
    pub fn len(&self) -> usize {
        self.tables.http.len() + self.tables.streams.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The routes of requests, as they count (paths in canonical form), in no order: for admin pages.
    pub fn http_routes(&self) -> impl Iterator<Item = HttpRoute> {
        self.tables.http.iter().map(|route| route.0.to_resource())
    }

    /// The routes of connections, as they were received, in no order.
    pub fn stream_routes(&self) -> impl Iterator<Item = &Arc<StreamRoute>> {
        self.tables.streams.values()
    }
}

impl Tables {
    /// Texts that other routes have are theirs; lists hold no room for more.
    fn share(&mut self, parents: &mut [Parent]) {
        self.shared.parents(parents);
        for parent in parents {
            let hosts = self.http_scopes.get(parent);
            let Parent::Listener { hostnames, .. } = parent else {
                continue;
            };
            hostnames.shrink_to_fit();
            for host in hostnames {
                if let Some(known) = hosts.and_then(|hosts| hosts.text(&host.0)) {
                    host.0 = known.clone();
                }
            }
        }
    }

    fn remove_http(&mut self, name: &str) -> bool {
        let Some(ByName(old)) = self.http.take(name) else {
            return false;
        };
        for parent in &old.parents {
            let hosts = self.http_scopes.entry(parent);
            for rule in CompiledRule::all(&old) {
                hosts.remove(hostnames(parent), &rule);
            }
            hosts.detach(consumer(&old));
            let empty = hosts.attached == 0;
            if empty {
                self.http_scopes.remove(parent);
            }
        }
        true
    }

    fn remove_stream(&mut self, name: &str) -> bool {
        let Some(old) = self.streams.remove(name) else {
            return false;
        };
        for parent in &old.parents {
            let streams = self.stream_scopes.entry(parent);
            streams.remove(&old.object);
            if streams.is_empty() {
                self.stream_scopes.remove(parent);
            }
        }
        true
    }
}

/// The namespace for whose clients alone a route counts: GAMMA's consumer routes, which are about somebody else's service.
fn consumer(route: &Route) -> Option<&Arc<str>> {
    if route.precedence != Precedence::Specific {
        return None;
    }
    let mut matches = route.matches();
    let first = matches.next()?.source_namespace()?;
    let same = matches.all(|m| m.source_namespace() == Some(first));
    same.then_some(first)
}

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.object.text()
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.object.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.object == other.0.object
    }
}

impl Eq for ByName {}

fn hostnames(parent: &Parent) -> &[crate::resource::HostPattern] {
    match parent {
        Parent::Listener { hostnames, .. } => hostnames,
        Parent::Service { .. } => &[],
    }
}

impl<T> Default for Scopes<T> {
    fn default() -> Self {
        Self {
            listeners: HashMap::new(),
            services: HashMap::new(),
        }
    }
}

impl<T: Clone + Default> Scopes<T> {
    fn entry(&mut self, parent: &Parent) -> &mut T {
        let shared = match parent {
            Parent::Listener {
                gateway, listener, ..
            } => self
                .listeners
                .entry(gateway.clone())
                .or_default()
                .entry(listener.clone())
                .or_default(),
            Parent::Service { service, port } => {
                let ports = self.services.entry(service.clone()).or_default();
                let at = ports
                    .binary_search_by_key(port, |(port, _)| *port)
                    .unwrap_or_else(|at| {
                        ports.insert(at, (*port, Arc::default()));
                        at
                    });
                // In range: found or inserted a line above.
                &mut ports[at].1
            }
        };
        Arc::make_mut(shared)
    }

    fn get(&self, parent: &Parent) -> Option<&T> {
        match parent {
            Parent::Listener {
                gateway, listener, ..
            } => self.listeners.get(gateway)?.get(listener).map(|t| &**t),
            Parent::Service { service, port } => {
                let mut ports = self.services.get(service)?.iter();
                ports.find(|(p, _)| p == port).map(|(_, t)| &**t)
            }
        }
    }

    fn remove(&mut self, parent: &Parent) {
        match parent {
            Parent::Listener {
                gateway, listener, ..
            } => {
                if let Some(listeners) = self.listeners.get_mut(gateway) {
                    listeners.remove(listener);
                    if listeners.is_empty() {
                        self.listeners.remove(gateway);
                    }
                }
            }
            Parent::Service { service, port } => {
                if let Some(ports) = self.services.get_mut(service) {
                    ports.retain(|(p, _)| p != port);
                    if ports.is_empty() {
                        self.services.remove(service);
                    }
                }
            }
        }
    }

    /// What counts in a scope: at most two, a port's own and every port's.
    fn each<'a>(&'a self, scope: Scope<'_>, mut visit: impl FnMut(&'a T)) {
        match scope {
            Scope::Listener { gateway, listener } => {
                let found = self.listeners.get(gateway).and_then(|l| l.get(listener));
                if let Some(found) = found {
                    visit(found);
                }
            }
            Scope::Service { service, port } => {
                for (p, found) in self.services.get(service).into_iter().flatten() {
                    if p.is_none_or(|p| p == port) {
                        visit(found);
                    }
                }
            }
        }
    }
}
