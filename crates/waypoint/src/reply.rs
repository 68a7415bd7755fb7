//! Answers that are made here.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tulle_http::body::Body;
use tulle_http::grpc;
use tulle_policy::http::Cause;
use tulle_telemetry::Flag;

/// An answer that is made here, and why.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The client sees it.
    pub(crate) text: String,
    /// For metrics and log.
    pub(crate) flag: Option<Flag>,
    /// For the log, in Envoy's words where it has some.
    pub(crate) details: Arc<str>,
    /// Further headers.
    pub(crate) headers: Box<HeaderMap>,
    /// For gRPC clients, when the status does not say it.
    pub(crate) grpc: Option<grpc::Code>,
    /// What the endpoint's connection failed of, or in words why a policy refused: for the log.
    pub(crate) upstream_failure: Option<Arc<str>>,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>, details: &str) -> Self {
        Self {
            status,
            text: text.into(),
            flag: None,
            details: details.into(),
            headers: Box::default(),
            grpc: None,
            upstream_failure: None,
        }
    }

    pub(crate) fn flagged(mut self, flag: Flag) -> Self {
        self.flag = Some(flag);
        self
    }

    /// Says in words why. Details are Envoy's, and of a request that no policy allows they name none.
    pub(crate) fn because(mut self, cause: &Cause) -> Self {
        self.upstream_failure = Some(cause.to_string().into());
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text, "invalid_request")
            .flagged(Flag::DownstreamProtocol)
            // What such a client means by what follows is anybody's guess.
            .header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// As an answer; gRPC clients get it as gRPC says it.
    pub(crate) fn into_response(self, is_grpc: bool) -> Response<Body> {
        let mut response = match self.grpc {
            Some(code) => grpc::answer(code, &self.text),
            None => grpc::local_answer(is_grpc, self.status, &self.text),
        };
        response.headers_mut().extend(*self.headers);
        response
    }
}
