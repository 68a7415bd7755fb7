//! Hosts.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Refusal;
use crate::limits::HOST_BYTES;

/// Host and port of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower case, without the dot at the end; IPv6 in brackets.
    pub host: Cow<'a, str>,
    /// If it was given.
    pub port: Option<u16>,
}

/// The one form of `Host` or `:authority`.
pub fn authority(raw: &str) -> Result<Authority<'_>, Refusal> {
    if raw.contains('@') {
        return Err(Refusal::UserInfo);
    }
    if raw.starts_with('[') {
        return in_brackets(raw);
    }
    let (name, port) = match raw.split_once(':') {
        Some((name, port)) => (name, Some(parse_port(port)?)),
        None => (raw, None),
    };
    Ok(Authority {
        host: host(name)?,
        port,
    })
}

/// The one form of a server name (TLS): a host name, never an address.
pub fn sni(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    let name = host(raw)?;
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err(Refusal::BadHost);
    }
    Ok(name)
}

fn in_brackets(raw: &str) -> Result<Authority<'_>, Refusal> {
    let (inner, after) = raw
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .ok_or(Refusal::BadHost)?;
    // A zone is a matter of the sender's machine; the parser refuses it, too.
    let address: Ipv6Addr = inner.parse().map_err(|_| Refusal::BadHost)?;
    let port = match after.strip_prefix(':') {
        Some(port) => Some(parse_port(port)?),
        None if after.is_empty() => None,
        None => return Err(Refusal::BadHost),
    };
    Ok(Authority {
        host: Cow::Owned(format!("[{address}]")),
        port,
    })
}

fn parse_port(text: &str) -> Result<u16, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|port| *port != 0)
        .ok_or(Refusal::BadPort)
}

/// Letters, digits, hyphens and underscores between single dots; one dot at the end is dropped.
fn host(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    let name = raw.strip_suffix('.').unwrap_or(raw);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let refused = name.is_empty()
        || name.len() > HOST_BYTES
        || !name.bytes().all(allowed)
        || name.split('.').any(str::is_empty);
    if refused {
        return Err(Refusal::BadHost);
    }
    Ok(if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}
