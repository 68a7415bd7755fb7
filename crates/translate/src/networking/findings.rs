//! What stands in the way of doing what an object asks for, and the condition that says so.

use std::fmt::Display;

use tulle_api::contract::CONDITION_WAYPOINT_ACCEPTED;

use crate::condition::{Condition, reason};
use crate::limits::{PROBLEMS_SHOWN, SHOWN};

/// Problems of one object.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Cannot be understood; that part is left out.
    invalid: Vec<String>,
    /// Understood, but without effect here.
    unsupported: Vec<String>,
}

impl Findings {
    /// A part cannot be understood and is left out.
    pub(super) fn invalid(&mut self, path: impl Display, why: impl Display) {
        push(&mut self.invalid, format!("{path}: {why}"));
    }

    /// A part has no effect in this mesh.
    pub(super) fn unsupported(&mut self, path: impl Display, why: impl Display) {
        push(&mut self.unsupported, format!("{path}: {why}"));
    }

    /// All of it, for people.
    pub(super) fn texts(&self) -> Vec<String> {
        self.invalid
            .iter()
            .chain(&self.unsupported)
            .cloned()
            .collect()
    }

    /// What the owner is told: `attached` are the places where the object counts, `otherwise` is said when there are none.
    pub(super) fn condition(
        &self,
        attached: &[String],
        otherwise: impl FnOnce() -> (&'static str, String),
        generation: Option<i64>,
    ) -> Condition {
        let problems = self.texts();
        let (status, reason, message) = if attached.is_empty() {
            let (reason, mut message) = otherwise();
            if !problems.is_empty() {
                message = format!("{message}; {}", listed(&problems));
            }
            (false, reason, message)
        } else if !self.invalid.is_empty() {
            let message = format!(
                "attached to {}, without what is not valid: {}",
                listed(attached),
                listed(&problems)
            );
            (true, reason::PARTIALLY_INVALID, message)
        } else if !self.unsupported.is_empty() {
            let message = format!(
                "attached to {}, without what is not supported: {}",
                listed(attached),
                listed(&problems)
            );
            (true, reason::PARTIALLY_INVALID, message)
        } else {
            (
                true,
                reason::ACCEPTED,
                format!("attached to {}", listed(attached)),
            )
        };
        Condition {
            kind: CONDITION_WAYPOINT_ACCEPTED,
            status,
            reason,
            message,
            observed_generation: generation,
        }
    }
}

fn push(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

/// Some of many, for people.
pub(crate) fn listed(items: &[String]) -> String {
    let mut text = items
        .iter()
        .take(PROBLEMS_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > PROBLEMS_SHOWN {
        text += &format!(" and {} more", items.len() - PROBLEMS_SHOWN);
    }
    text
}

/// The beginning of a user's value.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
