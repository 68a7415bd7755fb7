//! What a proxy changes in messages that it passes on, in the names that Istio's proxies use.

use std::net::IpAddr;
use std::time::Duration;

use ::http::header::{DATE, HeaderName, HeaderValue, SERVER};
use ::http::uri::Scheme;
use ::http::{HeaderMap, response};

use crate::rules::head::hop_by_hop;

/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `x-envoy-external-address`: a gateway's client, if it is no private address.
pub const X_ENVOY_EXTERNAL_ADDRESS: HeaderName =
    HeaderName::from_static("x-envoy-external-address");
/// `x-envoy-internal`: a gateway's client has a private address.
pub const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// `x-envoy-attempt-count`: which attempt this is.
pub const X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// `x-envoy-original-path`: before a rewrite.
pub const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
/// `x-envoy-original-host`: before a rewrite.
pub const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
/// `x-envoy-expected-rq-timeout-ms`: how long the upstream has.
pub const X_ENVOY_EXPECTED_TIMEOUT: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// `x-envoy-upstream-service-time`: how long the upstream took, in milliseconds.
pub const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName =
    HeaderName::from_static("x-envoy-upstream-service-time");
/// `x-envoy-overloaded`: a circuit breaker refused.
pub const X_ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// `x-envoy-ratelimited`: a rate limit refused.
pub const X_ENVOY_RATELIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
/// `x-envoy-decorator-operation`: never leaves the mesh.
pub const X_ENVOY_DECORATOR_OPERATION: HeaderName =
    HeaderName::from_static("x-envoy-decorator-operation");
/// `x-istio-source`: set to `waypoint` by waypoints, so that no second one is gone through.
pub const X_ISTIO_SOURCE: HeaderName = HeaderName::from_static("x-istio-source");
/// `server` of answers.
pub const ISTIO_ENVOY: HeaderValue = HeaderValue::from_static("istio-envoy");

/// From where a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From inside the mesh: what its headers say of earlier hops stays.
    Mesh,
    /// From outside, to a gateway.
    Outside {
        /// The peer of the connection.
        client: IpAddr,
        /// Proxies in front of the gateway whose `x-forwarded-for` counts (`numTrustedProxies`).
        trusted_proxies: u32,
    },
}

/// The headers of a request on its way: where it came from, which one it is. Returns the client's address as far as it is known
/// to be true.
pub fn request(headers: &mut HeaderMap, scheme: &Scheme, source: Source) -> Option<IpAddr> {
    let client = match source {
        Source::Mesh => None,
        Source::Outside {
            client,
            trusted_proxies,
        } => Some(outside(headers, scheme, client, trusted_proxies)),
    };
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, proto(scheme));
    }
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, request_id());
    }
    client
}

fn proto(scheme: &Scheme) -> HeaderValue {
    HeaderValue::from_static(if *scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    })
}

/// A gateway believes nobody outside, but the proxies that it is told to.
fn outside(headers: &mut HeaderMap, scheme: &Scheme, client: IpAddr, trusted: u32) -> IpAddr {
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-envoy-") || **name == X_ISTIO_SOURCE)
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    let mut before = String::new();
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    let hops = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    for hop in hops.map(str::trim).filter(|hop| !hop.is_empty()) {
        before.push_str(hop);
        before.push(',');
    }
    // The peer itself is the last hop; each trusted proxy vouches for the one before it.
    let real = match trusted {
        0 => client,
        hops => before
            .trim_end_matches(',')
            .rsplit(',')
            .nth(hops as usize - 1)
            .and_then(|hop| hop.parse().ok())
            .unwrap_or(client),
    };
    let peer = address(client);
    let value = if before.is_empty() {
        Ok(peer.clone())
    } else {
        before.push_str(peer.to_str().unwrap_or_default());
        HeaderValue::try_from(before)
    };
    if let Ok(value) = value {
        headers.insert(X_FORWARDED_FOR, value);
    }
    if trusted == 0 {
        headers.insert(X_FORWARDED_PROTO, proto(scheme));
    }
    let (name, value) = if is_private(real) {
        (X_ENVOY_INTERNAL, HeaderValue::from_static("true"))
    } else if real == client {
        (X_ENVOY_EXTERNAL_ADDRESS, peer)
    } else {
        (X_ENVOY_EXTERNAL_ADDRESS, address(real))
    };
    headers.insert(name, value);
    real
}

