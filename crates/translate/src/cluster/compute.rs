//! Outputs as functions of facts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tulle_model::{Locality, Port, ServiceKey, Tunnel, Workload, WorkloadKind};
use tulle_policy::{Policy, Scope};

use super::state::Namespace;
use super::{Cluster, Key, Outputs, Source, Value};
use crate::authorization::key as policy_key;
use crate::condition::{ObjectKind, ObjectRef};
use crate::labels::Labels;
use crate::peer::{self, Effect};
use crate::service::{ServiceFacts, ServiceId, ServiceSource};
use crate::workload::{Surroundings, WorkloadFacts};

impl Cluster {
    /// What a source gives, from the facts as they are now.
    pub(super) fn compute(&self, source: &Source) -> Outputs {
        let outputs = match source {
            Source::Pod(namespace, name) => self.pod(namespace, name),
            Source::WorkloadEntry(namespace, name) => self.workload_entry(namespace, name),
            Source::EntryEndpoints(namespace, name) => self.entry_endpoints(namespace, name),
            Source::Slice(namespace, name) => self.slice(namespace, name),
            Source::Hostname(hostname) => Some(self.host(hostname)),
            Source::Authorization(namespace, name) => self.authorization(namespace, name),
            Source::Peer(namespace, name) => self.peer(namespace, name),
            Source::StaticStrict => self.static_strict(),
            Source::Waypoint(kind, namespace, name) => self.waypoint(*kind, namespace, name),
            Source::Destination(service) => self.destination(service),
            Source::Gateway(source) => Some(self.compute_gateway(source)),
            Source::Networking(source) => Some(self.compute_networking(source)),
        };
        outputs.unwrap_or_default()
    }

    /// The namespace, if the mesh looks at it.
    pub(crate) fn namespace(&self, name: &str) -> Option<&Namespace> {
        let state = self.namespaces.get(name)?;
        self.discovers(state).then_some(state)
    }

    /// Whether the mesh looks at a namespace, of which nothing else may be known.
    pub(crate) fn is_discovered(&self, name: &str) -> bool {
        match self.namespaces.get(name) {
            Some(state) => self.discovers(state),
            None => self.discovers(&Namespace::default()),
        }
    }

    fn discovers(&self, state: &Namespace) -> bool {
        self.settings.discovery.is_empty()
            || self.settings.discovery.iter().any(|selector| {
                selector.selects(|key| state.facts.labels.get(key).map(|value| &**value))
            })
    }

