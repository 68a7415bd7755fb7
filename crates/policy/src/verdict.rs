//! The answer and its reason.

use std::fmt;
use std::sync::Arc;

use crate::limits::NAMES_IN_REASON;
use crate::policy::Action;

/// Whether a connection may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed(AllowedBy),
    /// It may not.
    Denied(Reason),
}

impl Verdict {
    /// It may.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// What dry-run policies would have done.
    pub fn dry_run(&self) -> &[DryRun] {
        match self {
            Self::Allowed(allowed) => &allowed.dry_run,
            Self::Denied(reason) => &reason.dry_run,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(allowed) => allowed.fmt(f),
            Self::Denied(reason) => reason.fmt(f),
        }
    }
}

/// Why a connection may pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedBy {
    /// Key of the ALLOW policy and index of its rule; `None` when no ALLOW policy concerns the workload.
    pub policy: Option<(Arc<str>, usize)>,
    /// What dry-run policies would have done.
    pub dry_run: Vec<DryRun>,
}

impl fmt::Display for AllowedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.policy {
            Some((policy, rule)) => write!(f, "allowed by policy {policy} rule {rule}"),
            None => f.write_str("allowed: no allow policy concerns the destination"),
        }
    }
}

/// Why a connection may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What decided.
    pub cause: Cause,
    /// What dry-run policies would have done.
    pub dry_run: Vec<DryRun>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// What decided a refusal. Rules count from 0, in the order of the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule of a DENY policy matched.
    Rule {
        /// Key of the policy.
        policy: Arc<str>,
        /// Index of the rule.
        rule: usize,
    },
    /// There are ALLOW policies, and none matched.
    NoAllow {
        /// Keys of the policies that were considered, at least one.
        considered: Vec<Arc<str>>,
    },
    /// The workload names a policy that this proxy has not received.
    NotKnown {
        /// Key of the policy.
        policy: Arc<str>,
    },
    /// A DENY policy cannot be evaluated, and so denies everything in its scope.
    Unenforceable {
        /// Key of the policy.
        policy: Arc<str>,
        /// What is not understood.
        why: Arc<str>,
    },
}

impl Cause {
    /// The policy that decided; `None` when no policy matched.
    pub fn policy(&self) -> Option<&Arc<str>> {
        match self {
            Self::Rule { policy, .. }
            | Self::NotKnown { policy }
            | Self::Unenforceable { policy, .. } => Some(policy),
            Self::NoAllow { .. } => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { policy, rule } => write!(f, "denied by policy {policy} rule {rule}"),
            Self::NoAllow { considered } => {
                f.write_str("no allow policy of ")?;
                for (index, name) in considered.iter().take(NAMES_IN_REASON).enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{name}")?;
                }
                if considered.len() > NAMES_IN_REASON {
                    write!(f, " and {} more", considered.len() - NAMES_IN_REASON)?;
                }
                f.write_str(" matched")
            }
            Self::NotKnown { policy } => write!(f, "policy {policy} is not known yet"),
            Self::Unenforceable { policy, why } => {
                write!(
                    f,
                    "denied by policy {policy}, which cannot be evaluated: {why}"
                )
            }
        }
    }
}

/// A dry-run policy that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Key of the policy.
    pub policy: Arc<str>,
    /// What it would have done.
    pub action: Action,
    /// Index of the rule; `None` when the policy cannot be evaluated.
    pub rule: Option<usize>,
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.action {
            Action::Allow => "allowed",
            Action::Deny => "denied",
        };
        write!(f, "would be {verb} by dry-run policy {}", self.policy)?;
        match self.rule {
            Some(rule) => write!(f, " rule {rule}"),
            None => f.write_str(", which cannot be evaluated"),
        }
    }
}
