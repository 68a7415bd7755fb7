//! DestinationRule to the destination of a service.
//!
//! Which rule counts for the proxies (waypoints and gateways) of a namespace: one of that namespace, else one of the service's
//! that is exported there, else one of the root namespace; of these the most specific host. Rules of one namespace for one host
//! are merged: the oldest traffic policy counts, and the subsets of all.

mod policy;
mod tls;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use tulle_api::networking::{DestinationRuleSpec, TrafficPolicy as ApiPolicy};
use tulle_model::ServiceKey;
use tulle_route::resource::{DestinationPolicy, PortPolicy, Subset, TrafficPolicy};

use super::findings::{Findings, shown};
use super::names::{covers, exported, specificity};
use super::{Name, Object, State};
use crate::cluster::{Cluster, Outputs};
use crate::condition::{ObjectKind, reason};
use crate::labels::Labels;
use crate::service::{ServiceFacts, ServiceSource};
use policy::Reader;

/// Where patterns are among host names.
const PATTERNS: (Bound<&str>, Bound<&str>) = (Bound::Included("*"), Bound::Excluded("+"));

type Rule<'a> = (&'a Name, &'a Object<DestinationRuleSpec>);

impl State {
    /// Rules whose host covers a host name, the most specific first, then the oldest.
    pub(super) fn rules_of<'a>(&'a self, hostname: &str) -> impl Iterator<Item = Rule<'a>> {
        let exact = self.rules_by_host.get_key_value(hostname);
        // Patterns begin with `*`, so they come first in the table.
        let mut wild: Vec<_> = self
            .rules_by_host
            .range::<str, _>(PATTERNS)
            .filter(|(host, _)| covers(host, hostname))
            .collect();
        wild.sort_by_key(|(host, _)| std::cmp::Reverse(specificity(host)));
        exact.into_iter().chain(wild).flat_map(move |(_, names)| {
            let rules = names
                .iter()
                .filter_map(|name| self.destination_rules.get_key_value(name));
            let mut rules: Vec<Rule<'a>> = rules.collect();
            rules.sort_by_key(|(name, object)| (object.created, (*name).clone()));
            rules
        })
    }
}

impl Cluster {
    /// Whether any rule is for a service.
    pub(crate) fn has_destination_rules(&self, service: &ServiceKey) -> bool {
        let mut rules = self.networking.rules_of(service.hostname());
        rules.next().is_some()
    }

    /// What DestinationRules say of a service to proxies of a namespace; TLS of BackendTLSPolicies and the audience are added by
    /// the caller.
    pub(crate) fn destination_rules(
        &self,
        service: &ServiceKey,
        client: &Arc<str>,
    ) -> Option<DestinationPolicy> {
        let chosen = self.chosen_rules(service, client);
        if chosen.is_empty() {
            return None;
        }
        let facts = self
            .services_of_host(service.hostname())
            .find(|facts| facts.key == *service)?;
        Some(self.destination_of(&chosen, facts, client, &mut Findings::default()))
    }

    /// Services that DestinationRules are for.
    pub(crate) fn destination_rule_targets(&self) -> Vec<ServiceKey> {
        let hosts = self.networking.rules_by_host.keys();
        let services: BTreeSet<ServiceKey> =
            hosts.flat_map(|host| self.services_covered(host)).collect();
        services.into_iter().collect()
    }

    /// Services whose host name a pattern covers.
    pub(super) fn services_covered(&self, host: &str) -> Vec<ServiceKey> {
        if host.starts_with('*') {
            let names = self.hostnames.keys().filter(|name| covers(host, name));
            return names
                .flat_map(|name| self.services_of_host(name))
                .map(|s| s.key.clone())
                .collect();
        }
        self.services_of_host(host)
            .map(|service| service.key.clone())
            .collect()
    }

