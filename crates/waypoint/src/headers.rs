//! Headers that the proxy itself sets, and those that nobody outside may.

use std::net::IpAddr;

use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue};
use tulle_http::forward::{self, Source, X_ENVOY_ORIGINAL_PATH, X_ISTIO_SOURCE, X_REQUEST_ID};

use crate::canonical::Canonical;
use crate::exchange::Exchange;
use crate::inbound::Via;
use crate::{observe, trace};

const FORWARDED_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// A request came: what only proxies may say is taken out or made anew.
pub(crate) fn received(exchange: &mut Exchange, head: &mut Parts, canonical: &Canonical) {
    let headers = &mut head.headers;
    let made = !headers.contains_key(X_REQUEST_ID);
    let scheme = if canonical.scheme == "https" {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    let source = match exchange.client.via {
        Via::Waypoint(_) => Source::Mesh,
        Via::Listener { .. } => Source::Outside {
            client: exchange.client.source.ip().to_canonical(),
            trusted_proxies: exchange.snapshot.settings.trusted_proxies,
        },
    };
    // What clients say of certificates is not verified by anybody.
    headers.remove(FORWARDED_CERTIFICATE);
    match source {
        Source::Mesh => identity(exchange, headers),
        Source::Outside { .. } => certificate(exchange, headers),
    }
    exchange.seen.remote = forward::request(headers, &scheme, source);
    if let Some(tracing) = observe::tracing(exchange) {
        let id = headers.get(X_REQUEST_ID).and_then(|v| v.to_str().ok());
        exchange.seen.request_id = id.unwrap_or_default().to_owned();
        let (host, target) = (&canonical.authority, canonical.target());
        exchange.seen.url = format!("{}://{host}{target}", canonical.scheme);
        trace::begin(exchange, headers, &tracing);
    }
    if made && let Some(id) = headers.get(X_REQUEST_ID).and_then(|v| v.to_str().ok()) {
        observe::captured_request_id(&mut exchange.seen.logged, id);
    }
}

/// `x-forwarded-client-cert` with the identity that the client's tunnel proved, where the waypoint's owner wants that.
fn identity(exchange: &Exchange, headers: &mut HeaderMap) {
    let gateway = exchange.snapshot.gateways.get(&exchange.client.gateway);
    let wanted = gateway.is_some_and(|gateway| gateway.client_identity);
    let Some(peer) = exchange.client.peer.as_ref().filter(|_| wanted) else {
        return;
    };
    let own = &exchange.worker.shared.options.identity;
    if let Ok(value) = HeaderValue::from_str(&format!("By={own};URI={peer}")) {
        headers.insert(FORWARDED_CERTIFICATE, value);
    }
}

/// `x-forwarded-client-cert` of a client that showed a certificate, as Envoy writes it.
fn certificate(exchange: &Exchange, headers: &mut HeaderMap) {
    let Some(shown) = &exchange.client.certificate else {
        return;
    };
    let mut text = format!("Hash={};Subject={:?}", shown.hash, shown.subject);
    for uri in &shown.uris {
        text.push_str(&format!(";URI={uri}"));
    }
    for name in &shown.dns {
        text.push_str(&format!(";DNS={name}"));
    }
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(FORWARDED_CERTIFICATE, value);
    }
}

/// The client that trusted proxies speak for; the peer where there is none.
pub(crate) fn remote_ip(exchange: &Exchange) -> IpAddr {
    exchange
        .seen
        .remote
        .unwrap_or_else(|| exchange.client.source.ip().to_canonical())
}

/// Before a request goes on.
pub(crate) fn sent(exchange: &Exchange, headers: &mut HeaderMap) {
    if let Via::Waypoint(_) = exchange.client.via {
        headers.insert(X_ISTIO_SOURCE, HeaderValue::from_static("waypoint"));
    } else {
        headers.remove(X_ISTIO_SOURCE);
    }
}

/// The path before it is rewritten.
pub(crate) fn original_path(headers: &mut HeaderMap, path: &str) {
    if let Ok(value) = HeaderValue::from_str(path) {
        headers.insert(X_ENVOY_ORIGINAL_PATH, value);
    }
}

/// Before an answer that was made here goes out.
pub(crate) fn answered(headers: &mut HeaderMap) {
    forward::own_response(headers);
}
