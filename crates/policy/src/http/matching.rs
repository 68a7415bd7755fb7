//! Does a request match? Rules are compiled once: templates parsed, ports and nets as they are.

use std::borrow::Cow;
use std::sync::Arc;

use ipnet::IpNet;

use super::request::Request;
use super::resource::{
    Action, HttpPolicy, NetAttribute, PathMatch, Rule, Test, TextAttribute, TextMatch,
};
use super::template::PathTemplate;
use crate::jwt::Claims;
use crate::matching::{account_matches, principal_matches};
use crate::policy::StringMatch;

/// A policy, ready to be asked.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) policy: HttpPolicy,
    rules: Vec<CompiledRule>,
    /// Why it fails closed.
    pub(super) broken: Option<Arc<str>>,
}

/// Clauses of matches of tests.
#[derive(Debug)]
struct CompiledRule(Vec<Vec<Vec<CompiledTest>>>);

#[derive(Debug)]
enum CompiledTest {
    Plain(Test),
    Path {
        values: Vec<CompiledPath>,
        not: Vec<CompiledPath>,
    },
    /// Compared piece by piece, without building the principal.
    Principal {
        values: Vec<StringMatch>,
        not: Vec<StringMatch>,
    },
}

#[derive(Debug)]
enum CompiledPath {
    Text(TextMatch),
    Template(PathTemplate),
}

impl Compiled {
    pub(super) fn new(policy: HttpPolicy) -> Self {
        let mut broken = policy.unenforceable.clone();
        let mut rules = Vec::with_capacity(policy.rules.len());
        for rule in &policy.rules {
            match compile(rule) {
                Ok(rule) => rules.push(rule),
                Err(why) => {
                    broken.get_or_insert(why);
                }
            }
        }
        Self {
            policy,
            rules,
            broken,
        }
    }

    /// Index of the first rule that matches. What cannot be known counts as true where that is the cautious answer.
    pub(super) fn matching_rule(&self, request: &Request<'_>) -> Option<usize> {
        let assume = matches!(self.policy.action, Action::Deny | Action::Custom { .. });
        self.rules.iter().position(|CompiledRule(clauses)| {
            clauses.iter().all(|any| {
                any.iter()
                    .any(|all| all.iter().all(|test| test.holds(request, assume)))
            })
        })
    }
}

fn compile(rule: &Rule) -> Result<CompiledRule, Arc<str>> {
    let mut clauses = Vec::with_capacity(rule.clauses.len());
    for clause in &rule.clauses {
        let mut any = Vec::with_capacity(clause.any.len());
        for m in &clause.any {
            let tests: Result<Vec<_>, _> = m.all.iter().map(compile_test).collect();
            any.push(tests?);
        }
        clauses.push(any);
    }
    Ok(CompiledRule(clauses))
}

fn compile_test(test: &Test) -> Result<CompiledTest, Arc<str>> {
    Ok(match test {
        Test::Path { values, not } => CompiledTest::Path {
            values: paths(values)?,
            not: paths(not)?,
        },
        Test::Text {
            attribute: TextAttribute::Principal,
            values,
            not,
        } => CompiledTest::Principal {
            values: texts(values),
            not: texts(not),
        },
        other => CompiledTest::Plain(other.clone()),
    })
}

fn paths(paths: &[PathMatch]) -> Result<Vec<CompiledPath>, Arc<str>> {
    let compile = |path: &PathMatch| match path {
        PathMatch::Text(text) => Ok(CompiledPath::Text(text.clone())),
        PathMatch::Template(text) => match PathTemplate::parse(text) {
            Ok(template) => Ok(CompiledPath::Template(template)),
            Err(why) => Err(format!("path template {text:?} {why}").into()),
        },
    };
    paths.iter().map(compile).collect()
}

fn texts(texts: &[TextMatch]) -> Vec<StringMatch> {
    let convert = |text: &TextMatch| match text {
        TextMatch::Exact(t) => StringMatch::Exact(t.clone()),
        TextMatch::Prefix(t) => StringMatch::Prefix(t.clone()),
        TextMatch::Suffix(t) => StringMatch::Suffix(t.clone()),
        TextMatch::Present => StringMatch::Presence,
    };
    texts.iter().map(convert).collect()
}

impl CompiledTest {
    fn holds(&self, request: &Request<'_>, assume: bool) -> bool {
        match self {
            Self::Principal { values, not } => {
                field(values, not, |text| principal_matches(text, request.source))
            }
            Self::Path { values, not } => match &request.http {
                Some(http) => field(values, not, |path| path.matches(http.path)),
                None => assume,
            },
            Self::Plain(test) => plain_holds(test, request, assume),
        }
    }
}

