//! A parsed request, of either version: who is meant, and what is for this hop only.

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use ::http::request::Parts;
use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::{Limits, Refusal};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What is meant for one hop, whatever `Connection` says.
static OF_ONE_HOP: [HeaderName; 8] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
    TE,
    EXPECT,
];

/// Judges a request, and brings it into one form whatever the version: the URI is only path and query, the authority is in
/// `Host`. `extended` is the protocol of an extended CONNECT.
///
/// # Errors
/// When it breaks a rule.
pub fn judge(head: &mut Parts, extended: Option<&str>, limits: &Limits) -> Result<(), Refusal> {
    judge_sizes(head, limits)?;
    judge_method(head, extended)?;
    let authority = authority(head)?;
    let path = path(head)?;
    if head.uri.scheme().is_some() || head.uri.authority().is_some() {
        let mut uri = ::http::uri::Parts::default();
        uri.path_and_query = Some(path);
        head.uri = Uri::from_parts(uri).map_err(|_| Refusal::bad("a malformed target"))?;
    }
    if let Some(authority) = authority {
        head.headers.insert(HOST, authority);
    }
    judge_expectation(&head.headers)
}

fn judge_sizes(head: &Parts, limits: &Limits) -> Result<(), Refusal> {
    if head.headers.len() > limits.headers {
        return Err(Refusal::too_large("too many headers"));
    }
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    if target > limits.target {
        return Err(Refusal::too_long());
    }
    Ok(())
}

fn judge_method(head: &Parts, extended: Option<&str>) -> Result<(), Refusal> {
    match (&head.method, extended) {
        (&Method::CONNECT, Some("websocket")) => Ok(()),
        (&Method::CONNECT, Some(_)) => Err(Refusal::unsupported(
            "an extended CONNECT for something other than websocket",
        )),
        (&Method::CONNECT, None) => Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            why: "CONNECT is not served here",
        }),
        (_, Some(_)) => Err(Refusal::bad(":protocol without CONNECT")),
        _ => Ok(()),
    }
}

/// Judges the one authority that all places agree on (RFC 9112 §3.2, RFC 9113 §8.3.1); returns it if `Host` lacks it.
fn authority(head: &Parts) -> Result<Option<HeaderValue>, Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::bad("Host is given more than once"));
    }
    match (head.uri.authority(), host) {
        (Some(target), Some(host)) => {
            if !target
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes())
            {
                return Err(Refusal::bad("Host and the target's authority differ"));
            }
            judge_authority(host.as_bytes()).map(|()| None)
        }
        (Some(_), None) if head.version == Version::HTTP_11 => Err(Refusal::bad("no Host")),
        (Some(target), None) => {
            judge_authority(target.as_str().as_bytes())?;
            HeaderValue::from_str(target.as_str())
                .map(Some)
                .map_err(|_| Refusal::bad("a malformed authority"))
        }
        (None, Some(host)) => judge_authority(host.as_bytes()).map(|()| None),
        (None, None) if head.version == Version::HTTP_10 => Ok(None),
        (None, None) => Err(Refusal::bad("no Host")),
    }
}

/// A host and perhaps a port; no user, nothing that a URL parser could read as something else.
fn judge_authority(authority: &[u8]) -> Result<(), Refusal> {
    const BAD: Refusal = Refusal::bad("a malformed host");
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let fine = |byte: &u8| plain(byte) || matches!(byte, b':' | b'[' | b']' | b'%');
    if authority.is_empty() || !authority.iter().all(fine) {
        return Err(BAD);
    }
    if authority.iter().all(plain) {
        return Ok(());
    }
    let text = std::str::from_utf8(authority).map_err(|_| BAD)?;
    if text.parse::<Authority>().is_err() {
        return Err(BAD);
    }
    let port = match text.rsplit_once(']') {
        Some((_, rest)) => rest.strip_prefix(':').or((!rest.is_empty()).then_some("?")),
        None => text.split_once(':').map(|(_, port)| port),
    };
    if let Some(port) = port
        && (port.is_empty() || port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Err(BAD);
    }
    Ok(())
}

fn path(head: &Parts) -> Result<PathAndQuery, Refusal> {
    if let Some(scheme) = head.uri.scheme()
        && *scheme != Scheme::HTTP
        && *scheme != Scheme::HTTPS
    {
        return Err(Refusal::bad("a scheme other than http or https"));
    }
    match head.uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => Ok(path.clone()),
        Some(path) if path.as_str() == "*" && head.method == Method::OPTIONS => Ok(path.clone()),
        // Absolute form with a query and no path.
        Some(path) if path.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", path.as_str()))
                .map_err(|_| Refusal::bad("a malformed target"))
        }
        _ => Err(Refusal::bad("a target that is no path")),
    }
}

fn judge_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let strange = headers
        .get_all(EXPECT)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if strange {
        return Err(Refusal {
            status: StatusCode::EXPECTATION_FAILED,
            why: "an expectation other than 100-continue",
        });
    }
    Ok(())
}

/// Takes off what is meant for one hop (RFC 9110 §7.6.1), what `Connection` names included. `TE: trailers` stays: gRPC servers
/// ask for it, and we do pass trailers on.
///
/// # Errors
/// When `Connection` names a header that no hop may take off.
pub fn hop_by_hop(headers: &mut HeaderMap) -> Result<(), Refusal> {
    // To look at all of them once is less work than to look each of ours up.
    if !headers.keys().any(|name| OF_ONE_HOP.contains(name)) {
        return Ok(());
    }
    let te_trailers = headers.get_all(TE).iter().any(|value| {
        let mut codings = value.as_bytes().split(|&byte| byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if headers.contains_key(CONNECTION) {
        take_off_named(headers)?;
    }
    for name in &OF_ONE_HOP {
        headers.remove(name);
    }
    if te_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(())
}

fn take_off_named(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            let common: [&[u8]; 4] = [b"", b"close", b"keep-alive", b"upgrade"];
            if common.iter().any(|word| token.eq_ignore_ascii_case(word)) {
                continue;
            }
            named.push(
                HeaderName::from_bytes(token)
                    .map_err(|_| Refusal::bad("a malformed Connection"))?,
            );
        }
    }
    for name in named {
        let text = name.as_str();
        let vital = name == HOST
            || name == CONTENT_LENGTH
            || text == "authorization"
            || text == "cookie"
            || text.starts_with("x-forwarded-");
        if vital {
            return Err(Refusal::bad(
                "Connection names a header that is not for one hop",
            ));
        }
        headers.remove(&name);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
