//! The rules of the protocol, all in one place. What breaks one is refused before anything else looks at it: a proxy must
//! never guess what a message means, because the next one may guess otherwise.
//!
//! [`wire`] and [`chunks`] judge the bytes of HTTP/1 before the HTTP library parses them; [`frames`] counts what HTTP/2 clients
//! waste; [`head`] judges parsed requests of both and brings them into one form. [`head::hop_by_hop`] takes off what is meant
//! for the next hop only.

pub(crate) mod chunks;
pub(crate) mod frames;
pub mod head;
pub(crate) mod wire;

use ::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use ::http::{Response, StatusCode};

use crate::Flag;
use crate::body::Body;

/// What may be asked for, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers, in bytes.
    pub head: usize,
    /// Headers.
    pub headers: usize,
    /// The request's target, in bytes.
    pub target: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: crate::limits::MAX_HEAD,
            headers: crate::limits::MAX_HEADERS,
            target: crate::limits::MAX_TARGET,
        }
    }
}

/// A request that broke a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why} ({status})")]
pub struct Refusal {
    /// What the client gets.
    pub status: StatusCode,
    /// What it did.
    pub why: &'static str,
}

impl Refusal {
    pub(crate) const fn bad(why: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why,
        }
    }

    pub(crate) const fn too_large(why: &'static str) -> Self {
        Self {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            why,
        }
    }

    pub(crate) const fn too_long() -> Self {
        Self {
            status: StatusCode::URI_TOO_LONG,
            why: "the request's target is too long",
        }
    }

    pub(crate) const fn too_slow() -> Self {
        Self {
            status: StatusCode::REQUEST_TIMEOUT,
            why: "the request's head took too long",
        }
    }

    pub(crate) const fn unsupported(why: &'static str) -> Self {
        Self {
            status: StatusCode::NOT_IMPLEMENTED,
            why,
        }
    }

    /// For metrics and logs.
    pub const fn flag(&self) -> Flag {
        Flag::DPE
    }

    /// The answer; the connection closes after it.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(self.why));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// The answer as bytes, for a request that never became one.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or_default();
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
            self.status.as_u16(),
            self.why.len(),
            self.why
        )
        .into_bytes()
    }
}