impl CompiledPath {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => fits(text, path.as_bytes(), Case::Minded),
            Self::Template(template) => template.matches(path),
        }
    }
}

fn plain_holds(test: &Test, request: &Request<'_>, assume: bool) -> bool {
    match test {
        Test::Text {
            attribute,
            values,
            not,
        } => text_holds(attribute, values, not, request, assume),
        Test::Net {
            attribute,
            values,
            not,
        } => {
            let address = match attribute {
                NetAttribute::Source => request.source_ip,
                NetAttribute::Remote => request.remote_ip,
                NetAttribute::Destination => request.destination.ip(),
            };
            let address = address.to_canonical();
            field(values, not, |net: &IpNet| net.contains(&address))
        }
        Test::Port { values, not } => {
            field(values, not, |port| *port == request.destination.port())
        }
        Test::ServiceAccount { values, not } => field(values, not, |account| {
            account_matches(account, request.source)
        }),
        // Compiled to something else.
        Test::Path { .. } => false,
    }
}

fn field<T>(wanted: &[T], unwanted: &[T], holds: impl Fn(&T) -> bool) -> bool {
    (wanted.is_empty() || wanted.iter().any(&holds)) && !unwanted.iter().any(&holds)
}

/// Offers texts of claims until one fits.
type OfClaims<'a> = dyn Fn(&Claims, &mut dyn FnMut(&str) -> bool) -> bool + 'a;

fn text_holds(
    attribute: &TextAttribute,
    values: &[TextMatch],
    not: &[TextMatch],
    request: &Request<'_>,
    assume: bool,
) -> bool {
    let one = |value: Option<&str>| {
        field(values, not, |text| {
            value.is_some_and(|value| fits(text, value.as_bytes(), Case::Minded))
        })
    };
    let claims = |list: &OfClaims<'_>| match &request.http {
        None => assume,
        Some(http) => field(values, not, |text| {
            http.claims.is_some_and(|claims| {
                list(claims, &mut |value| {
                    fits(text, value.as_bytes(), Case::Minded)
                })
            })
        }),
    };
    match attribute {
        TextAttribute::Principal => false,
        TextAttribute::Namespace => one(request.source.map(|source| &*source.namespace)),
        TextAttribute::TrustDomain => one(request.source.map(|source| &*source.trust_domain)),
        TextAttribute::Sni => one(request.sni),
        TextAttribute::RequestPrincipal => {
            claims(&|claims, fit| claims.principal().is_some_and(fit))
        }
        TextAttribute::Presenter => claims(&|claims, fit| claims.any(&["azp"], fit)),
        TextAttribute::Audience => claims(&|claims, fit| claims.any(&["aud"], fit)),
        TextAttribute::Claim(path) => claims(&|claims, fit| claims.any(path, fit)),
        TextAttribute::Method => request
            .http
            .as_ref()
            .map_or(assume, |http| one(Some(http.method))),
        TextAttribute::Host => request.http.as_ref().map_or(assume, |http| {
            field(values, not, |text| {
                fits(text, http.authority.as_bytes(), Case::Ignored)
            })
        }),
        TextAttribute::Header(name) => request.http.as_ref().map_or(assume, |http| {
            let value = http.headers.joined(name);
            field(values, not, |text| header_fits(text, value.as_ref()))
        }),
    }
}

fn header_fits(text: &TextMatch, value: Option<&Cow<'_, [u8]>>) -> bool {
    match (text, value) {
        (_, None) => false,
        (TextMatch::Present, Some(_)) => true,
        (text, Some(value)) => fits(text, value, Case::Minded),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Minded,
    Ignored,
}

fn fits(text: &TextMatch, value: &[u8], case: Case) -> bool {
    let equal = |a: &[u8], b: &[u8]| match case {
        Case::Minded => a == b,
        Case::Ignored => a.eq_ignore_ascii_case(b),
    };
    match text {
        TextMatch::Exact(exact) => equal(exact.as_bytes(), value),
        TextMatch::Prefix(prefix) => value
            .get(..prefix.len())
            .is_some_and(|start| equal(prefix.as_bytes(), start)),
        TextMatch::Suffix(suffix) => {
            let start = value.len().checked_sub(suffix.len());
            start
                .and_then(|start| value.get(start..))
                .is_some_and(|end| equal(suffix.as_bytes(), end))
        }
        TextMatch::Present => !value.is_empty(),
    }
}
