//! Answers and their reasons.

use std::fmt;
use std::sync::Arc;

use super::resource::Action;
use crate::limits::NAMES_IN_REASON;

/// Whether anybody else must be asked before anything else (CUSTOM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Custom {
    /// These, in this order; each of them must allow the request. Often none.
    Ask(Vec<Ask>),
    /// A CUSTOM policy cannot be evaluated.
    Refused(Cause),
}

/// Somebody to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Name of the extension provider.
    pub provider: Arc<str>,
    /// The policy that says so.
    pub policy: Arc<str>,
    /// Its rule that matched.
    pub rule: usize,
}

/// What DENY and ALLOW policies say, and what was noted on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass.
    pub outcome: Outcome,
    /// AUDIT policies that matched, and what dry-run policies would have done.
    pub notes: Vec<Note>,
}

/// Whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may: by this policy and rule, or because no ALLOW policy concerns it.
    Allowed(Option<(Arc<str>, usize)>),
    /// It may not.
    Denied(Cause),
}

impl Decision {
    /// It may pass.
    pub fn is_allowed(&self) -> bool {
        matches!(self.outcome, Outcome::Allowed(_))
    }
}

/// What decided a refusal. Rules count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule of a DENY policy matched.
    Rule {
        /// `namespace/name`.
        policy: Arc<str>,
        /// Index of the rule.
        rule: usize,
    },
    /// There are ALLOW policies, and none matched.
    NoAllow {
        /// Those that were considered, at least one.
        considered: Vec<Arc<str>>,
    },
    /// A policy cannot be evaluated, and so refuses everything to its targets.
    Unenforceable {
        /// `namespace/name`.
        policy: Arc<str>,
        /// What is not understood.
        why: Arc<str>,
    },
}

impl Cause {
    /// The policy that decided; `None` when none matched.
    pub fn policy(&self) -> Option<&Arc<str>> {
        match self {
            Self::Rule { policy, .. } | Self::Unenforceable { policy, .. } => Some(policy),
            Self::NoAllow { .. } => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { policy, rule } => write!(f, "denied by policy {policy} rule {rule}"),
            Self::NoAllow { considered } => {
                let names: Vec<&str> = considered
                    .iter()
                    .take(NAMES_IN_REASON)
                    .map(|name| &**name)
                    .collect();
                write!(f, "no allow policy of {}", names.join(", "))?;
                if considered.len() > NAMES_IN_REASON {
                    write!(f, " and {} more", considered.len() - NAMES_IN_REASON)?;
                }
                f.write_str(" matched")
            }
            Self::Unenforceable { policy, why } => {
                write!(
                    f,
                    "denied by policy {policy}, which cannot be evaluated: {why}"
                )
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(Some((policy, rule))) => {
                write!(f, "allowed by policy {policy} rule {rule}")
            }
            Self::Allowed(None) => f.write_str("allowed: no allow policy concerns the request"),
            Self::Denied(cause) => cause.fmt(f),
        }
    }
}

/// A policy that decides nothing, and what it would have said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `namespace/name`.
    pub policy: Arc<str>,
    /// Its action: `Audit`, or that of a dry-run policy.
    pub action: Action,
    /// Whether and why it matched.
    pub found: Found,
}

/// What a policy that decides nothing would have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its rule of this index matched.
    Rule(usize),
    /// It is a dry-run ALLOW policy, and none of these matched.
    Nothing,
    /// It cannot be evaluated.
    Unenforceable,
}

impl Note {
    /// In one word, for metrics.
    pub fn result(&self) -> &'static str {
        match (&self.action, self.found) {
            (Action::Audit, _) => "audited",
            (Action::Deny, _) => "would_be_denied",
            (Action::Allow, Found::Rule(_)) => "would_be_allowed",
            (Action::Allow, Found::Nothing | Found::Unenforceable) => "would_not_be_allowed",
            (Action::Custom { .. }, _) => "would_be_asked",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Audit => write!(f, "audited by policy {}", self.policy)?,
            Action::Allow if self.found == Found::Nothing => {
                return write!(
                    f,
                    "would not be allowed: no rule of dry-run policy {} matched",
                    self.policy
                );
            }
            Action::Allow => write!(f, "would be allowed by dry-run policy {}", self.policy)?,
            Action::Deny => write!(f, "would be denied by dry-run policy {}", self.policy)?,
            Action::Custom { provider } => {
                write!(
                    f,
                    "provider {provider} would be asked by dry-run policy {}",
                    self.policy
                )?;
            }
        }
        match self.found {
            Found::Rule(rule) => write!(f, " rule {rule}"),
            Found::Nothing => Ok(()),
            Found::Unenforceable => f.write_str(", which cannot be evaluated"),
        }
    }
}