/// As text; of the usual kind without what formatting costs.
fn address(ip: IpAddr) -> HeaderValue {
    let IpAddr::V4(v4) = ip else {
        let text = HeaderValue::try_from(ip.to_string());
        return text.unwrap_or_else(|_| HeaderValue::from_static(""));
    };
    let mut text = Vec::with_capacity("255.255.255.255".len());
    for octet in v4.octets() {
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if octet >= least {
                text.push(b'0' + octet / unit % 10);
            }
        }
        text.push(b'.');
    }
    text.pop();
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
    }
}

/// A random UUID (RFC 9562, version 4).
pub fn request_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (n, byte) in bytes.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Which attempt a request is, from 1 on.
pub fn attempt(headers: &mut HeaderMap, number: u32) {
    headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(number));
}

/// An upstream's answer on its way back: what was for one hop is taken off; who served it, and how long that took, is said.
pub fn response(head: &mut response::Parts, took: Duration) {
    // Only requests can name headers in vain; an answer that does is passed on without what it named.
    if hop_by_hop(&mut head.headers).is_err() {
        head.headers.remove(::http::header::CONNECTION);
    }
    head.headers.remove(X_ENVOY_DECORATOR_OPERATION);
    head.headers.insert(SERVER, ISTIO_ENVOY);
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    head.headers
        .insert(X_ENVOY_UPSTREAM_SERVICE_TIME, HeaderValue::from(millis));
}

/// An answer that was made here.
pub fn own_response(headers: &mut HeaderMap) {
    headers.insert(SERVER, ISTIO_ENVOY);
    // The server puts today's.
    headers.remove(DATE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn inside_the_mesh_nothing_is_overwritten() {
        let mut of = headers(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "mine"),
            ("x-envoy-attempt-count", "2"),
        ]);
        let before = of.clone();
        assert_eq!(request(&mut of, &Scheme::HTTP, Source::Mesh), None);
        assert_eq!(of, before);
        let mut of = HeaderMap::new();
        request(&mut of, &Scheme::HTTP, Source::Mesh);
        assert_eq!(of[X_FORWARDED_PROTO], "http");
        let id = of[X_REQUEST_ID].to_str().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert_ne!(request_id(), request_id());
    }

    #[test]
    fn outside_nobody_is_believed() {
        let client: IpAddr = "203.0.113.9".parse().unwrap();
        let source = |trusted_proxies| Source::Outside {
            client,
            trusted_proxies,
        };
        let forged = [
            ("x-forwarded-for", "10.0.0.1, 9.9.9.9"),
            ("x-forwarded-proto", "https"),
            ("x-envoy-internal", "true"),
            ("x-istio-source", "waypoint"),
        ];
        let mut of = headers(&forged);
        assert_eq!(request(&mut of, &Scheme::HTTP, source(0)), Some(client));
        assert_eq!(of[X_FORWARDED_FOR], "10.0.0.1,9.9.9.9,203.0.113.9");
        assert_eq!(of[X_FORWARDED_PROTO], "http");
        assert_eq!(of[X_ENVOY_EXTERNAL_ADDRESS], "203.0.113.9");
        assert!(!of.contains_key(X_ENVOY_INTERNAL) && !of.contains_key(X_ISTIO_SOURCE));
        for (hops, real) in [(1, "9.9.9.9"), (2, "10.0.0.1"), (3, "203.0.113.9")] {
            let mut of = headers(&forged);
            let seen = request(&mut of, &Scheme::HTTP, source(hops)).unwrap();
            assert_eq!(seen.to_string(), real, "{hops}");
            assert_eq!(of[X_FORWARDED_PROTO], "https");
            assert_eq!(of.contains_key(X_ENVOY_INTERNAL), real == "10.0.0.1");
        }
    }

    #[test]
    fn addresses_are_written_as_everywhere() {
        for ip in [
            "0.0.0.0",
            "1.20.105.255",
            "10.0.200.9",
            "fd00::1",
            "99.100.101.110",
        ] {
            assert_eq!(address(ip.parse().unwrap()), ip);
        }
    }

    #[test]
    fn answers_say_who_served_them() {
        let mut head = ::http::Response::new(()).into_parts().0;
        head.headers = headers(&[
            ("server", "nginx"),
            ("connection", "close, x-internal"),
            ("x-internal", "1"),
            ("x-envoy-decorator-operation", "op"),
            ("date", "today"),
        ]);
        response(&mut head, Duration::from_millis(7));
        let expected = headers(&[
            ("server", "istio-envoy"),
            ("date", "today"),
            ("x-envoy-upstream-service-time", "7"),
        ]);
        assert_eq!(head.headers, expected);
    }
}