    fn pod(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Outputs> {
        let state = self.namespace(namespace)?;
        let facts = state.pods.get(name)?;
        let mut services: BTreeMap<ServiceKey, Vec<Port>> = BTreeMap::new();
        let selected = state.service_selectors.selecting(&facts.labels);
        let referred = self.services_referring(state, namespace, name);
        let all = selected
            .filter_map(|id| state.services.get(id))
            .chain(referred);
        for service in all.filter(|service| self.wins(namespace, &service.id)) {
            services.insert(service.key.clone(), service.ports_on_pod(facts));
        }
        let uid = format!("{}//Pod/{namespace}/{name}", self.settings.cluster_id).into();
        let locality = self
            .nodes
            .get(&facts.node)
            .and_then(|node| node.locality.as_ref());
        let services = services.into_iter().collect();
        let around = self.surroundings(state, namespace, &facts.labels, locality, services);
        let workload = facts.workload(uid, namespace, name, around);
        let workload = self.with_workload_waypoint(namespace, &facts.labels, workload);
        Some(workload_output(workload))
    }

    /// Services without selector whose slices name the pod.
    fn services_referring<'a>(
        &'a self,
        state: &'a Namespace,
        namespace: &'a str,
        pod: &'a str,
    ) -> impl Iterator<Item = &'a ServiceFacts> {
        let slices = state.slices_by_pod.get(pod).into_iter().flatten();
        slices
            .filter_map(|slice| state.slices.get(slice))
            .filter_map(move |slice| {
                state.service(&slice.service, &self.hostname(&slice.service, namespace))
            })
            .filter(|service| service.selector.is_empty())
    }

    fn workload_entry(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Outputs> {
        let state = self.namespace(namespace)?;
        let facts = state.entries.get(name)?;
        let mut services: BTreeMap<ServiceKey, Vec<Port>> = BTreeMap::new();
        let selected = state.service_selectors.selecting(&facts.labels);
        for id in selected.filter(|id| self.wins(namespace, id)) {
            if let Some(service) = state.services.get(id) {
                services.insert(service.key.clone(), service.ports_on_entry(facts));
            }
        }
        let cluster = &self.settings.cluster_id;
        let uid = format!("{cluster}/networking.istio.io/WorkloadEntry/{namespace}/{name}").into();
        let services = services.into_iter().collect();
        let around = self.surroundings(state, namespace, &facts.labels, None, services);
        let workload = facts.workload(uid, namespace, name, around);
        let workload = self.with_workload_waypoint(namespace, &facts.labels, workload);
        Some(workload_output(workload))
    }

    fn entry_endpoints(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Outputs> {
        let state = self.namespace(namespace)?;
        let endpoints = state.endpoints.get(name)?;
        let services: Vec<&ServiceFacts> = state
            .services
            .values()
            .filter(|s| s.id.source == ServiceSource::Entry && s.id.name == *name)
            .filter(|s| self.wins(namespace, &s.id))
            .collect();
        if services.is_empty() {
            return None;
        }
        let cluster = &self.settings.cluster_id;
        let mut outputs: Outputs = Vec::new();
        let mut add = |address: &str, facts: &WorkloadFacts, services: &[&ServiceFacts]| {
            let prefix = format!("{cluster}/networking.istio.io/ServiceEntry");
            let uid: Arc<str> = format!("{prefix}/{namespace}/{name}/{address}").into();
            if outputs
                .iter()
                .any(|(key, _)| *key == Key::Workload(uid.clone()))
            {
                return;
            }
            let ports = |s: &&ServiceFacts| (s.key.clone(), s.ports_on_entry(facts));
            let services = services.iter().map(ports).collect();
            let labels = &endpoints.labels;
            let around = self.surroundings(state, namespace, labels, None, services);
            let workload = facts.workload(uid, namespace, name, around);
            let workload = self.with_workload_waypoint(namespace, labels, workload);
            outputs.extend(workload_output(workload));
        };
        for (address, facts) in &endpoints.explicit {
            add(address, facts, &services);
        }
        if endpoints.implicit {
            for service in &services {
                let facts = WorkloadFacts {
                    hostname: service.id.hostname.clone(),
                    workload_name: name.clone(),
                    labels: endpoints.labels.clone(),
                    tunnel: endpoints.tunnel,
                    ..WorkloadFacts::nowhere()
                };
                add(&service.id.hostname, &facts, &[service]);
            }
        }
        Some(outputs)
    }

    fn slice(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Outputs> {
        let state = self.namespace(namespace)?;
        let slice = state.slices.get(name)?;
        let hostname = self.hostname(&slice.service, namespace);
        let service = state.service(&slice.service, &hostname)?;
        let ports = service.ports_on_slice(&slice.ports);
        let cluster = &self.settings.cluster_id;
        let prefix = format!("{cluster}/discovery.k8s.io/EndpointSlice/{namespace}/{name}");
        let workload = |first: &IpAddr| Workload {
            uid: format!("{prefix}/{first}").into(),
            name: name.clone(),
            namespace: namespace.clone(),
            trust_domain: self.settings.trust_domain.clone(),
            // Nothing is known of who runs there, and its address may be anyone's.
            service_account: "default".into(),
            node: Arc::default(),
            network: self.network.clone(),
            cluster: cluster.clone(),
            addresses: Vec::new(),
            hostname: Arc::default(),
            tunnel: Tunnel::None,
            native_tunnel: false,
            health: Default::default(),
            host_network: true,
            canonical_name: Arc::default(),
            canonical_revision: Arc::default(),
            workload_name: Arc::default(),
            kind: WorkloadKind::Pod,
            services: [(service.key.clone(), ports.clone())].into(),
            policies: Vec::new(),
            locality: Locality::default(),
            capacity: 1,
            waypoint: None,
            waypoint_enforced: false,
            network_gateway: None,
        };
        let outputs = slice.endpoints.iter().filter_map(|endpoint| {
            let addresses = endpoint.addresses.clone();
            let first = addresses.first()?;
            let workload = Workload {
                health: endpoint.health,
                ..workload(first)
            };
            Some(Workload {
                addresses,
                ..workload
            })
        });
        Some(
            outputs
                .flat_map(|workload| workload_output(Some(workload)))
                .collect(),
        )
    }

    fn surroundings<'a>(
        &'a self,
        state: &Namespace,
        namespace: &str,
        labels: &Labels,
        locality: Option<&'a Locality>,
        services: Vec<(ServiceKey, Vec<Port>)>,
    ) -> Surroundings<'a> {
        let policies = self.policies_of(state, namespace, labels);
        let (settings, network) = (&self.settings, &self.network);
        Surroundings {
            settings,
            network,
            locality,
            services,
            policies,
        }
    }

    /// Names of the policies that select a workload: sorted, then those made from PeerAuthentication.
    fn policies_of(&self, state: &Namespace, namespace: &str, labels: &Labels) -> Vec<Arc<str>> {
        let selecting = |namespace: &str, state: &Namespace| -> Vec<Arc<str>> {
            let names = state.policy_selectors.selecting(labels);
            names.map(|name| policy_key(namespace, name)).collect()
        };
        let mut names = selecting(namespace, state);
        let root_name = &self.settings.root_namespace;
        let root = self.namespace(root_name);
        if let Some(root) = root.filter(|_| namespace != &**root_name) {
            names.extend(selecting(root_name, root));
        }
        names.sort();
        let above = self.strict_in(namespace);
        let workload_level = peer::oldest(
            state
                .peers
                .iter()
                .filter(|(_, p)| !p.selector.is_empty() && p.selector.selects(labels)),
        );
        let effect = match workload_level {
            None if above => Effect::Strict,
            None => Effect::Permissive,
            Some((name, facts)) => peer::effect(namespace, name, facts, above),
        };
        match effect {
            Effect::Permissive => {}
            Effect::Strict => {
                let name = tulle_api::contract::POLICY_STATIC_STRICT;
                names.push(policy_key(root_name, name));
            }
            Effect::Converted(policy) => names.push(policy.key().into()),
        }
        names
    }

    /// Whether a namespace as a whole refuses plaintext.
    fn strict_in(&self, namespace: &str) -> bool {
        let general = |namespace: &str| {
            let peers = self.namespace(namespace)?.peers.iter();
            peer::oldest(peers.filter(|(_, p)| p.selector.is_empty())).map(|(_, p)| p.level)
        };
        let root = &self.settings.root_namespace;
        let mesh = general(root).is_some_and(|level| peer::strict(false, level));
        if namespace == &**root {
            return mesh;
        }
        general(namespace).map_or(mesh, |level| peer::strict(mesh, level))
    }

    /// Services of a host name: in each namespace one wins; one of them all is canonical.
    fn host(&self, hostname: &Arc<str>) -> Outputs {
        let claims = self.hostnames.get(hostname).into_iter().flatten();
        let winners: Vec<(&Arc<str>, &Namespace, &ServiceFacts)> = claims
            .filter(|(namespace, id)| self.wins(namespace, id))
            .filter_map(|(namespace, id)| {
                let state = self.namespace(namespace)?;
                Some((namespace, state, state.services.get(id)?))
            })
            .collect();
        let canonical = winners
            .iter()
            .min_by_key(|(namespace, _, s)| (s.id.source, s.created, *namespace))
            .map(|(namespace, _, _)| *namespace);
        let output = |(namespace, state, facts): &(&Arc<str>, &Namespace, &ServiceFacts)| {
            let inherited = state.facts.distribution;
            let canonical = canonical == Some(*namespace);
            let service = facts.service(namespace, &self.network, inherited, canonical);
            let service = self.with_waypoint(namespace, facts, service);
            (
                Key::Service(facts.key.clone()),
                Value::Service(Box::new(service)),
            )
        };
        winners.iter().map(output).collect()
    }

    /// Whether a service is the one of its host name in its namespace: a Kubernetes Service, else the oldest entry.
    pub(crate) fn wins(&self, namespace: &Arc<str>, id: &ServiceId) -> bool {
        let Some(state) = self.namespace(namespace) else {
            return false;
        };
        let rank = |id: &ServiceId| {
            state
                .services
                .get(id)
                .map(|facts| (id.source, facts.created, id.name.clone()))
        };
        let Some(own) = rank(id) else { return false };
        let claims = self.hostnames.get(&id.hostname).into_iter().flatten();
        claims
            .filter(|(other, _)| other == namespace)
            .filter_map(|(_, other)| rank(other))
            .all(|other| own <= other)
    }

    fn authorization(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Outputs> {
        let facts = self.namespace(namespace)?.policies.get(name)?;
        let name = (namespace.clone(), name.clone());
        let (http, condition) = self.http_authorization(&name);
        let object = Self::authorization_object(&name);
        let conditions = facts.conditions.iter().cloned().chain(condition);
        let conditions = Value::Conditions(conditions.collect());
        let mut outputs = vec![(Key::Conditions(object), conditions)];
        outputs.extend(http);
        if let Some(policy) = &facts.policy {
            let mut policy = policy.clone();
            if policy.scope == Scope::Namespace && *namespace == self.settings.root_namespace {
                policy.scope = Scope::Global;
            }
            outputs.push(policy_output(policy));
        }
        Some(outputs)
    }

    fn peer(&self, namespace: &Arc<str>, name: &Arc<str>) -> Option<Outputs> {
        let facts = self.namespace(namespace)?.peers.get(name)?;
        let mut outputs = Vec::new();
        if let Some(condition) = &facts.condition {
            let object = object(ObjectKind::PeerAuthentication, namespace, name);
            outputs.push((
                Key::Conditions(object),
                Value::Conditions(vec![condition.clone()]),
            ));
        }
        if !facts.selector.is_empty() {
            let above = self.strict_in(namespace);
            if let Effect::Converted(policy) = peer::effect(namespace, name, facts, above) {
                outputs.push(policy_output(policy));
            }
        }
        Some(outputs)
    }

    /// Sent as soon as there is any PeerAuthentication, so that it is there when a workload names it.
    fn static_strict(&self) -> Option<Outputs> {
        let any = self
            .namespaces
            .values()
            .any(|state| !state.peers.is_empty());
        any.then(|| {
            vec![policy_output(peer::static_strict(
                &self.settings.root_namespace,
            ))]
        })
    }

    fn waypoint(&self, kind: ObjectKind, namespace: &Arc<str>, name: &Arc<str>) -> Option<Outputs> {
        let state = self.namespace(namespace)?;
        let (own, generation) = state.waypoint_users.get(&(kind, name.clone()))?;
        let conditions = self.waypoint_conditions(kind, namespace, name, own, *generation);
        let key = Key::Conditions(object(kind, namespace, name));
        (!conditions.is_empty()).then(|| vec![(key, Value::Conditions(conditions))])
    }

    pub(crate) fn hostname(&self, service: &str, namespace: &str) -> Arc<str> {
        format!("{service}.{namespace}.svc.{}", self.settings.domain).into()
    }
}

fn object(kind: ObjectKind, namespace: &Arc<str>, name: &Arc<str>) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: namespace.clone(),
        name: name.clone(),
    }
}

fn workload_output(workload: Option<Workload>) -> Outputs {
    let output = |w: Workload| (Key::Workload(w.uid.clone()), Value::Workload(Box::new(w)));
    workload.map(output).into_iter().collect()
}

fn policy_output(policy: Policy) -> (Key, Value) {
    (
        Key::Policy(policy.key().into()),
        Value::Policy(Box::new(policy)),
    )
}
