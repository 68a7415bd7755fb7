//! Why the way to an endpoint failed, and what that means for logs, metrics and another attempt.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tulle_hbone::{OpenError, PoolError};
use tulle_identity::GetError;
use tulle_telemetry::{Flag, ResponseFlags};

use crate::destination::NoDestination;

/// Why there is no connection to an endpoint.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Destination(NoDestination),
    #[error("no endpoint of {0} may be used")]
    NoEndpoint(Arc<str>),
    #[error("no certificate of our own: {0}")]
    Certificate(GetError),
    #[error("cannot connect to {to}: {error}")]
    Dial {
        to: SocketAddr,
        error: Arc<io::Error>,
    },
    #[error("no connection to {to} within {after:?}")]
    DialTimeout { to: SocketAddr, after: Duration },
    #[error("cannot resolve {0}")]
    Resolve(Arc<str>),
    #[error("{0}")]
    Tunnel(tulle_hbone::Error),
    #[error("{0}")]
    Open(OpenError),
    #[error("TLS to the endpoint: {0}")]
    Tls(Arc<str>),
    #[error("the limit of connections is reached: {0}")]
    Overflow(tulle_route::balance::Refused),
}

impl Failure {
    /// For requests.
    pub(crate) fn flag(&self) -> Flag {
        match self {
            Self::Destination(_) => Flag::NoCluster,
            Self::NoEndpoint(_) => Flag::NoHealthyUpstream,
            Self::Resolve(_) => Flag::DnsFailure,
            Self::Overflow(_) => Flag::UpstreamOverflow,
            _ => Flag::UpstreamConnectFailure,
        }
    }

    /// For connections.
    pub(crate) fn flags(&self) -> ResponseFlags {
        match self {
            Self::Certificate(_) => ResponseFlags::Identity,
            Self::Tls(_) => ResponseFlags::TlsFailure,
            Self::Tunnel(tulle_hbone::Error::Tls(_))
            | Self::Open(OpenError::Tunnel(tulle_hbone::Error::Tls(_))) => {
                ResponseFlags::TlsFailure
            }
            Self::Tunnel(_) => ResponseFlags::Http2Handshake,
            _ => ResponseFlags::Connect,
        }
    }

    /// Whether another endpoint may do better.
    pub(crate) fn another_may_answer(&self) -> bool {
        matches!(
            self,
            Self::Dial { .. }
                | Self::DialTimeout { .. }
                | Self::Resolve(_)
                | Self::Tunnel(_)
                | Self::Open(_)
                | Self::Tls(_)
        )
    }
}

impl From<PoolError<Failure>> for Failure {
    fn from(error: PoolError<Failure>) -> Self {
        match error {
            PoolError::Connect(failure) => (*failure).clone(),
            PoolError::Open(error) => Self::Open(error),
        }
    }
}
