//! The whole cluster as facts, and what it means to the mesh.
//!
//! An object that arrives is reduced to facts, and marks the outputs that may depend on them. [`Cluster::take_changes`]
//! computes those again and returns what really changed. Of outputs only a fingerprint is kept.

mod compute;
mod destination;
mod ingest;
mod mark;
mod services;
pub(crate) mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tulle_model::{Interner, Service, ServiceKey, Workload};
use tulle_policy::Policy;

use crate::condition::{Condition, ObjectKind, ObjectRef};
use crate::gateway::{self, Deployable, Status};
use crate::networking;
use crate::resource::{Audience, Resource, ResourceKey};
use crate::service::{ServiceId, ServiceSource};
use crate::settings::Settings;
use state::{Namespace, Node};

/// Namespace and name of a Gateway.
pub type GatewayName = (Arc<str>, Arc<str>);

/// What changed, or with `Some` everywhere, all there is.
///
/// Publish in this order, so that no workload names a policy that a proxy has not seen: policies with `Some`, services,
/// workloads, policies with `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// By uid; `None` is gone.
    pub workloads: Vec<(Arc<str>, Option<Workload>)>,
    /// By `namespace/hostname`; `None` is gone.
    pub services: Vec<(ServiceKey, Option<Service>)>,
    /// By `namespace/name`; `None` is gone.
    pub policies: Vec<(Arc<str>, Option<Policy>)>,
    /// All conditions of ours that an object should have; none means to take them off. Not for objects that are gone.
    pub conditions: Vec<(ObjectRef, Vec<Condition>)>,
    /// For waypoints and gateways, with those that may have it; `None` is gone. Publish after the services.
    pub resources: Vec<(ResourceKey, Option<(Audience, Resource)>)>,
    /// What must be deployed, by namespace and name of the Gateway; `None`: nothing any more.
    pub gateways: Vec<(GatewayName, Option<Deployable>)>,
    /// Statuses of the Gateway API's form; `None`: take off what is ours. Not for objects that are gone.
    pub statuses: Vec<(ObjectRef, Option<Status>)>,
}

impl Changes {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty()
            && self.services.is_empty()
            && self.policies.is_empty()
            && self.conditions.is_empty()
            && self.resources.is_empty()
            && self.gateways.is_empty()
            && self.statuses.is_empty()
    }
}

/// The facts of a cluster, and what was told of them.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) settings: Settings,
    pub(crate) texts: Interner,
    /// Network of the cluster, a label of the system namespace.
    pub(crate) network: Arc<str>,
    nodes: HashMap<Arc<str>, Node>,
    pub(crate) namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Who claims a host name.
    pub(crate) hostnames: HashMap<Arc<str>, BTreeSet<(Arc<str>, ServiceId)>>,
    /// The Gateway API.
    pub(crate) gateway: gateway::State,
    /// Istio's own kinds.
    pub(crate) networking: networking::State,
    pub(crate) dirty: BTreeSet<Source>,
    published: HashMap<Source, Box<[(Key, u64)]>>,
}

/// Something that gives outputs. Every output comes from one source only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Namespace and name; likewise below.
    Pod(Arc<str>, Arc<str>),
    WorkloadEntry(Arc<str>, Arc<str>),
    /// The endpoints inside of a ServiceEntry.
    EntryEndpoints(Arc<str>, Arc<str>),
    Slice(Arc<str>, Arc<str>),
    /// All services of one host name, of which some may win over others.
    Hostname(Arc<str>),
    Authorization(Arc<str>, Arc<str>),
    Peer(Arc<str>, Arc<str>),
    StaticStrict,
    /// The waypoint that an object asks for.
    Waypoint(ObjectKind, Arc<str>, Arc<str>),
    /// How a service is used: DestinationRules and BackendTLSPolicies in one.
    Destination(ServiceKey),
    /// Of the Gateway API.
    Gateway(gateway::Source),
    /// Of Istio's own kinds.
    Networking(networking::Source),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Workload(Arc<str>),
    Service(ServiceKey),
    Policy(Arc<str>),
    Conditions(ObjectRef),
    Resource(ResourceKey),
    Deployable(Arc<str>, Arc<str>),
    Status(ObjectRef),
}

