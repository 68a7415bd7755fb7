//! Authorization of requests: what waypoints and gateways enforce.
//!
//! Istio's order: CUSTOM policies that match name providers to ask; then a DENY policy that matches refuses; then, if there is
//! any ALLOW policy, one of them must match. AUDIT and dry-run policies are only noted. Clauses of a rule AND, matches of a
//! clause OR, tests of a match AND, values of a test OR; each test has negated values.
//!
//! What cannot be understood refuses: an undecodable policy denies every request to its targets.

mod matching;
mod request;
mod resource;
mod table;
mod template;
mod verdict;

pub use request::{Headers, Http, Request};
pub use resource::{
    Action, Clause, HttpPolicy, Match, NetAttribute, PathMatch, Rule, Test, TextAttribute,
    TextMatch,
};
pub use table::HttpPolicies;
pub use template::{PathTemplate, TemplateError};
pub use verdict::{Ask, Cause, Custom, Decision, Found, Note, Outcome};

#[cfg(test)]
mod tests;
