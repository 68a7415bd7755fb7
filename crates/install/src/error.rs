//! What can go wrong, whose fault it is, and what to do.

use std::fmt;
use std::time::Duration;

use tulle_cluster::describe_rights;

use crate::values::SetError;

/// A failed installation or removal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The values are not usable.
    #[error(transparent)]
    Values(#[from] SetError),
    /// The API server failed or refused.
    #[error(transparent)]
    Cluster(#[from] tulle_cluster::Error),
    /// An object could not be applied; the ones before it were.
    #[error("cannot apply {object}: {source}")]
    Apply {
        /// Kind, namespace and name.
        object: String,
        /// Why not.
        source: tulle_cluster::Error,
    },
    /// The cluster is too old.
    #[error(
        "this cluster runs Kubernetes {found}; the mesh needs 1.{minimum} or newer. Upgrade the cluster"
    )]
    TooOld {
        /// What the server says.
        found: String,
        /// The oldest that will do.
        minimum: u32,
    },
    /// The user may not do what is needed.
    #[error("{0}")]
    Rights(Missing),
    /// Something in the cluster belongs to another installation.
    #[error("{what} {why}")]
    Foreign {
        /// The object.
        what: String,
        /// Whose it is and what to do.
        why: String,
    },
    /// Not everything became ready in time. What was applied stays and may still become ready.
    #[error(
        "not ready after {} s:\n{what}\nWhat was installed stays and may still become ready: look with `tulle status`",
        after.as_secs()
    )]
    NotReady {
        /// One line per component with its reason.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Pods are still in the mesh; nothing was deleted.
    #[error(
        "{count} pods are still enrolled after {} s, e.g. {examples}: {why}. Nothing was deleted. Mend the node agent and try again, or take \
         the mesh away with --force: the redirect rules then stay in these pods, and they lose their network until they are restarted",
        after.as_secs()
    )]
    StillEnrolled {
        /// How many.
        count: usize,
        /// Some of them.
        examples: String,
        /// What the node agents look like.
        why: String,
        /// How long it was waited for.
        after: Duration,
    },
}

impl Error {
    /// The cluster may still get there: a deadline passed, nothing was refused.
    pub fn is_deadline(&self) -> bool {
        match self {
            Error::NotReady { .. } | Error::StillEnrolled { .. } => true,
            Error::Cluster(error) | Error::Apply { source: error, .. } => {
                matches!(error, tulle_cluster::Error::Deadline { .. })
            }
            _ => false,
        }
    }
}

/// Rights that the user lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is to be done, e.g. `install the mesh`.
    pub doing: &'static str,
    /// The missing rights.
    pub rights: Vec<tulle_cluster::Right>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this user may not {}; missing: {}. Use a cluster administrator's context, or ask for these rights",
            self.doing,
            describe_rights(&self.rights)
        )
    }
}
