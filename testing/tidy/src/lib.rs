//! The house rules as functions over a list of sources and a list of packages, so that the rules are tested themselves.
//!
//! `tests/tidy.rs` applies them to this workspace; ARCHITECTURE.md says why each rule exists.

pub mod layers;
pub mod sources;

/// One broken rule: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File or crate.
    pub place: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl Finding {
    /// A finding at a place.
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
        }
    }
}
