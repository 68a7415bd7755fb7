//! One form of path, host and method, used by policies, routes and the upstream alike: what a policy allowed is what the
//! application sees. What has no such form is refused with 400.

mod authority;
mod path;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use authority::{Authority, authority, sni};
pub use path::{literal, path};

use crate::limits::METHOD_BYTES;

/// How far paths are brought into one form (`meshConfig.pathNormalization`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// Paths stay as they are; only what is dangerous in any form is refused.
    None,
    /// RFC 3986, and `\` is `/`. Istio's default.
    #[default]
    Base,
    /// And several slashes are one.
    MergeSlashes,
    /// Before that, `%2F` and `%5C` are slashes.
    DecodeAndMergeSlashes,
}

/// Why a request is refused with 400. The client may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Of any length.
    #[error("the path does not begin with /")]
    RelativePath,
    /// A fragment is never sent.
    #[error("the path has a fragment (#)")]
    Fragment,
    /// Raw or encoded.
    #[error("the path has a control character or a space")]
    ControlCharacter,
    /// Not two hexadecimal digits.
    #[error("the path has a % that begins no encoded character")]
    BadEscape,
    /// A longer form of a shorter character.
    #[error("the path has overlong or broken UTF-8")]
    BadUtf8,
    /// `..;x`: a parent for some applications, a name for others.
    #[error("the path has a dot segment with parameters")]
    DotParameters,
    /// `user@host`.
    #[error("the host has user information (@)")]
    UserInfo,
    /// Empty, too long, or characters that no host has.
    #[error("the host is not a name or an address")]
    BadHost,
    /// Not 1 to 65535.
    #[error("the port of the host is not a port")]
    BadPort,
    /// Not a token, or too long.
    #[error("the method is not a token")]
    BadMethod,
    /// `get`: some applications take it for GET.
    #[error("the method is a standard one in other case")]
    MethodCase,
    /// In a query.
    #[error("the query has a fragment, a control character or a space")]
    BadQuery,
}

/// Methods of RFC 9110 and RFC 5789.
const STANDARD_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// Methods are compared as they are; one that only differs in case from a standard one is refused.
pub fn method(raw: &str) -> Result<&str, Refusal> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if raw.is_empty() || raw.len() > METHOD_BYTES || !raw.bytes().all(token) {
        return Err(Refusal::BadMethod);
    }
    let other_case = STANDARD_METHODS
        .iter()
        .any(|m| *m != raw && m.eq_ignore_ascii_case(raw));
    if other_case {
        return Err(Refusal::MethodCase);
    }
    Ok(raw)
}

/// Queries are passed on as they are.
pub fn query(raw: &str) -> Result<&str, Refusal> {
    let bad = |b: u8| b <= b' ' || b == 0x7f || b == b'#';
    if raw.bytes().any(bad) {
        return Err(Refusal::BadQuery);
    }
    Ok(raw)
}

/// A request's target without its host: path and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// In canonical form. `*` for `OPTIONS *`.
    pub path: Cow<'a, str>,
    /// As sent.
    pub query: Option<&'a str>,
}

/// Path and query of `raw`; `*` only for OPTIONS.
pub fn target<'a>(
    method: &str,
    raw: &'a str,
    normalization: Normalization,
) -> Result<Target<'a>, Refusal> {
    if raw == "*" && method == "OPTIONS" {
        return Ok(Target {
            path: Cow::Borrowed(raw),
            query: None,
        });
    }
    let (before, after) = match raw.split_once('?') {
        Some((before, after)) => (before, Some(after)),
        None => (raw, None),
    };
    Ok(Target {
        path: path(before, normalization)?,
        query: after.map(query).transpose()?,
    })
}

/// The byte that `%XX` at `at` stands for.
pub(crate) fn escaped(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |i: usize| {
        bytes
            .get(i)
            .and_then(|b| char::from(*b).to_digit(16))
            .and_then(|d| u8::try_from(d).ok())
    };
    Some(digit(at + 1)? << 4 | digit(at + 2)?)
}
