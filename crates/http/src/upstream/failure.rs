//! Why a request got no answer, what the client is told, and whether it may be sent again.

use std::error::Error as _;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ::http::StatusCode;

use super::seats::Full;
use crate::Flag;
use crate::body::BodyError;

/// A request without an answer.
#[derive(Debug)]
pub struct Failure<E> {
    /// What happened.
    pub cause: Cause<E>,
    /// Whether it may be sent again.
    pub retry: Retry,
    /// The connection had served a request before: it may have ended on its own account just then.
    pub reused: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Cause<E> {
    /// No connection: everybody who waited for it gets the same reason.
    Connect(Rc<E>),
    /// No connection in time.
    ConnectDeadline(Duration),
    /// The destination's limit of connections, or of requests that wait for one, is reached.
    Overflow(Full),
    /// No answer in time.
    Deadline,
    /// The connection ended before the answer.
    Closed,
    /// The upstream refused the stream, or the connection that it would have been on, unseen (HTTP/2).
    Refused,
    /// The upstream reset the stream, with this code (HTTP/2).
    Reset(u32),
    /// The upstream broke the protocol.
    Protocol(String),
    /// The request's own body failed: the client's fault, or a deadline's.
    Body(BodyError),
    /// The request cannot be said in this protocol.
    Unsupported(&'static str),
}

/// Whether a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nobody has done anything about it.
    Safe,
    /// Nobody knows: only if doing it twice is as good as once.
    Idempotent,
    /// It is over.
    Never,
}

impl<E> Failure<E> {
    pub(super) fn of(cause: Cause<E>) -> Self {
        let retry = match &cause {
            Cause::Connect(_) | Cause::ConnectDeadline(_) | Cause::Refused => Retry::Safe,
            Cause::Deadline | Cause::Closed | Cause::Reset(_) | Cause::Protocol(_) => {
                Retry::Idempotent
            }
            Cause::Overflow(_) | Cause::Body(_) | Cause::Unsupported(_) => Retry::Never,
        };
        Self {
            cause,
            retry,
            reused: false,
        }
    }

    /// From the HTTP library's words. `wrote`: something of the request may have reached the upstream.
    pub(super) fn from_hyper(error: &hyper::Error, wrote: bool) -> Self {
        let mut failure = Self::of(cause(error));
        if !wrote && failure.retry == Retry::Idempotent {
            failure.retry = Retry::Safe;
        }
        failure
    }

    pub(super) fn on_reused(mut self, reused: bool) -> Self {
        self.reused = reused;
        self
    }

    /// As metrics and logs say it.
    pub fn flag(&self) -> Flag {
        match &self.cause {
            Cause::Connect(_) | Cause::ConnectDeadline(_) => Flag::UF,
            Cause::Overflow(_) => Flag::UO,
            Cause::Deadline => Flag::UT,
            Cause::Closed => Flag::UC,
            Cause::Refused | Cause::Reset(_) => Flag::UR,
            Cause::Protocol(_) => Flag::UPE,
            Cause::Body(BodyError::Deadline) => Flag::DT,
            Cause::Body(BodyError::Protocol(_)) => Flag::DPE,
            Cause::Body(_) => Flag::DC,
            Cause::Unsupported(_) => Flag::DPE,
        }
    }

    /// What the client gets.
    pub fn status(&self) -> StatusCode {
        match &self.cause {
            Cause::Connect(_)
            | Cause::ConnectDeadline(_)
            | Cause::Overflow(_)
            | Cause::Closed
            | Cause::Refused
            | Cause::Reset(_) => StatusCode::SERVICE_UNAVAILABLE,
            Cause::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Cause::Protocol(_) => StatusCode::BAD_GATEWAY,
            Cause::Body(BodyError::Stalled(_) | BodyError::Deadline) => StatusCode::REQUEST_TIMEOUT,
            Cause::Body(BodyError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Cause::Body(_) => StatusCode::BAD_REQUEST,
            Cause::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// What the client may know, in the words that Istio's users look for.
    pub fn text(&self) -> &'static str {
        match &self.cause {
            Cause::Connect(_) => {
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
            }
            Cause::ConnectDeadline(_) => {
                "upstream connect error or disconnect/reset before headers. reset reason: connection timeout"
            }
            Cause::Overflow(_) => {
                "upstream connect error or disconnect/reset before headers. reset reason: overflow"
            }
            Cause::Closed => {
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
            }
            Cause::Refused | Cause::Reset(_) => {
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset"
            }
            Cause::Protocol(_) => {
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error"
            }
            Cause::Deadline => "upstream request timeout",
            Cause::Body(_) => "the request's body did not come whole",
            Cause::Unsupported(what) => what,
        }
    }

    /// The connection could not be made (`connect-failure`).
    pub fn is_connect_failure(&self) -> bool {
        matches!(self.cause, Cause::Connect(_) | Cause::ConnectDeadline(_))
    }

    /// The upstream refused the stream (`refused-stream`).
    pub fn is_refused_stream(&self) -> bool {
        matches!(self.cause, Cause::Refused)
    }

    /// The upstream did not answer at all (`reset`): closed, reset, or too late.
    pub fn is_reset(&self) -> bool {
        !matches!(
            self.cause,
            Cause::Overflow(_) | Cause::Body(_) | Cause::Unsupported(_)
        )
    }
}

fn cause<E>(error: &hyper::Error) -> Cause<E> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(body) = cause.downcast_ref::<BodyError>() {
            return Cause::Body(body.clone());
        }
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return from_h2(h2);
        }
        source = cause.source();
    }
    if error.is_parse() || error.is_parse_too_large() {
        return Cause::Protocol(error.to_string());
    }
    Cause::Closed
}

fn from_h2<E>(error: &h2::Error) -> Cause<E> {
    match error.reason() {
        // A connection that leaves says which streams it has seen; the library gives this reason to the others only.
        Some(h2::Reason::REFUSED_STREAM) => Cause::Refused,
        Some(_) if error.is_go_away() && error.is_remote() => Cause::Refused,
        Some(reason) if error.is_reset() && error.is_remote() => Cause::Reset(reason.into()),
        Some(_) if error.is_library() => Cause::Protocol(error.to_string()),
        _ => Cause::Closed,
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Connect(error) => write!(f, "no connection to the upstream: {error}"),
            Cause::ConnectDeadline(after) => {
                write!(f, "no connection to the upstream within {after:?}")
            }
            Cause::Overflow(Full(why)) => f.write_str(why),
            Cause::Deadline => write!(f, "the upstream did not answer in time"),
            Cause::Closed => write!(f, "the upstream closed the connection before it answered"),
            Cause::Refused => write!(f, "the upstream refused the stream unseen"),
            Cause::Reset(code) => write!(
                f,
                "the upstream reset the stream before it answered (HTTP/2 code {code})"
            ),
            Cause::Protocol(what) => write!(f, "the upstream broke the protocol: {what}"),
            Cause::Body(error) => write!(f, "the request's body: {error}"),
            Cause::Unsupported(what) => f.write_str(what),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for Failure<E> {}
