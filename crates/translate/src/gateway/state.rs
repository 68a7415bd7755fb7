//! Facts of the Gateway API's objects, and who refers to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tulle_api::gateway as api;

use super::deployable::NotDeployed;
use super::listeners::View;
use super::secret::SecretFacts;
use super::status::StatusAddress;
use super::{RouteId, Source};
use crate::waypoint::WaypointFacts;

/// Namespace and name.
pub(crate) type Named = (Arc<str>, Arc<str>);

/// Facts of the Gateway API's objects.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) gateways: BTreeMap<Named, GatewayFacts>,
    pub(super) classes: BTreeMap<Arc<str>, ClassFacts>,
    pub(super) sets: BTreeMap<Named, SetFacts>,
    pub(super) routes: BTreeMap<RouteId, RouteFacts>,
    pub(super) grants: BTreeMap<Named, api::ReferenceGrantSpec>,
    pub(super) backend_tls: BTreeMap<Named, BackendTlsFacts>,
    pub(crate) secrets: BTreeMap<Named, SecretFacts>,
    pub(super) config_maps: BTreeMap<Named, ConfigMapFacts>,
    /// Addresses that load balancers gave to Services.
    pub(super) load_balancers: BTreeMap<Named, Vec<StatusAddress>>,
    /// Pods by the Gateway that their label names.
    pub(super) pods: HashMap<Named, BTreeSet<Arc<str>>>,
    pub(super) routes_by_parent: HashMap<ParentKey, BTreeSet<RouteId>>,
    pub(super) routes_by_backend: HashMap<BackendKey, BTreeSet<RouteId>>,
    pub(super) sets_by_gateway: HashMap<Named, BTreeSet<Named>>,
    /// Gateways by the host names of Services that lead to them.
    pub(super) gateways_by_service: HashMap<Arc<str>, BTreeSet<Named>>,
    /// Gateways as they are seen by routes, ours only. Follows the facts in [`crate::Cluster::take_changes`].
    pub(super) views: BTreeMap<Named, View>,
    /// Gateways that objects may be attached to as waypoints. Follows likewise.
    pub(crate) waypoints: BTreeMap<Named, WaypointFacts>,
    /// Gateways of other controllers' classes. Follows likewise.
    pub(super) foreign: BTreeSet<Named>,
    /// Gateways whose view may be out of date.
    pub(super) stale: BTreeSet<Named>,
    /// Gateways whose objects are not as they should be.
    pub(super) undeployed: BTreeMap<Named, NotDeployed>,
}

/// What every object has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) generation: Option<i64>,
    /// Seconds since 1970.
    pub(crate) created: i64,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GatewayFacts {
    pub(super) meta: Meta,
    pub(super) uid: Arc<str>,
    pub(super) labels: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) annotations: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) spec: api::GatewaySpec,
    /// Addresses in its status: what was ready once stays a waypoint.
    pub(super) reported: Vec<StatusAddress>,
}

/// A GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClassFacts {
    pub(super) generation: Option<i64>,
    pub(super) controller: Arc<str>,
    /// Label `istio.io/waypoint-for`.
    pub(super) waypoint_for: Option<Arc<str>>,
}

/// A ListenerSet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SetFacts {
    pub(super) meta: Meta,
    pub(super) spec: api::ListenerSetSpec,
}

/// A route of any kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RouteFacts {
    pub(super) meta: Meta,
    pub(super) parents: Vec<api::ParentReference>,
    /// In lower case.
    pub(super) hostnames: Vec<Arc<str>>,
    pub(super) rules: RouteRules,
}

/// Rules as the user wrote them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RouteRules {
    Http(Vec<api::HttpRule>),
    Grpc(Vec<api::GrpcRule>),
    Stream(Vec<api::StreamRouteRule>),
}

/// A BackendTLSPolicy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BackendTlsFacts {
    pub(super) meta: Meta,
    pub(super) spec: api::BackendTlsPolicySpec,
}

/// What of a ConfigMap may matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigMapFacts {
    /// Roots, key `ca.crt`.
    pub(super) roots: Option<Arc<str>>,
}

/// What a route may be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ParentKey {
    Gateway(Named),
    ListenerSet(Named),
    Service(Named),
    ServiceEntry(Named),
}

/// What a route may send to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum BackendKey {
    Hostname(Arc<str>),
    ServiceEntry(Named),
}

impl State {
    /// Nothing is known.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        self.gateways.is_empty()
            && self.classes.is_empty()
            && self.sets.is_empty()
            && self.routes.is_empty()
            && self.grants.is_empty()
            && self.backend_tls.is_empty()
            && self.secrets.is_empty()
            && self.config_maps.is_empty()
            && self.load_balancers.is_empty()
            && self.pods.is_empty()
            && self.routes_by_parent.is_empty()
            && self.routes_by_backend.is_empty()
            && self.sets_by_gateway.is_empty()
            && self.gateways_by_service.is_empty()
            && self.views.is_empty()
            && self.waypoints.is_empty()
            && self.foreign.is_empty()
            && self.stale.is_empty()
            && self.undeployed.is_empty()
    }

    /// Gateways of ours.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Named> {
        self.views.keys()
    }

    /// All that may give outputs.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        for (namespace, name) in self.gateways.keys() {
            sources.push(Source::Gateway(namespace.clone(), name.clone()));
            sources.push(Source::GatewayStatus(namespace.clone(), name.clone()));
        }
        let named = |make: fn(Arc<str>, Arc<str>) -> Source| {
            move |(namespace, name): &Named| make(namespace.clone(), name.clone())
        };
        sources.extend(self.sets.keys().map(named(Source::ListenerSet)));
        sources.extend(self.secrets.keys().map(named(Source::Certificate)));
        sources.extend(self.backend_tls.keys().map(named(Source::BackendTls)));
        sources.extend(self.routes.keys().cloned().map(Source::Route));
        sources.extend(self.classes.keys().cloned().map(Source::Class));
        sources
    }

    /// Adds to a set in a table, or takes away from it; empty sets are not kept.
    pub(super) fn relate<K: std::hash::Hash + Eq, V: Ord>(
        table: &mut HashMap<K, BTreeSet<V>>,
        key: K,
        value: V,
        there: bool,
    ) {
        if there {
            table.entry(key).or_default().insert(value);
        } else if let Some(set) = table.get_mut(&key) {
            set.remove(&value);
            if set.is_empty() {
                table.remove(&key);
            }
        }
    }
}
