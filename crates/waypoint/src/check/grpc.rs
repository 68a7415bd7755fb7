//! Asked by gRPC: `envoy.service.auth.v3.Authorization/Check`. The messages are our own words for the names and numbers that
//! the wire fixes.

use std::collections::HashMap;
use std::net::SocketAddr;

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use prost::Message;
use tulle_policy::settings::ExtAuthzGrpc;

use super::{After, Allowed, Verdict, denied};
use crate::call;
use crate::canonical::Canonical;
use crate::exchange::Exchange;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "2")]
    destination: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<AttributesRequest>,
    #[prost(message, optional, tag = "12")]
    tls_session: Option<TlsSession>,
}

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
    #[prost(string, tag = "4")]
    principal: String,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddressMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SocketAddressMessage {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port_value: u32,
}

#[derive(Clone, PartialEq, Message)]
struct AttributesRequest {
    #[prost(message, optional, tag = "1")]
    time: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(map = "string, string", tag = "3")]
    headers: HashMap<String, String>,
    #[prost(string, tag = "4")]
    path: String,
    #[prost(string, tag = "5")]
    host: String,
    #[prost(string, tag = "6")]
    scheme: String,
    #[prost(int64, tag = "9")]
    size: i64,
    #[prost(string, tag = "10")]
    protocol: String,
    #[prost(string, tag = "11")]
    body: String,
    #[prost(bytes = "bytes", tag = "12")]
    raw_body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct TlsSession {
    #[prost(string, tag = "1")]
    sni: String,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    denied: Option<DeniedResponse>,
    #[prost(message, optional, tag = "3")]
    ok: Option<OkResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct DeniedResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, Message)]
struct HttpStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct OkResponse {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
    #[prost(string, repeated, tag = "5")]
    headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    response_headers: Vec<HeaderOption>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    append: Option<Flag>,
}

/// `google.protobuf.BoolValue`.
#[derive(Clone, PartialEq, Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    value: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(bytes = "bytes", tag = "3")]
    raw_value: Bytes,
}

impl HeaderOption {
    fn parse(&self) -> Option<(HeaderName, HeaderValue)> {
        let header = self.header.as_ref()?;
        // Pseudo-headers are no headers.
        let name: HeaderName = header.key.parse().ok()?;
        let value = if header.raw_value.is_empty() {
            HeaderValue::from_str(&header.value)
        } else {
            HeaderValue::from_bytes(&header.raw_value)
        };
        Some((name, value.ok()?))
    }
}

pub(super) async fn ask(
    exchange: &Exchange,
    head: &Parts,
    canonical: &Canonical,
    provider: &ExtAuthzGrpc,
    body: Option<Bytes>,
) -> Verdict {
    let raw = provider.body.is_some_and(|body| body.raw);
    let question = question(exchange, head, canonical, body, raw);
    let answered = call::grpc(
        exchange,
        &provider.upstream,
        CHECK,
        &question.encode_to_vec(),
    )
    .await;
    let answer = match answered {
        Ok(answer) => answer,
        Err(why) => return Verdict::Silent(why),
    };
    match CheckResponse::decode(answer) {
        Ok(response) => judge(response),
        Err(error) => Verdict::Silent(format!("the provider's answer cannot be read: {error}")),
    }
}

fn judge(response: CheckResponse) -> Verdict {
    let code = response.status.map_or(0, |status| status.code);
    if code != 0 {
        let denied_response = response.denied.unwrap_or_default();
        let status = denied_response.status.map_or(0, |status| status.code);
        let mut headers = HeaderMap::new();
        for (name, value) in denied_response
            .headers
            .iter()
            .filter_map(HeaderOption::parse)
        {
            headers.append(name, value);
        }
        let status = u16::try_from(status).ok().filter(|s| *s != 0);
        return denied(status.unwrap_or(403), headers, denied_response.body);
    }
    let ok = response.ok.unwrap_or_default();
    let mut allowed = Allowed {
        remove: ok
            .headers_to_remove
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        after: After(
            ok.response_headers
                .iter()
                .filter_map(HeaderOption::parse)
                .collect(),
        ),
        ..Allowed::default()
    };
    for option in &ok.headers {
        let Some(header) = option.parse() else {
            continue;
        };
        if option.append.as_ref().is_some_and(|append| append.value) {
            allowed.add.push(header);
        } else {
            allowed.set.push(header);
        }
    }
    Verdict::Allowed(allowed)
}

fn question(
    exchange: &Exchange,
    head: &Parts,
    canonical: &Canonical,
    body: Option<Bytes>,
    raw: bool,
) -> CheckRequest {
    let client = &exchange.client;
    let peer = |address: SocketAddr, principal: String| Peer {
        address: Some(Address {
            socket_address: Some(SocketAddressMessage {
                address: address.ip().to_canonical().to_string(),
                port_value: address.port().into(),
            }),
        }),
        principal,
    };
    let mut headers: HashMap<String, String> = HashMap::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = headers.entry(name.as_str().to_owned()).or_default();
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&value);
    }
    for (name, value) in [
        (":method", head.method.as_str()),
        (":authority", &*canonical.authority),
        (":path", &*canonical.target()),
        (":scheme", canonical.scheme),
    ] {
        headers.insert(name.to_owned(), value.to_owned());
    }
    let body = body.unwrap_or_default();
    let id = headers.get("x-request-id").cloned().unwrap_or_default();
    let since = exchange
        .start()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let http = HttpRequest {
        id,
        method: head.method.to_string(),
        path: canonical.target(),
        host: canonical.authority.to_string(),
        scheme: canonical.scheme.to_owned(),
        size: if body.is_empty() {
            -1
        } else {
            body.len() as i64
        },
        protocol: "HTTP/1.1".to_owned(),
        body: match raw {
            true => String::new(),
            false => String::from_utf8_lossy(&body).into_owned(),
        },
        raw_body: if raw { body } else { Bytes::new() },
        headers,
    };
    let principal = client.peer.as_ref().map(ToString::to_string);
    let own = exchange.worker.shared.options.identity.to_string();
    CheckRequest {
        attributes: Some(Attributes {
            source: Some(peer(client.source, principal.unwrap_or_default())),
            destination: Some(peer(client.local, own)),
            request: Some(AttributesRequest {
                time: Some(prost_types::Timestamp {
                    seconds: i64::try_from(since.as_secs()).unwrap_or(0),
                    nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
                }),
                http: Some(http),
            }),
            tls_session: client.server_name.as_ref().map(|sni| TlsSession {
                sni: sni.to_string(),
            }),
        }),
    }
}

#[cfg(test)]
mod tests;
