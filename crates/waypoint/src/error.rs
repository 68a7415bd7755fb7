//! What can go wrong with the process.

use std::io;

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment.
    #[error("environment variable {name}={value:?}: {why}")]
    Option {
        /// Which.
        name: &'static str,
        /// As it is.
        value: String,
        /// What is wrong.
        why: String,
    },
    /// The environment.
    #[error(
        "environment variable {name} is not set; the pod's template sets it from the pod's own metadata"
    )]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// The machine.
    #[error("cannot {what}: {source}")]
    Resource {
        /// What was tried.
        what: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// A port of ours.
    #[error(
        "cannot listen on port {port} ({what}): {source}; does another process in this pod use it?"
    )]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        port: u16,
        /// What happened.
        source: io::Error,
    },
    /// Ourselves.
    #[error("worker {0} failed; see the log before this line")]
    Worker(usize),
}