    /// The rules that count for a service and the proxies of a namespace: those of one namespace and host.
    fn chosen_rules(&self, service: &ServiceKey, client: &str) -> Vec<Rule<'_>> {
        let rules = self
            .networking
            .rules_of(service.hostname())
            .filter(|(name, object)| {
                object.spec.workload_selector.is_none() && self.is_discovered(&name.0)
            })
            .filter(|(name, object)| exported(&object.spec.export_to, &name.0, client));
        let rules: Vec<Rule<'_>> = rules.collect();
        if rules.is_empty() {
            return rules;
        }
        let root = &*self.settings.root_namespace;
        let lies_in = |(name, _): &Rule<'_>, namespace: &str| *name.0 == *namespace;
        // What the root namespace says to all comes last, for its own proxies, too.
        let own = |rule: &Rule<'_>| {
            lies_in(rule, client) && (client != root || only_own(&rule.1.spec.export_to, root))
        };
        let of_service = |rule: &Rule<'_>| lies_in(rule, service.namespace());
        let of_root = |rule: &Rule<'_>| lies_in(rule, root);
        let places: [&dyn Fn(&Rule<'_>) -> bool; 3] = [&own, &of_service, &of_root];
        for counts in places {
            let Some((first, object)) = rules.iter().find(|rule| counts(rule)) else {
                continue;
            };
            let host = self.qualified(&object.spec.host, &first.0);
            let same =
                |(name, object): &&Rule<'_>| self.qualified(&object.spec.host, &name.0) == host;
            let chosen = rules.iter().filter(|rule| counts(rule)).filter(same);
            return chosen.copied().collect();
        }
        Vec::new()
    }

    /// Namespaces whose proxies send to a service, and its own.
    fn clients_of(&self, service: &ServiceKey) -> BTreeSet<Arc<str>> {
        let users = self.users_of(service);
        let namespaces = users.iter().filter_map(|user| user.split_once('/'));
        let mut clients: BTreeSet<Arc<str>> =
            namespaces.map(|(namespace, _)| namespace.into()).collect();
        clients.insert(service.namespace().into());
        clients
    }

    fn destination_of(
        &self,
        rules: &[Rule<'_>],
        service: &ServiceFacts,
        client: &Arc<str>,
        findings: &mut Findings,
    ) -> DestinationPolicy {
        let general = rules
            .iter()
            .find(|(_, object)| object.spec.traffic_policy.is_some());
        let empty = ApiPolicy::default();
        let policy = general
            .and_then(|(_, object)| object.spec.traffic_policy.as_ref())
            .unwrap_or(&empty);
        let mut read = Reader {
            cluster: self,
            service,
            client,
            findings,
        };
        let (of_all, ports) = read.parts(policy, None, "spec.trafficPolicy");
        let mut subsets: Vec<Subset> = Vec::new();
        for (_, object) in rules {
            for (at, subset) in object.spec.subsets.iter().enumerate() {
                if subsets.iter().any(|known| *known.name == *subset.name) {
                    continue;
                }
                let path = format!("spec.subsets[{at}].trafficPolicy");
                let (policy, ports) = match &subset.traffic_policy {
                    Some(own) => read.parts(policy, Some(own), &path),
                    None => (TrafficPolicy::default(), Vec::new()),
                };
                let wanted = Labels::from_pairs(&subset.labels);
                let uids = self
                    .labelled_endpoints(service)
                    .into_iter()
                    .filter(|(_, labels)| wanted.selects(labels));
                let mut workloads: Vec<Arc<str>> = uids.map(|(uid, _)| uid).collect();
                workloads.sort();
                subsets.push(Subset {
                    name: subset.name.as_str().into(),
                    labels: wanted.iter().cloned().collect(),
                    workloads,
                    policy,
                    ports,
                });
            }
        }
        DestinationPolicy {
            service: service.key.clone(),
            client: client.clone(),
            policy: of_all,
            ports,
            subsets,
        }
    }

    /// Endpoints of a service that have labels: uid, and labels.
    fn labelled_endpoints<'a>(&'a self, service: &'a ServiceFacts) -> Vec<(Arc<str>, &'a Labels)> {
        let namespace = service.key.namespace();
        let Some(state) = self.namespace(namespace) else {
            return Vec::new();
        };
        let cluster = &self.settings.cluster_id;
        let mut all: Vec<(Arc<str>, &Labels)> = Vec::new();
        if !service.selector.is_empty() {
            let pods = state
                .pods
                .iter()
                .filter(|(_, pod)| service.selector.selects(&pod.labels));
            all.extend(pods.map(|(name, pod)| {
                (
                    format!("{cluster}//Pod/{namespace}/{name}").into(),
                    &pod.labels,
                )
            }));
            let entries = state
                .entries
                .iter()
                .filter(|(_, entry)| service.selector.selects(&entry.labels));
            all.extend(entries.map(|(name, entry)| {
                (
                    format!("{cluster}/networking.istio.io/WorkloadEntry/{namespace}/{name}")
                        .into(),
                    &entry.labels,
                )
            }));
        }
        if service.id.source == ServiceSource::Entry
            && let Some(endpoints) = state.endpoints.get(&service.id.name)
        {
            let name = &service.id.name;
            all.extend(endpoints.explicit.iter().map(|(address, facts)| {
                let uid = format!(
                    "{cluster}/networking.istio.io/ServiceEntry/{namespace}/{name}/{address}"
                );
                (uid.into(), &facts.labels)
            }));
        }
        all
    }

    /// The condition of one object.
    pub(super) fn destination_rule(&self, name: &Name) -> Option<Outputs> {
        self.is_discovered(&name.0).then_some(())?;
        let object = self.networking.destination_rules.get(name)?;
        let host = self.qualified(&object.spec.host, &name.0);
        let mut findings = Findings::default();
        if object.spec.workload_selector.is_some() {
            findings.unsupported(
                "spec.workloadSelector",
                "is for sidecars: the rule has no effect",
            );
        }
        let services = self.services_covered(&host);
        let mut attached = Vec::new();
        for service in &services {
            let clients = self.clients_of(service);
            let mut clients = clients.iter().filter(|client| {
                let chosen = self.chosen_rules(service, client);
                chosen.iter().any(|(chosen, _)| *chosen == name)
            });
            let Some(client) = clients.next() else {
                continue;
            };
            attached.push(service.to_string());
            let known = self
                .services_of_host(service.hostname())
                .find(|facts| facts.key == *service);
            if let Some(facts) = known {
                self.destination_of(&[(name, object)], facts, client, &mut findings);
            }
        }
        let otherwise = || {
            if services.is_empty() {
                return (
                    reason::TARGET_NOT_FOUND,
                    format!("no service has the host {:?}", shown(&host)),
                );
            }
            (
                reason::ANCESTOR_NOT_BOUND,
                "another DestinationRule counts for the host, or this one is not exported"
                    .to_owned(),
            )
        };
        let condition = findings.condition(&attached, otherwise, object.generation);
        Some(vec![super::conditions(
            ObjectKind::DestinationRule,
            name,
            vec![condition],
        )])
    }

    /// Secrets that DestinationRules name, and the proxies that need them.
    pub(super) fn destination_certificates(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut all = Vec::new();
        for (name, object) in &self.networking.destination_rules {
            if !tls::names_secrets(&object.spec) {
                continue;
            }
            for service in self.services_covered(&self.qualified(&object.spec.host, &name.0)) {
                for proxy in self.users_of(&service) {
                    let Some((client, _)) = proxy.split_once('/') else {
                        continue;
                    };
                    let chosen = self.chosen_rules(&service, client);
                    if !chosen.iter().any(|(chosen, _)| *chosen == name) {
                        continue;
                    }
                    // A proxy may have the Secrets of its own namespace.
                    let secrets = tls::credentials(&object.spec);
                    let secrets = secrets.map(|name| super::secrets::credential(name, client));
                    all.extend(secrets.map(|secret| (secret, proxy.clone())));
                }
            }
        }
        all
    }

    /// Names of Secrets in rules, without namespace.
    pub(super) fn rule_credentials(&self) -> impl Iterator<Item = &str> {
        let rules = self.networking.destination_rules.values();
        rules.flat_map(|object| tls::credentials(&object.spec))
    }

    /// Services whose rules name Secrets.
    pub(super) fn destinations_with_secrets(&self) -> Vec<ServiceKey> {
        let rules = self.networking.destination_rules.iter();
        let naming =
            rules.filter(|(_, object)| tls::all_credentials(&object.spec).next().is_some());
        let hosts = naming.map(|(name, object)| self.qualified(&object.spec.host, &name.0));
        hosts
            .flat_map(|host| self.services_covered(&host))
            .collect()
    }
}

/// Whether only its own namespace may see an object.
fn only_own(export_to: &[String], own: &str) -> bool {
    matches!(export_to, [only] if only == "." || only == own)
}

/// Ports with a policy of their own: of all the service has, so that what is left out at a port is a default there.
fn by_port(
    service: &ServiceFacts,
    mut policy: impl FnMut(u16) -> TrafficPolicy,
) -> Vec<PortPolicy> {
    service
        .ports
        .iter()
        .map(|port| PortPolicy {
            port: port.number,
            policy: policy(port.number),
        })
        .collect()
}
