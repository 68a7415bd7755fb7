//! All policies that a proxy knows, and the evaluation.

use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use super::matching::Compiled;
use super::request::Request;
use super::resource::{Action, HttpPolicy};
use super::verdict::{Ask, Cause, Custom, Decision, Found, Note, Outcome};
use crate::target::Target;

type ByName = OrdMap<Arc<str>, Arc<Compiled>>;

/// The table of policies. Cheap to clone: clones share structure.
#[derive(Clone, Debug, Default)]
pub struct HttpPolicies {
    all: HashMap<Arc<str>, Arc<Compiled>>,
    by_target: HashMap<Target, ByName>,
    /// Policies of which not even the targets are known: they refuse everything.
    unreadable: OrdMap<Arc<str>, Arc<str>>,
}

impl HttpPolicies {
    /// Adds a policy, or replaces the one of the same name.
    pub fn insert(&mut self, policy: HttpPolicy) {
        let name = policy.name.clone();
        self.remove(&name);
        let compiled = Arc::new(Compiled::new(policy));
        for target in &compiled.policy.targets {
            self.by_target
                .entry(target.clone())
                .or_default()
                .insert(name.clone(), compiled.clone());
        }
        self.all.insert(name, compiled);
    }

    /// Notes a policy of which not even the targets can be read: until it is replaced or removed, everything is refused.
    pub fn insert_unreadable(&mut self, name: &str, why: impl Into<Arc<str>>) {
        self.remove(name);
        self.unreadable.insert(name.into(), why.into());
    }

    /// Removes a policy by `namespace/name`; false when it was not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let unreadable = self.unreadable.remove(name).is_some();
        let Some(old) = self.all.remove(name) else {
            return unreadable;
        };
        for target in &old.policy.targets {
            if let Some(policies) = self.by_target.get_mut(target) {
                policies.remove(name);
                if policies.is_empty() {
                    self.by_target.remove(target);
                }
            }
        }
        true
    }

    /// A policy by `namespace/name`.
    pub fn get(&self, name: &str) -> Option<&HttpPolicy> {
        self.all.get(name).map(|compiled| &compiled.policy)
    }

    /// All policies that can be read, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &HttpPolicy> {
        self.all.values().map(|compiled| &compiled.policy)
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.unreadable.is_empty()
    }

    /// Whom to ask before anything else. `targets` are all of the request's.
    pub fn custom(&self, targets: &[Target], request: &Request<'_>) -> Custom {
        if let Some(cause) = self.unreadable() {
            return Custom::Refused(cause);
        }
        let mut ask: Vec<Ask> = Vec::new();
        for (name, compiled) in self.concerning(targets) {
            let Action::Custom { provider } = &compiled.policy.action else {
                continue;
            };
            if compiled.policy.dry_run {
                continue;
            }
            if let Some(why) = &compiled.broken {
                return Custom::Refused(Cause::Unenforceable {
                    policy: name.clone(),
                    why: why.clone(),
                });
            }
            if ask.iter().any(|ask| ask.provider == *provider) {
                continue;
            }
            if let Some(rule) = compiled.matching_rule(request) {
                ask.push(Ask {
                    provider: provider.clone(),
                    policy: name.clone(),
                    rule,
                });
            }
        }
        Custom::Ask(ask)
    }

    /// DENY, then ALLOW. `targets` are all of the request's.
    pub fn decide(&self, targets: &[Target], request: &Request<'_>) -> Decision {
        let mut notes = Vec::new();
        let outcome = match self.unreadable() {
            Some(cause) => Outcome::Denied(cause),
            None => self.outcome(targets, request, &mut notes),
        };
        Decision { outcome, notes }
    }

    fn outcome(&self, targets: &[Target], request: &Request<'_>, notes: &mut Vec<Note>) -> Outcome {
        let mut allows: Vec<(&Arc<str>, &Arc<Compiled>)> = Vec::new();
        let mut tried: Vec<Note> = Vec::new();
        let mut denied = None;
        for (name, compiled) in self.concerning(targets) {
            let policy = &compiled.policy;
            if policy.dry_run || policy.action == Action::Audit {
                let note = note(name, compiled, request);
                if policy.action == Action::Allow {
                    tried.push(note);
                } else if note.found != Found::Nothing {
                    notes.push(note);
                }
                continue;
            }
            match policy.action {
                Action::Allow => allows.push((name, compiled)),
                Action::Deny if denied.is_none() => denied = denial(name, compiled, request),
                _ => {}
            }
        }
        // Dry-run ALLOW policies are one question: if any of them matches, the others do not count.
        let matched = |note: &&Note| matches!(note.found, Found::Rule(_));
        match tried.iter().find(matched) {
            Some(note) => notes.push(note.clone()),
            None => notes.append(&mut tried),
        }
        if let Some(cause) = denied {
            return Outcome::Denied(cause);
        }
        for (name, compiled) in &allows {
            let rule = if compiled.broken.is_none() {
                compiled.matching_rule(request)
            } else {
                None
            };
            if let Some(rule) = rule {
                return Outcome::Allowed(Some(((*name).clone(), rule)));
            }
        }
        if allows.is_empty() {
            return Outcome::Allowed(None);
        }
        let considered = allows.into_iter().map(|(name, _)| name.clone()).collect();
        Outcome::Denied(Cause::NoAllow { considered })
    }

    fn unreadable(&self) -> Option<Cause> {
        let (policy, why) = self.unreadable.get_min()?;
        Some(Cause::Unenforceable {
            policy: policy.clone(),
            why: why.clone(),
        })
    }

    /// Policies of any of the targets, each once, by target and name.
    fn concerning<'a>(
        &'a self,
        targets: &'a [Target],
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Compiled>)> {
        targets.iter().enumerate().flat_map(move |(at, target)| {
            let earlier = targets.get(..at).unwrap_or_default();
            let policies = self.by_target.get(target).into_iter().flatten();
            policies.filter(move |(_, compiled)| {
                !compiled.policy.targets.iter().any(|t| earlier.contains(t))
            })
        })
    }
}

fn denial(name: &Arc<str>, compiled: &Compiled, request: &Request<'_>) -> Option<Cause> {
    let policy = name.clone();
    if let Some(why) = &compiled.broken {
        return Some(Cause::Unenforceable {
            policy,
            why: why.clone(),
        });
    }
    compiled
        .matching_rule(request)
        .map(|rule| Cause::Rule { policy, rule })
}

fn note(name: &Arc<str>, compiled: &Compiled, request: &Request<'_>) -> Note {
    let found = match (&compiled.broken, compiled.matching_rule(request)) {
        (Some(_), _) => Found::Unenforceable,
        (None, Some(rule)) => Found::Rule(rule),
        (None, None) => Found::Nothing,
    };
    Note {
        policy: name.clone(),
        action: compiled.policy.action.clone(),
        found,
    }
}
