//! What can go wrong.

use std::net::SocketAddr;
use std::sync::Arc;

/// Why a query could not be forwarded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ForwardError {
    /// There is nobody to ask.
    #[error("no resolver is configured: /etc/resolv.conf of the proxy names none")]
    NoResolver,
    /// A resolver cannot be reached.
    #[error("resolver {server}: {error}")]
    Io {
        /// Which.
        server: SocketAddr,
        /// Why not.
        error: Arc<std::io::Error>,
    },
    /// A resolver does not answer.
    #[error("resolver {server} does not answer within {after:?}; does a NetworkPolicy block DNS?")]
    Silent {
        /// Which.
        server: SocketAddr,
        /// How long was waited.
        after: std::time::Duration,
    },
    /// A resolver answers something else than was asked.
    #[error("resolver {server} answers something else than was asked")]
    Nonsense {
        /// Which.
        server: SocketAddr,
    },
}

/// Why a name has no address.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookupError {
    /// It is no name.
    #[error("{0:?} is no DNS name")]
    Name(Arc<str>),
    /// The resolvers know no address.
    #[error("{name} has no address (the resolver says {code})")]
    NoAddress {
        /// The name.
        name: Arc<str>,
        /// What was said.
        code: Arc<str>,
    },
    /// Nobody could be asked.
    #[error("{name} cannot be looked up: {error}")]
    Forward {
        /// The name.
        name: Arc<str>,
        /// Why not.
        error: ForwardError,
    },
    /// Too many at once.
    #[error(
        "{name} is not looked up: {} lookups are under way on this worker",
        crate::limits::LOOKUPS_AT_ONCE
    )]
    Full {
        /// The name.
        name: Arc<str>,
    },
}
