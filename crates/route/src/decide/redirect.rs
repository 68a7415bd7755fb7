//! Redirects.

use std::fmt::Write;

use super::rewrite_path;
use crate::compiled::{CompiledRedirect, MatchedPath};
use crate::request::RequestHead;
use crate::resource::Redirect;

/// Status and `Location` for a request whose path matched so: of [`crate::CompiledRule::redirect`], or of a backend's filters.
pub fn redirect(
    compiled: &CompiledRedirect,
    request: &RequestHead<'_>,
    matched: MatchedPath,
) -> (u16, String) {
    let redirect = &compiled.redirect;
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let host = redirect.host.as_deref().unwrap_or(request.host);
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = shown_port(redirect, scheme, request.port) {
        // Writing to a string cannot fail.
        let _ = write!(location, ":{port}");
    }
    let before = location.len();
    match &compiled.path {
        Some(path) => location.push_str(&rewrite_path(path, matched, request.path)),
        None => location.push_str(request.path),
    }
    // A new path may bring its own query.
    let own_query = location
        .get(before..)
        .is_some_and(|path| path.contains('?'));
    if let (Some(query), false) = (request.query, own_query) {
        location.push('?');
        location.push_str(query);
    }
    (redirect.status, location)
}

/// The port of a given scheme, else the listener's; never shown where the scheme implies it.
fn shown_port(redirect: &Redirect, scheme: &str, listener: u16) -> Option<u16> {
    let well_known = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let host_has_port = redirect
        .host
        .as_deref()
        .is_some_and(|host| !host.ends_with(']') && host.contains(':'));
    let kept = if redirect.port_of_scheme {
        redirect.host.is_none() && redirect.scheme.is_none()
    } else {
        redirect.scheme.is_none() || well_known.is_none()
    };
    let port = match redirect.port {
        Some(port) => Some(port),
        None if host_has_port => None,
        None => kept.then_some(listener),
    };
    port.filter(|port| Some(*port) != well_known)
}
