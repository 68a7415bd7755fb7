//! PeerAuthentication to policies.
//!
//! The mode of a workload comes from the oldest resource without selector in the root namespace, then of its own
//! namespace, then the oldest that selects it; UNSET inherits. STRICT is one fixed policy that denies peers without
//! identity; exceptions by port give a policy of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_api::contract::{
    CONDITION_ZTUNNEL_ACCEPTED, POLICY_PEER_AUTHENTICATION_PREFIX, POLICY_STATIC_STRICT,
};
use tulle_api::security::{MutualTlsMode, PeerAuthentication};
use tulle_model::Interner;
use tulle_policy::{Action, Clause, Match, Policy, Rule, Scope, StringMatch};

use crate::condition::{Condition, reason};
use crate::labels::Labels;
use crate::service::created;

/// What a resource says about plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As the level above.
    Inherit,
    /// Accepts it (PERMISSIVE, and DISABLE, which in ambient is the same).
    Permissive,
    /// Refuses it.
    Strict,
}

/// What matters of a PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// Which workloads; empty means all of the namespace.
    pub selector: Labels,
    /// All ports.
    pub level: Level,
    /// Exceptions, by workload port.
    pub ports: BTreeMap<u16, Level>,
    /// Seconds since 1970; the oldest wins.
    pub created: i64,
    /// What its owner is told, if anything.
    pub condition: Option<Condition>,
}

impl PeerFacts {
    /// Takes what matters. What cannot be understood makes it STRICT without exceptions.
    pub fn new(resource: &PeerAuthentication, texts: &mut Interner) -> Self {
        let spec = &resource.spec;
        let selector = spec.selector.as_ref();
        let mut problems = Vec::new();
        let mut level = |mode: MutualTlsMode| match mode {
            MutualTlsMode::Unset => Level::Inherit,
            MutualTlsMode::Disable | MutualTlsMode::Permissive => Level::Permissive,
            MutualTlsMode::Strict => Level::Strict,
            MutualTlsMode::Unknown => {
                problems.push("an unknown mode".to_owned());
                Level::Strict
            }
        };
        let general = level(spec.mtls.unwrap_or_default().mode);
        let mut ports = BTreeMap::new();
        let mut bad_ports = Vec::new();
        for (port, mtls) in &spec.port_level_mtls {
            match port.parse::<u16>() {
                Ok(number) if number > 0 => {
                    ports.insert(number, level(mtls.mode));
                }
                _ => bad_ports.push(format!("{port:?} is no port")),
            }
        }
        problems.extend(bad_ports);
        problems.extend(
            spec.unknown
                .keys()
                .map(|name| format!("unknown field {name}")),
        );
        let condition = (!problems.is_empty()).then(|| Condition {
            kind: CONDITION_ZTUNNEL_ACCEPTED,
            status: false,
            reason: reason::INVALID,
            message: format!(
                "{}; until it is corrected, it counts as STRICT",
                problems.join(", ")
            ),
            observed_generation: resource.metadata.generation,
        });
        let invalid = condition.is_some();
        Self {
            selector: selector
                .map_or_else(Labels::default, |s| Labels::new(&s.match_labels, texts)),
            level: if invalid { Level::Strict } else { general },
            ports: if invalid { BTreeMap::new() } else { ports },
            created: created(&resource.metadata),
            condition,
        }
    }
}

/// The oldest of several resources, by name when they are equally old.
pub(crate) fn oldest<'a>(
    resources: impl Iterator<Item = (&'a Arc<str>, &'a PeerFacts)>,
) -> Option<(&'a Arc<str>, &'a PeerFacts)> {
    resources.min_by_key(|(name, facts)| (facts.created, *name))
}

/// Whether plaintext is refused, after each level had its say.
pub(crate) fn strict(above: bool, level: Level) -> bool {
    match level {
        Level::Inherit => above,
        Level::Permissive => false,
        Level::Strict => true,
    }
}

/// What a workload needs for one resource that selects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Permissive,
    Strict,
    Converted(Policy),
}

/// Effect of a resource that selects workloads, below a namespace that is strict or not.
pub(crate) fn effect(namespace: &str, name: &str, facts: &PeerFacts, above: bool) -> Effect {
    let general = strict(above, facts.level);
    let exceptions: Vec<u16> = facts
        .ports
        .iter()
        .filter(|(_, level)| strict(general, **level) != general)
        .map(|(port, _)| *port)
        .collect();
    if exceptions.is_empty() {
        return if general {
            Effect::Strict
        } else {
            Effect::Permissive
        };
    }
    let anonymous = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    let matched = if general {
        Match {
            not_destination_ports: exceptions,
            ..anonymous
        }
    } else {
        Match {
            destination_ports: exceptions,
            ..anonymous
        }
    };
    Effect::Converted(deny(namespace, &converted(name), matched))
}

/// Name of the policy made from a PeerAuthentication.
pub fn converted(name: &str) -> String {
    format!("{POLICY_PEER_AUTHENTICATION_PREFIX}{name}")
}

/// The fixed policy: peers without identity are denied.
pub(crate) fn static_strict(root_namespace: &str) -> Policy {
    let anonymous = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    deny(root_namespace, POLICY_STATIC_STRICT, anonymous)
}

fn deny(namespace: &str, name: &str, matched: Match) -> Policy {
    let rules = vec![Rule {
        clauses: vec![Clause {
            matches: vec![matched],
        }],
    }];
    Policy {
        rules,
        ..Policy::new(namespace, name, Scope::Workload, Action::Deny)
    }
}
