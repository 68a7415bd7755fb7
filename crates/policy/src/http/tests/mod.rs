//! Tests of authorization of requests.

mod cases;
mod reference;
mod templates;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tulle_model::{Identity, ServiceKey};

use super::{
    Action, Clause, Headers, Http, HttpPolicy, Match, Request, Rule, Test, TextAttribute, TextMatch,
};
use crate::Target;
use crate::jwt::Claims;

/// A waypoint's own target.
fn waypoint() -> Target {
    Target::Gateway("ns/waypoint".into())
}

/// A service's target.
fn service(name: &str) -> Target {
    Target::Service(ServiceKey::new(
        "ns",
        &format!("{name}.ns.svc.cluster.local"),
    ))
}

/// A policy for a target.
fn policy(name: &str, target: Target, action: Action, rules: Vec<Rule>) -> HttpPolicy {
    HttpPolicy {
        name: name.into(),
        targets: vec![target],
        action,
        dry_run: false,
        rules,
        unenforceable: None,
    }
}

/// A rule of one test.
fn rule(test: Test) -> Rule {
    Rule {
        clauses: vec![Clause {
            any: vec![Match { all: vec![test] }],
        }],
    }
}

/// A test of texts as users write them.
fn text(attribute: TextAttribute, values: &[&str], not: &[&str]) -> Test {
    let parse = |texts: &[&str]| texts.iter().map(|text| TextMatch::parse(text)).collect();
    Test::Text {
        attribute,
        values: parse(values),
        not: parse(not),
    }
}

/// What is asked, with defaults.
#[derive(Debug)]
struct Asked<'a> {
    source: Option<Identity>,
    method: &'a str,
    authority: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    claims: Option<Claims>,
    port: u16,
    sni: Option<&'a str>,
    remote: IpAddr,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            source: Some(Identity::new("td", "a", "b")),
            method: "GET",
            authority: "reviews:9080",
            path: "/reviews/1",
            headers: Vec::new(),
            claims: None,
            port: 9080,
            sni: None,
            remote: IpAddr::from([203, 0, 113, 7]),
        }
    }
}

impl Asked<'_> {
    /// Asks with the request.
    fn with<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers = Lines(&self.headers);
        ask(&Request {
            source: self.source.as_ref(),
            source_ip: IpAddr::from([10, 0, 0, 9]),
            remote_ip: self.remote,
            destination: SocketAddr::from(([10, 0, 0, 1], self.port)),
            sni: self.sni,
            http: Some(Http {
                method: self.method,
                authority: self.authority,
                path: self.path,
                headers: &headers,
                claims: self.claims.as_ref(),
            }),
        })
    }
}

struct Lines<'a>(&'a [(&'a str, &'a str)]);

impl Headers for Lines<'_> {
    fn joined(&self, name: &str) -> Option<std::borrow::Cow<'_, [u8]>> {
        self.0.joined(name)
    }
}

fn claims(json: &str) -> Claims {
    Claims::parse(json.as_bytes()).unwrap()
}

fn names(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}
