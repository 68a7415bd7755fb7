//! All policies that a proxy knows, and the evaluation.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::{HashMap, OrdMap};
use tulle_model::{Identity, Workload};

use crate::matching::{Facts, matching_rule};
use crate::policy::{Action, Policy, Scope};
use crate::verdict::{AllowedBy, Cause, DryRun, Reason, Verdict};

/// What is asked: may this connection reach its destination?
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The peer's identity as its certificate proves it; `None` for plaintext.
    pub source: Option<&'a Identity>,
    /// The peer's address.
    pub source_ip: IpAddr,
    /// Address and port of the destination workload.
    pub destination: SocketAddr,
}

type ByKey = OrdMap<Arc<str>, Arc<Policy>>;

/// The table of policies. Cheap to clone: clones share structure.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    all: HashMap<Arc<str>, Arc<Policy>>,
    global: ByKey,
    namespaces: HashMap<Arc<str>, ByKey>,
}

impl Policies {
    /// Adds a policy, or replaces the one of the same namespace and name.
    pub fn insert(&mut self, policy: Policy) {
        let key: Arc<str> = policy.key().into();
        self.remove(&key);
        let policy = Arc::new(policy);
        match policy.scope {
            Scope::Global => {
                self.global.insert(key.clone(), policy.clone());
            }
            Scope::Namespace => {
                self.namespaces
                    .entry(policy.namespace.clone())
                    .or_default()
                    .insert(key.clone(), policy.clone());
            }
            Scope::Workload => {}
        }
        self.all.insert(key, policy);
    }

    /// Removes a policy by `namespace/name`; false when it was not there.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some(old) = self.all.remove(key) else {
            return false;
        };
        match old.scope {
            Scope::Global => {
                self.global.remove(key);
            }
            Scope::Namespace => {
                if let Some(policies) = self.namespaces.get_mut(&old.namespace) {
                    policies.remove(key);
                    if policies.is_empty() {
                        self.namespaces.remove(&old.namespace);
                    }
                }
            }
            Scope::Workload => {}
        }
        true
    }

    /// A policy by `namespace/name`.
    pub fn get(&self, key: &str) -> Option<&Arc<Policy>> {
        self.all.get(key)
    }

    /// All policies, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.all.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether `connection` may reach `destination`.
    ///
    /// DENY first, then ALLOW; of each the mesh's policies, the namespace's, and those that the workload names. A
    /// named policy that is not in the table refuses the connection: the control plane sends policies before the
    /// workloads that name them, so this is a moment at most.
    pub fn evaluate(&self, destination: &Workload, connection: &Connection<'_>) -> Verdict {
        let facts = Facts {
            source: connection.source,
            source_ip: connection.source_ip.to_canonical(),
            destination_ip: connection.destination.ip().to_canonical(),
            destination_port: connection.destination.port(),
        };
        let mut dry_run = Vec::new();
        if let Some(cause) = self.denial(destination, &facts, &mut dry_run) {
            return Verdict::Denied(Reason { cause, dry_run });
        }
        let mut allow_exists = false;
        for (key, policy) in self.concerning(destination) {
            if policy.action != Action::Allow {
                continue;
            }
            let rule = match policy.unenforceable {
                Some(_) => None,
                None => matching_rule(policy, &facts),
            };
            if policy.dry_run {
                note_dry_run(&mut dry_run, key, policy.action, rule);
                continue;
            }
            allow_exists = true;
            if let Some(rule) = rule {
                let policy = Some((key.clone(), rule));
                return Verdict::Allowed(AllowedBy { policy, dry_run });
            }
        }
        if !allow_exists {
            return Verdict::Allowed(AllowedBy {
                policy: None,
                dry_run,
            });
        }
        let considered = self.allow_policies(destination);
        let cause = Cause::NoAllow { considered };
        Verdict::Denied(Reason { cause, dry_run })
    }

    fn denial(
        &self,
        destination: &Workload,
        facts: &Facts<'_>,
        dry_run: &mut Vec<DryRun>,
    ) -> Option<Cause> {
        let missing = destination
            .policies
            .iter()
            .find(|key| !self.all.contains_key(*key));
        if let Some(key) = missing {
            return Some(Cause::NotKnown {
                policy: key.clone(),
            });
        }
        for (key, policy) in self.concerning(destination) {
            if policy.action != Action::Deny {
                continue;
            }
            let rule = match policy.unenforceable {
                Some(_) => None,
                None => matching_rule(policy, facts),
            };
            if policy.dry_run {
                if policy.unenforceable.is_some() {
                    dry_run.push(DryRun {
                        policy: key.clone(),
                        action: Action::Deny,
                        rule: None,
                    });
                } else {
                    note_dry_run(dry_run, key, policy.action, rule);
                }
                continue;
            }
            if let Some(why) = &policy.unenforceable {
                let (policy, why) = (key.clone(), why.clone());
                return Some(Cause::Unenforceable { policy, why });
            }
            if let Some(rule) = rule {
                return Some(Cause::Rule {
                    policy: key.clone(),
                    rule,
                });
            }
        }
        None
    }

    /// Policies that concern a workload, each once: by scope, then by name.
    fn concerning<'a>(
        &'a self,
        destination: &'a Workload,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Policy>)> {
        let by_scope = self.global.iter().chain(
            self.namespaces
                .get(&destination.namespace)
                .into_iter()
                .flatten(),
        );
        let by_name = destination
            .policies
            .iter()
            .filter_map(|key| self.all.get_key_value(key))
            .filter(|(_, policy)| !covered_by_scope(policy, destination));
        by_scope.chain(by_name)
    }

    fn allow_policies(&self, destination: &Workload) -> Vec<Arc<str>> {
        self.concerning(destination)
            .filter(|(_, policy)| policy.action == Action::Allow && !policy.dry_run)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

fn covered_by_scope(policy: &Policy, destination: &Workload) -> bool {
    match policy.scope {
        Scope::Global => true,
        Scope::Namespace => policy.namespace == destination.namespace,
        Scope::Workload => false,
    }
}

fn note_dry_run(hits: &mut Vec<DryRun>, key: &Arc<str>, action: Action, rule: Option<usize>) {
    if rule.is_some() {
        hits.push(DryRun {
            policy: key.clone(),
            action,
            rule,
        });
    }
}
