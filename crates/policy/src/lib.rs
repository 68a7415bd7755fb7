//! Authorization at layer 4: evaluate, explain, fail closed.
//!
//! Semantics are Istio's: DENY policies first, then ALLOW; without any ALLOW policy everything is allowed. Rules of a
//! policy OR, clauses of a rule AND, matches of a clause OR, fields of a match AND, values of a field OR; each field
//! has a negative twin. Where a policy cannot be understood ([`Policy::unenforceable`]) or is named but not known, the
//! answer is a refusal that says so.

mod limits;
mod matching;
mod policy;
mod table;
mod verdict;

pub use policy::{Action, Clause, Match, Policy, Rule, Scope, ServiceAccountMatch, StringMatch};
pub use table::{Connection, Policies};
pub use verdict::{AllowedBy, Cause, DryRun, Reason, Verdict};

#[cfg(test)]
mod tests;
