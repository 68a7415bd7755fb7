//! Telling the user what happens, without printing here.

use std::time::Duration;

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step begins; an earlier one has ended.
    Step(String),
    /// The step took this long.
    Done {
        /// What the step was.
        step: String,
        /// How long it took.
        took: Duration,
    },
    /// While waiting: what is still missing. Repeated only when the text changes.
    Waiting(String),
    /// Worth knowing, no failure.
    Note(String),
}

/// Receives events in order.
pub trait Progress: Sync {
    /// Called at once for each event; must not block for long.
    fn event(&self, event: Event);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
