//! HTTP routing as a decision: match, split, rewrite, redirect, fault, retry, mirror.
//!
//! [`resource`] is what the control plane tells a waypoint or gateway: one resource per object of a user, children point to
//! their parents, so that one changed weight is one small message. [`Table`] holds the routes and finds the rule for a request;
//! [`decide`] says what becomes of it; [`canonical`] gives path, host and method their one form before anybody looks at them.
//! Pure: no async, no sockets, no clock, no dice.

pub mod balance;
pub mod canonical;
mod compiled;
pub mod decide;
mod error;
mod host;
mod limits;
pub mod rate;
mod request;
pub mod resource;
mod table;
pub mod text;

pub use compiled::{
    Answer, CompiledPathRewrite, CompiledRedirect, CompiledRewrite, CompiledRule, Edits, Filters,
    MatchedPath, ReplacementText,
};
pub use error::{PatternError, RouteError, RuleFault};
pub use request::{Claims, Headers, RequestHead, Values, parameters};
pub use table::{Lookup, Routed, Scope, StreamFound, StreamLookup, StreamRequest, Table};

#[cfg(test)]
mod tests;
