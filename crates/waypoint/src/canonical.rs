//! The one form of a request's method, host and path. Policies, routes and the endpoint all see this one.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode, Uri, header};
use tulle_policy::settings::Normalization as Wanted;
use tulle_route::RequestHead;
use tulle_route::canonical::{self, Normalization};

use crate::inbound::{Client, Via};
use crate::reply::Reply;

/// A request's head in canonical form.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    /// Without port, in lower case.
    pub(crate) host: Box<str>,
    /// With the port, if the client sent one.
    pub(crate) authority: Box<str>,
    /// Without query.
    pub(crate) path: Box<str>,
    pub(crate) query: Option<Box<str>>,
    pub(crate) scheme: &'static str,
    /// That was addressed.
    pub(crate) port: u16,
    pub(crate) source_namespace: Option<std::sync::Arc<str>>,
}

impl Canonical {
    /// Judges a head, and writes its one form back into it. What has none is answered with 400.
    pub(crate) fn judge(head: &mut Parts, wanted: Wanted, client: &Client) -> Result<Self, Reply> {
        let refused = |refusal: canonical::Refusal| Reply::bad_request(refusal.to_string());
        let method = canonical::method(head.method.as_str()).map_err(refused)?;
        let raw = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let target = canonical::target(method, raw, normalization(wanted)).map_err(refused)?;
        let host = head.headers.get(header::HOST);
        let host = host.map(HeaderValue::to_str).transpose();
        let host = host.map_err(|_| Reply::bad_request("the host is not a name or an address"))?;
        let host = host.ok_or_else(|| Reply::bad_request("the request has no host"))?;
        let authority = canonical::authority(host).map_err(refused)?;
        let this = Self {
            host: authority.host.as_ref().into(),
            path: target.path.as_ref().into(),
            query: target.query.map(Into::into),
            authority: match authority.port {
                Some(port) => format!("{}:{port}", authority.host).into(),
                None => authority.host.as_ref().into(),
            },
            scheme: match client.via {
                Via::Listener { tls: true, .. } => "https",
                _ => "http",
            },
            port: client.port(),
            source_namespace: client.peer.as_ref().map(|peer| peer.namespace.clone()),
        };
        let (other_target, other_host) = (!this.is_target(raw), *this.authority != *host);
        if other_target {
            set_target(head, &this.target())?;
        }
        if other_host {
            let value = HeaderValue::from_str(&this.authority)
                .map_err(|_| Reply::bad_request("the host is not a name or an address"))?;
            head.headers.insert(header::HOST, value);
        }
        Ok(this)
    }

    fn is_target(&self, raw: &str) -> bool {
        match (raw.strip_prefix(&*self.path), &self.query) {
            (Some(rest), Some(query)) => rest.strip_prefix('?') == Some(query),
            (Some(rest), None) => rest.is_empty(),
            (None, _) => false,
        }
    }

    /// Path and query.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }

    /// As routes see it.
    pub(crate) fn head<'a>(
        &'a self,
        parts: &'a Parts,
        headers: &'a dyn tulle_route::Headers,
        claims: Option<&'a dyn tulle_route::Claims>,
    ) -> RequestHead<'a> {
        RequestHead {
            method: parts.method.as_str(),
            scheme: self.scheme,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers,
            port: self.port,
            source_namespace: self.source_namespace.as_deref(),
            claims,
        }
    }
}

fn normalization(wanted: Wanted) -> Normalization {
    match wanted {
        Wanted::None => Normalization::None,
        Wanted::Base => Normalization::Base,
        Wanted::MergeSlashes => Normalization::MergeSlashes,
        Wanted::DecodeAndMergeSlashes => Normalization::DecodeAndMergeSlashes,
    }
}

/// Another path and query. A rewrite of a user that makes no target is answered with 500.
pub(crate) fn set_target(head: &mut Parts, target: &str) -> Result<(), Reply> {
    let bad = || {
        Reply::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "rewrite_makes_no_path",
        )
    };
    let target: PathAndQuery = target.parse().map_err(|_| bad())?;
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(target);
    head.uri = Uri::from_parts(parts).map_err(|_| bad())?;
    Ok(())
}

#[cfg(test)]
mod tests;
