//! What can go wrong with a tunnel, and who erred.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tulle_identity::channel::HandshakeError;

/// Why a tunnel could not be made, or ended. Cheap to clone: every stream of the tunnel gets the same reason.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// TLS failed: certificate, identity, protocol.
    #[error(transparent)]
    Tls(Arc<HandshakeError>),
    /// The peer was silent for too long.
    #[error(
        "the peer did not finish {stage} within {after:?}; is it overloaded, or is something other than HBONE listening there?"
    )]
    Deadline {
        /// What we waited for.
        stage: &'static str,
        /// How long.
        after: Duration,
    },
    /// The peer's socket failed (reset, unreachable, timed out).
    #[error("the tunnel's connection failed: {0}")]
    Io(Arc<io::Error>),
    /// The peer broke HTTP/2 or TLS, or flooded us; we closed the tunnel.
    #[error("the peer broke the protocol: {what} (HTTP/2 code {code})")]
    Protocol {
        /// The HTTP/2 error code we sent.
        code: u32,
        /// What it did.
        what: &'static str,
    },
    /// The peer closed the tunnel with an error of its own.
    #[error("the peer closed the tunnel with HTTP/2 code {code}")]
    GoAway {
        /// Its HTTP/2 error code.
        code: u32,
    },
    /// No answer to PING.
    #[error("the peer did not answer a PING within {after:?}; its node may be gone")]
    PingTimeout {
        /// How long we waited.
        after: Duration,
    },
    /// Closed in order: the peer said so, or the last stream of a retired tunnel ended.
    #[error("the tunnel is closed")]
    Closed,
    /// We cut it: [`crate::server::Handle::abort`].
    #[error("the tunnel was aborted on this side")]
    Aborted,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl From<HandshakeError> for Error {
    fn from(error: HandshakeError) -> Self {
        Self::Tls(Arc::new(error))
    }
}

/// Why a CONNECT on a tunnel yielded no stream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The peer answered, with another status than 200 (401 denied by policy, 503 application unreachable, 400 malformed).
    #[error("the peer refused the connection with status {status}")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The peer reset the stream instead of answering.
    #[error("the peer reset the stream before it answered (HTTP/2 code {code})")]
    Reset {
        /// HTTP/2 error code.
        code: u32,
    },
    /// The tunnel is gone, or takes no new streams.
    #[error(transparent)]
    Tunnel(#[from] Error),
    /// No answer in time.
    #[error("the peer did not answer CONNECT within {0:?}")]
    Deadline(Duration),
    /// We asked for something that cannot be sent.
    #[error("the CONNECT request cannot be sent: {0}")]
    Invalid(&'static str),
    /// It failed when the application's first bytes were on their way already. Nobody knows whether they arrived, so they must
    /// not be sent to anybody else.
    #[error("{0}; the application's first bytes were on their way, so nobody else is asked")]
    Unsure(Box<OpenError>),
}
