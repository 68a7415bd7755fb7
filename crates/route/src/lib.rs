//! HTTP routing as a decision: match, split, rewrite, redirect, fault, retry, mirror.
//!
//! [`resource`] is what the control plane tells a waypoint or gateway: one resource per object of a user, children point to
//! their parents, so that one changed weight is one small message. The rest of this crate makes decisions of it. Pure: no async,
//! no sockets, no clock, no dice.

pub mod resource;
