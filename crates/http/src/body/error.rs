//! Why a body did not come whole.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

/// What went wrong with a body, and who erred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before the body did.
    #[error("the peer went away in the middle of the body")]
    Gone,
    /// HTTP/2.
    #[error("the peer reset the stream in the middle of the body (HTTP/2 code {0})")]
    Reset(u32),
    /// The peer erred.
    #[error("the peer broke the protocol in the body: {0}")]
    Protocol(Arc<str>),
    /// The peer is slow or gone.
    #[error("nothing more of the body came within {0:?}")]
    Stalled(Duration),
    /// The request took too long.
    #[error("the body was not at its end at the deadline")]
    Deadline,
    /// A limit of ours or of the user.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// We gave up: what was behind the body failed, and says so itself.
    #[error("whoever wrote the body gave up before its end")]
    Aborted,
    /// Another attempt reads the body now.
    #[error("another attempt to send the request has taken over its body")]
    Superseded,
    /// A mirror.
    #[error("the copy lagged more than {0} bytes behind")]
    Lagging(usize),
}

impl BodyError {
    pub(crate) fn from_hyper(error: &hyper::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(own) = cause.downcast_ref::<Self>() {
                return own.clone();
            }
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                return match h2.reason() {
                    Some(_) if h2.is_go_away() => Self::Gone,
                    Some(reason) => Self::Reset(reason.into()),
                    None => Self::Gone,
                };
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::InvalidData
            {
                return Self::Protocol(io.to_string().into());
            }
            source = cause.source();
        }
        if error.is_parse() {
            Self::Protocol(error.to_string().into())
        } else {
            Self::Gone
        }
    }
}
