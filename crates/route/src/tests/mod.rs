//! Tests, and what they build routes and requests with.

mod balance_locality;
mod balance_outlier;
mod balance_pick;
mod canonical;
mod conformance;
mod cors;
mod decisions;
mod hashing;
mod hosts;
mod matching;
mod precedence;
mod rate;
mod redirects;
mod streams;
mod table;
mod wire;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tulle_model::ServiceKey;

use crate::resource::*;
use crate::{Lookup, RequestHead, Scope, Table};

pub(super) const SCOPE: Scope<'static> = Scope::Listener {
    gateway: "infra/gateway",
    listener: "http",
};

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("HTTPRoute", "infra", name)
}

pub(super) fn listener(hosts: &[&str]) -> Parent {
    Parent::Listener {
        gateway: "infra/gateway".into(),
        listener: "http".into(),
        hostnames: hosts.iter().map(|h| HostPattern((*h).into())).collect(),
    }
}

pub(super) fn route(name: &str, hosts: &[&str], rules: Vec<Rule>) -> HttpRoute {
    HttpRoute {
        object: key(name),
        parents: vec![listener(hosts)],
        created: 0,
        precedence: Precedence::Specific,
        rules,
    }
}

pub(super) fn in_order(name: &str, rules: Vec<Rule>) -> HttpRoute {
    HttpRoute {
        precedence: Precedence::InOrder,
        ..route(name, &[], rules)
    }
}

/// A rule that is told apart by its name.
pub(super) fn rule(name: &str, matches: Vec<Match>) -> Rule {
    Rule {
        name: Some(name.into()),
        matches,
        filters: Vec::new(),
        action: RuleAction::Forward(vec![backend(name, 1)]),
        timeouts: Timeouts::default(),
        retry: None,
    }
}

pub(super) fn backend(service: &str, weight: u32) -> Backend {
    Backend {
        weight,
        target: BackendTarget::Service {
            service: ServiceKey::new("infra", service),
            port: Some(8080),
            subset: None,
        },
        filters: Vec::new(),
    }
}

pub(super) fn exact(path: &str) -> Match {
    with_path(PathMatch::Exact(path.into()))
}

pub(super) fn prefix(path: &str) -> Match {
    with_path(PathMatch::Prefix(path.into()))
}

pub(super) fn text(path: &str) -> Match {
    with_path(PathMatch::Text(path.into()))
}

pub(super) fn regex(path: &str) -> Match {
    with_path(PathMatch::Regex(path.into()))
}

pub(super) fn with_path(path: PathMatch) -> Match {
    Match {
        path: Some(path),
        ..Match::default()
    }
}

pub(super) fn named(pairs: &[(&str, &str)]) -> Vec<NamedMatch> {
    let one = |(name, value): &(&str, &str)| NamedMatch {
        name: (*name).into(),
        value: TextMatch::Exact((*value).into()),
    };
    pairs.iter().map(one).collect()
}

/// Gateway API's default: a match without a path has the prefix `/`.
pub(super) fn headers(pairs: &[(&str, &str)]) -> Match {
    Match {
        headers: named(pairs),
        ..prefix("/")
    }
}

/// A request that owns its parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) port: u16,
    pub(super) scheme: &'static str,
    pub(super) namespace: Option<String>,
}

/// `GET http://host/path?query` to port 80.
pub(super) fn get(host: &str, target: &str) -> Request {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    Request {
        method: "GET",
        host: host.into(),
        path: path.into(),
        query,
        headers: HeaderMap::new(),
        port: 80,
        scheme: "http",
        namespace: None,
    }
}

impl Request {
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
        self
    }

    pub(super) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    pub(super) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: self.method,
            scheme: self.scheme,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            port: self.port,
            source_namespace: self.namespace.as_deref(),
            claims: None,
        }
    }
}

pub(super) fn table(routes: impl IntoIterator<Item = HttpRoute>) -> Table {
    let mut table = Table::default();
    for route in routes {
        table.insert_http(route).unwrap();
    }
    table
}

/// Name of the rule that wins; `404` or `unrouted` without one.
pub(super) fn winner(table: &Table, scope: Scope<'_>, request: &Request) -> String {
    match table.http(scope, &request.head()) {
        Lookup::Routed(routed) => routed
            .rule
            .name()
            .cloned()
            .unwrap_or_else(|| Arc::from(""))
            .to_string(),
        Lookup::NoMatch => "404".into(),
        Lookup::Unrouted => "unrouted".into(),
    }
}