/// What a source gives.
pub(crate) type Outputs = Vec<(Key, Value)>;

pub(crate) enum Value {
    Workload(Box<Workload>),
    Service(Box<Service>),
    Policy(Box<Policy>),
    Conditions(Vec<Condition>),
    Resource(Audience, Resource),
    Deployable(Box<Deployable>),
    Status(Status),
}

impl Value {
    /// A resource with its key.
    pub(crate) fn resource(audience: Audience, resource: Resource) -> (Key, Self) {
        (
            Key::Resource(resource.key()),
            Self::Resource(audience, resource),
        )
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Workload(workload) => workload.hash(&mut hasher),
            Self::Service(service) => service.hash(&mut hasher),
            Self::Policy(policy) => policy.hash(&mut hasher),
            Self::Conditions(conditions) => conditions.hash(&mut hasher),
            Self::Resource(audience, resource) => {
                audience.hash(&mut hasher);
                resource.fingerprint(&mut hasher);
            }
            Self::Deployable(deployable) => deployable.hash(&mut hasher),
            Self::Status(status) => status.hash(&mut hasher),
        }
        hasher.finish()
    }
}

impl Cluster {
    /// An empty cluster.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            texts: Interner::default(),
            network: Arc::default(),
            nodes: HashMap::new(),
            namespaces: BTreeMap::new(),
            hostnames: HashMap::new(),
            gateway: gateway::State::default(),
            networking: networking::State::default(),
            dirty: BTreeSet::new(),
            published: HashMap::new(),
        }
    }

    /// What holds for the whole mesh.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Computes what depends on objects that changed since the last call. Cheap when nothing did.
    pub fn take_changes(&mut self) -> Changes {
        self.allocate_addresses();
        self.refresh_gateways();
        let mut changes = Changes::default();
        for source in std::mem::take(&mut self.dirty) {
            let outputs = self.compute(&source);
            let old = self.published.remove(&source).unwrap_or_default();
            for (key, _) in old
                .iter()
                .filter(|(key, _)| !outputs.iter().any(|(k, _)| k == key))
            {
                changes.gone(key.clone());
            }
            let mut published = Vec::with_capacity(outputs.len());
            for (key, value) in outputs {
                let fingerprint = value.fingerprint();
                if !old.contains(&(key.clone(), fingerprint)) {
                    changes.set(key.clone(), value);
                }
                published.push((key, fingerprint));
            }
            if !published.is_empty() {
                self.published.insert(source, published.into());
            }
        }
        changes
    }

    /// All that there is, computed from the facts and the Gateways as they were at the last [`Cluster::take_changes`]: for debug
    /// pages and tests.
    pub fn snapshot(&self) -> Changes {
        let mut all = Changes::default();
        for source in self.sources() {
            for (key, value) in self.compute(&source) {
                all.set(key, value);
            }
        }
        all
    }

    /// Whether a pod with this service account runs on a node: only then may the node's proxy ask for its certificate.
    pub fn node_has(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        let Some(node) = self.nodes.get(node) else {
            return false;
        };
        node.pods
            .iter()
            .filter(|(pod_namespace, _)| **pod_namespace == *namespace)
            .any(|(pod_namespace, name)| {
                self.namespaces
                    .get(pod_namespace)
                    .and_then(|namespace| namespace.pods.get(name))
                    .is_some_and(|pod| *pod.service_account == *service_account)
            })
    }

    /// How many pods are known.
    pub fn pod_count(&self) -> usize {
        self.namespaces
            .values()
            .map(|namespace| namespace.pods.len())
            .sum()
    }

    /// Nothing is held but settings and, for a while, shared texts.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        self.nodes.is_empty()
            && self.namespaces.is_empty()
            && self.hostnames.is_empty()
            && self.gateway.is_bare()
            && self.networking.is_bare()
            && self.dirty.is_empty()
            && self.published.is_empty()
    }

    fn sources(&self) -> Vec<Source> {
        let mut sources = vec![Source::StaticStrict];
        for (ns, state) in &self.namespaces {
            let at = |make: fn(Arc<str>, Arc<str>) -> Source, name: &Arc<str>| {
                make(ns.clone(), name.clone())
            };
            sources.extend(state.pods.keys().map(|name| at(Source::Pod, name)));
            sources.extend(
                state
                    .entries
                    .keys()
                    .map(|name| at(Source::WorkloadEntry, name)),
            );
            sources.extend(
                state
                    .endpoints
                    .keys()
                    .map(|name| at(Source::EntryEndpoints, name)),
            );
            sources.extend(state.slices.keys().map(|name| at(Source::Slice, name)));
            sources.extend(
                state
                    .policies
                    .keys()
                    .map(|name| at(Source::Authorization, name)),
            );
            sources.extend(state.peers.keys().map(|name| at(Source::Peer, name)));
            sources.extend(
                state
                    .waypoint_users
                    .keys()
                    .map(|(kind, name)| Source::Waypoint(*kind, ns.clone(), name.clone())),
            );
        }
        sources.extend(self.hostnames.keys().cloned().map(Source::Hostname));
        sources.extend(self.destinations().into_iter().map(Source::Destination));
        sources.extend(self.gateway.sources().into_iter().map(Source::Gateway));
        sources.extend(
            self.networking_sources()
                .into_iter()
                .map(Source::Networking),
        );
        sources
    }

    /// An object is gone, and its status with it. Should it come back, it is told everything again.
    pub(crate) fn forget_conditions(&mut self, source: &Source) {
        let Some(old) = self.published.remove(source) else {
            return;
        };
        let rest = old
            .into_iter()
            .filter(|(key, _)| !matches!(key, Key::Conditions(_) | Key::Status(_)));
        let rest: Box<[(Key, u64)]> = rest.collect();
        if !rest.is_empty() {
            self.published.insert(source.clone(), rest);
        }
    }
}

