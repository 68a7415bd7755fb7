//! Authorization: evaluate, explain, fail closed. The root of this crate is layer 4; [`http`], [`jwt`] and [`observe`] are
//! what waypoints and gateways do with requests.
//!
//! Semantics are Istio's: DENY policies first, then ALLOW; without any ALLOW policy everything is allowed. Rules of a
//! policy OR, clauses of a rule AND, matches of a clause OR, fields of a match AND, values of a field OR; each field
//! has a negative twin. Where a policy cannot be understood ([`Policy::unenforceable`]) or is named but not known, the
//! answer is a refusal that says so.

pub mod expression;
pub mod http;
pub mod jwt;
mod limits;
mod matching;
pub mod observe;
mod policy;
pub mod settings;
mod table;
mod target;
mod verdict;

pub use policy::{Action, Clause, Match, Policy, Rule, Scope, ServiceAccountMatch, StringMatch};
pub use table::{Connection, Policies};
pub use target::{Envelope, Target};
pub use verdict::{AllowedBy, Cause, DryRun, Reason, Verdict};

#[cfg(test)]
mod tests;
