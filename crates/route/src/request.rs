//! What is looked at in a request.

use http::HeaderMap;

/// A request as routes and limits see it. Method, host and path are in canonical form ([`crate::canonical`]).
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// For example `GET`.
    pub method: &'a str,
    /// `http` or `https`, as the client used it.
    pub scheme: &'a str,
    /// Without port.
    pub host: &'a str,
    /// Without query.
    pub path: &'a str,
    /// What follows `?`.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// Port that it was addressed to: of the service, or of the gateway's listener as clients know it.
    pub port: u16,
    /// Namespace of the client's identity.
    pub source_namespace: Option<&'a str>,
    /// Claims of the verified token, for matches on `@request.auth.claims`.
    pub claims: Option<&'a dyn Claims>,
}

/// Headers by name.
pub trait Headers {
    /// All values of a header; `name` is in lower case.
    fn values(&self, name: &str) -> Values<'_>;
}

/// Claims of a token.
pub trait Claims {
    /// Calls `visit` with each value of the claim at `path` (a list has several) until it says true; whether it did.
    fn any(&self, path: &[&str], visit: &mut dyn FnMut(&str) -> bool) -> bool;
}

/// Values of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values<'a> {
    /// The header is not there.
    None,
    /// It is there once.
    One(&'a [u8]),
    /// It is there several times: joined by commas, as a recipient may (RFC 9110, 5.3).
    Joined(Vec<u8>),
}

impl<'a> Values<'a> {
    /// Of the single values in their order.
    pub fn collect(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        let Some(first) = values.next() else {
            return Self::None;
        };
        let Some(second) = values.next() else {
            return Self::One(first);
        };
        let mut joined = first.to_vec();
        for value in std::iter::once(second).chain(values) {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        Self::Joined(joined)
    }

    /// What is compared; `None` when the header is not there.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::One(value) => Some(value),
            Self::Joined(value) => Some(value),
        }
    }
}

impl Headers for HeaderMap {
    fn values(&self, name: &str) -> Values<'_> {
        Values::collect(self.get_all(name).iter().map(http::HeaderValue::as_bytes))
    }
}

/// The raw values of a parameter in a query, in their order.
pub fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query
        .split('&')
        .take(crate::limits::QUERY_PARAMETERS)
        .filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name || decoded(key).is_some_and(|key| key == name.as_bytes())).then_some(value)
        })
}

/// `text` without percent-encoding and with `+` as space; `None` when it has neither.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().any(|b| matches!(b, b'%' | b'+')) {
        return None;
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%')
            .then(|| crate::canonical::escaped(bytes, at))
            .flatten();
        match (byte, escaped) {
            (_, Some(value)) => {
                out.push(value);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(*byte),
        }
        at += 1;
    }
    Some(out)
}
