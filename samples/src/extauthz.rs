//! The external authorizer of Istio's samples: allows what carries `x-ext-authz: allow`. Asked by HTTP, or by gRPC as
//! `envoy.service.auth.v3.Authorization/Check`; the messages are our own words for the names and numbers that the wire fixes.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use prost::Message;

use crate::app::{Reply, Request, Settings, reply};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const ASKED: &str = "x-ext-authz";
const ALLOWED: &str = "allow";
const RESULT: &str = "x-ext-authz-check-result";
const RECEIVED: &str = "x-ext-authz-check-received";
const OVERRIDE: &str = "x-ext-authz-additional-header-override";
const OVERRIDDEN: &str = "grpc-additional-header-override-value";
const DENIED: &str = "denied by ext_authz for not found header `x-ext-authz: allow` in the request";
const TEXT: &str = "text/plain; charset=utf-8";
/// gRPC: a flag and a length come before each message.
const PREFIX: usize = 5;
/// gRPC: permission denied.
const PERMISSION_DENIED: i32 = 7;

/// Allows by header; asked by gRPC, also by the caller's service account when there is no header.
pub(crate) struct ExtAuthz {
    account: String,
}

impl ExtAuthz {
    pub(crate) fn new(settings: &dyn Settings) -> Self {
        let account = settings.get("ALLOW_SERVICE_ACCOUNT");
        Self {
            account: account.unwrap_or_else(|| "a".to_owned()),
        }
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
        if request.path == CHECK {
            self.check(&request.body)
        } else {
            by_http(request)
        }
    }

    fn check(&self, body: &Bytes) -> Reply {
        let kind = "application/grpc";
        let message = body.get(PREFIX..).unwrap_or_default();
        let Ok(asked) = CheckRequest::decode(message) else {
            return reply(StatusCode::BAD_REQUEST, kind, Bytes::new());
        };
        let attributes = asked.attributes.unwrap_or_default();
        let http = attributes.request.and_then(|r| r.http).unwrap_or_default();
        let source = attributes.source.unwrap_or_default();
        let allowed = match http.headers.get(ASKED) {
            Some(value) => value == ALLOWED,
            None => source.principal.ends_with(&format!("/sa/{}", self.account)),
        };
        let received = format!(
            "{} {}{} from {}",
            http.method, http.host, http.path, source.principal
        );
        eprintln!("[gRPCv3][{}]: {received}", result(allowed));
        let headers = [
            (RESULT, result(allowed)),
            (RECEIVED, received.as_str()),
            (OVERRIDE, OVERRIDDEN),
        ];
        let headers = headers.map(|(key, value)| HeaderOption {
            header: Some(Header {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
        });
        let answer = if allowed {
            CheckResponse {
                status: Some(Status { code: 0 }),
                denied: None,
                ok: Some(Allowed {
                    headers: headers.to_vec(),
                }),
            }
        } else {
            CheckResponse {
                status: Some(Status {
                    code: PERMISSION_DENIED,
                }),
                denied: Some(Denied {
                    status: Some(Status {
                        code: StatusCode::FORBIDDEN.as_u16().into(),
                    }),
                    headers: headers.to_vec(),
                    body: DENIED.to_owned(),
                }),
                ok: None,
            }
        };
        reply(StatusCode::OK, kind, answer.encode_to_vec())
    }
}

fn result(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

fn by_http(request: &Request) -> Reply {
    let allowed = request.header(ASKED) == Some(ALLOWED);
    let received = format!(
        "{} {}{}, headers: {:?}, body: {} bytes",
        request.method,
        request.header("host").unwrap_or_default(),
        request.path,
        request
            .headers
            .keys()
            .map(|name| name.as_str())
            .collect::<Vec<_>>(),
        request.body.len(),
    );
    eprintln!("[HTTP][{}]: {received}", result(allowed));
    let mut answer = if allowed {
        reply(StatusCode::OK, TEXT, Bytes::new())
    } else {
        reply(StatusCode::FORBIDDEN, TEXT, DENIED)
    };
    let headers = [
        (RESULT, result(allowed)),
        (RECEIVED, received.as_str()),
        (OVERRIDE, request.header(OVERRIDE).unwrap_or_default()),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<Asked>,
}

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(string, tag = "4")]
    principal: String,
}

#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(message, optional, tag = "2")]
    http: Option<Http>,
}

#[derive(Clone, PartialEq, Message)]
struct Http {
    #[prost(string, tag = "2")]
    method: String,
    #[prost(map = "string, string", tag = "3")]
    headers: HashMap<String, String>,
    #[prost(string, tag = "4")]
    path: String,
    #[prost(string, tag = "5")]
    host: String,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    denied: Option<Denied>,
    #[prost(message, optional, tag = "3")]
    ok: Option<Allowed>,
}

/// `google.rpc.Status` and `envoy.type.v3.HttpStatus`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Denied {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, Message)]
struct Allowed {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[cfg(test)]
mod tests;