impl Changes {
    fn set(&mut self, key: Key, value: Value) {
        match (key, value) {
            (Key::Workload(uid), Value::Workload(workload)) => {
                self.workloads.push((uid, Some(*workload)));
            }
            (Key::Service(key), Value::Service(service)) => {
                self.services.push((key, Some(*service)));
            }
            (Key::Policy(key), Value::Policy(policy)) => self.policies.push((key, Some(*policy))),
            (Key::Conditions(object), Value::Conditions(conditions)) => {
                self.conditions.push((object, conditions));
            }
            (Key::Resource(key), Value::Resource(audience, resource)) => {
                self.resources.push((key, Some((audience, resource))));
            }
            (Key::Deployable(namespace, name), Value::Deployable(deployable)) => {
                self.gateways.push(((namespace, name), Some(*deployable)));
            }
            (Key::Status(object), Value::Status(status)) => {
                self.statuses.push((object, Some(status)));
            }
            // `compute` pairs them.
            _ => {}
        }
    }

    fn gone(&mut self, key: Key) {
        match key {
            Key::Workload(uid) => self.workloads.push((uid, None)),
            Key::Service(key) => self.services.push((key, None)),
            Key::Policy(key) => self.policies.push((key, None)),
            Key::Conditions(object) => self.conditions.push((object, Vec::new())),
            Key::Resource(key) => self.resources.push((key, None)),
            Key::Deployable(namespace, name) => self.gateways.push(((namespace, name), None)),
            Key::Status(object) => self.statuses.push((object, None)),
        }
    }
}
