//! What policies look at.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use tulle_model::Identity;

use crate::jwt::Claims;

/// A request, or a connection of which nothing is known at layer 7.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The peer's identity as its certificate proves it.
    pub source: Option<&'a Identity>,
    /// The peer's address.
    pub source_ip: IpAddr,
    /// The address of the client that trusted proxies speak for; the peer's if there are none.
    pub remote_ip: IpAddr,
    /// What was addressed: the service's or workload's address and port.
    pub destination: SocketAddr,
    /// The server name of the client's TLS, if there was any.
    pub sni: Option<&'a str>,
    /// The request; `None` for a connection whose bytes are passed on as they are. What policies ask of requests then fails
    /// closed: a DENY or CUSTOM policy takes it as true, others as false.
    pub http: Option<Http<'a>>,
}

/// The layer 7 part, in canonical form.
#[derive(Clone, Copy)]
pub struct Http<'a> {
    /// For example `GET`.
    pub method: &'a str,
    /// Host, with the port if the client sent one.
    pub authority: &'a str,
    /// Without query.
    pub path: &'a str,
    /// Looked up by name in lower case.
    pub headers: &'a dyn Headers,
    /// Of the verified token.
    pub claims: Option<&'a Claims>,
}

/// Headers of a request.
pub trait Headers {
    /// The value of a header (name in lower case); several lines joined by `,`. `None` when there is none.
    fn joined(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}

/// For tests and simple callers: pairs with names in lower case.
impl Headers for [(&str, &str)] {
    fn joined(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut values = self
            .iter()
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v.as_bytes());
        let first = values.next()?;
        let mut joined = Cow::Borrowed(first);
        for value in values {
            let all = joined.to_mut();
            all.push(b',');
            all.extend_from_slice(value);
        }
        Some(joined)
    }
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn joined(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        // The reference to the slice lives as long as the array.
        self.as_slice().joined(name)
    }
}
