//! What the control plane sent and this proxy cannot use.

use std::sync::Arc;

use crate::resource::ObjectKey;

/// A route cannot be compiled. The proxy keeps the last good one and answers with a NACK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}, rule {rule}: {fault}")]
pub struct RouteError {
    /// The object of the user.
    pub object: ObjectKey,
    /// Which of its rules, counted from 0.
    pub rule: usize,
    /// What is wrong with it.
    pub fault: RuleFault,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// In a match or a rewrite.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// In a header filter.
    #[error(
        "header {name:?} with value {value:?} cannot be sent: use visible ASCII characters, and no pseudo header"
    )]
    Header {
        /// As written.
        name: Arc<str>,
        /// As written.
        value: Arc<str>,
    },
    /// A share of nothing.
    #[error("a fraction has the denominator 0: give a percentage, or leave the fraction out")]
    Fraction,
    /// A redirect that no client follows.
    #[error("{0} is not a redirect: use 301, 302, 303, 307 or 308")]
    RedirectStatus(u16),
    /// More rules, or matches of one rule, than any object can hold.
    #[error("more than 65,535 rules, or matches of one rule: make several routes of it")]
    TooMany,
}

/// A regular expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "regular expression {pattern:?}: {reason}. RE2 syntax is expected, without look-around and back-references"
)]
pub struct PatternError {
    /// As written.
    pub pattern: Arc<str>,
    /// Where and why, in one line.
    pub reason: String,
}
