//! The Kubernetes API: watches as change streams, apply, status, reviews, leases.
//!
//! Everything that speaks to an API server goes through this crate, so that failures are told in
//! one way ([`Error`]: who, which object, why, what to do) and every wait has a deadline. The
//! client library is re-exported as [`kube`]; other crates name its types through this path.

mod connect;
mod error;
mod key;
pub mod lease;
mod limits;
mod objects;
mod review;
mod wait;
mod watch;
mod write;

pub use connect::{Connect, connect};
pub use error::{Error, Result};
pub use key::Key;
pub use kube;
pub use kube::{Api, Client};
pub use objects::Objects;
pub use review::{Right, TokenIdentity, describe_rights, missing_rights, review_token};
pub use wait::{Progress, delete_and_wait, wait_for, wait_until};
pub use watch::{Change, Selection, Watch, served_version, watch, watch_kind};
pub use write::{
    FIELD_MANAGER, apply, apply_status, create, delete, get, list, merge_patch, merge_status,
};

#[cfg(test)]
mod fake;
