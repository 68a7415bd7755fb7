//! `match` of HTTP routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_api::networking::{HttpMatchRequest, StringMatch};
use tulle_route::resource::{Match, NamedMatch, PathMatch, TextMatch};

use crate::networking::findings::{Findings, shown};

/// Header names of Envoy that are parts of the request line.
const PSEUDO: [(&str, Pseudo); 4] = [
    (":method", Pseudo::Method),
    (":authority", Pseudo::Authority),
    (":scheme", Pseudo::Scheme),
    (":path", Pseudo::Path),
];

#[derive(Clone, Copy)]
enum Pseudo {
    Method,
    Authority,
    Scheme,
    Path,
}

/// Headers that stand for claims of the verified token.
const CLAIM_PREFIX: &str = "@request.auth.claims";

/// `None` when it asks for something that is not known here: then it never matches.
pub(super) fn http(m: &HttpMatchRequest, path: &str, findings: &mut Findings) -> Option<Match> {
    if !m.source_labels.is_empty() {
        findings.unsupported(
            format!("{path}.sourceLabels"),
            "waypoints and gateways do not know the labels of clients, the match is left out",
        );
        return None;
    }
    let mut texts = Texts {
        path,
        findings,
        sound: true,
    };
    let mut matched = Match {
        path: m.uri.as_ref().and_then(|uri| texts.uri("uri", uri)),
        ignore_case: m.ignore_uri_case.unwrap_or_default(),
        method: m.method.as_ref().and_then(|t| texts.text("method", t)),
        scheme: m.scheme.as_ref().and_then(|t| texts.text("scheme", t)),
        authority: m
            .authority
            .as_ref()
            .and_then(|t| texts.text("authority", t)),
        headers: Vec::new(),
        without_headers: texts.named("withoutHeaders", &m.without_headers, Names::Headers),
        query: texts.named("queryParams", &m.query_params, Names::Exact),
        port: m.port.and_then(|port| texts.port(port)),
        source_namespace: m
            .source_namespace
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(Arc::from),
    };
    let mut headers = BTreeMap::new();
    for (name, value) in &m.headers {
        match PSEUDO
            .iter()
            .find(|(pseudo, _)| name.eq_ignore_ascii_case(pseudo))
        {
            None => {
                headers.insert(name.clone(), value.clone());
            }
            Some((_, Pseudo::Method)) => matched.method = texts.text("headers[:method]", value),
            Some((_, Pseudo::Authority)) => {
                matched.authority = texts.text("headers[:authority]", value)
            }
            Some((_, Pseudo::Scheme)) => matched.scheme = texts.text("headers[:scheme]", value),
            Some((_, Pseudo::Path)) => matched.path = texts.uri("headers[:path]", value),
        }
    }
    matched.headers = texts.named("headers", &headers, Names::Headers);
    texts.sound.then_some(matched)
}

/// Reads texts, and notes whether all were sound.
struct Texts<'a> {
    path: &'a str,
    findings: &'a mut Findings,
    sound: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Headers,
    Exact,
}

impl Texts<'_> {
    fn uri(&mut self, field: &str, text: &StringMatch) -> Option<PathMatch> {
        Some(match self.text(field, text)? {
            TextMatch::Exact(exact) => PathMatch::Exact(exact),
            TextMatch::Prefix(prefix) => PathMatch::Text(prefix),
            TextMatch::Regex(regex) => PathMatch::Regex(regex),
            // An empty match is any path.
            TextMatch::Suffix(_) | TextMatch::Present => PathMatch::Text("/".into()),
        })
    }

    fn text(&mut self, field: &str, text: &StringMatch) -> Option<TextMatch> {
        let matched = match (&text.exact, &text.prefix, &text.regex) {
            (Some(exact), None, None) => TextMatch::Exact(exact.as_str().into()),
            (None, Some(prefix), None) => TextMatch::Prefix(prefix.as_str().into()),
            (None, None, Some(regex)) => match compiles(regex) {
                Ok(()) => TextMatch::Regex(regex.as_str().into()),
                Err(why) => return self.refuse(field, why),
            },
            (None, None, None) => TextMatch::Present,
            _ => {
                return self.refuse(
                    field,
                    "has more than one of exact, prefix and regex".to_owned(),
                );
            }
        };
        Some(matched)
    }

    fn refuse<T>(&mut self, field: &str, why: String) -> Option<T> {
        self.findings.invalid(format!("{}.{field}", self.path), why);
        self.sound = false;
        None
    }

    fn named(
        &mut self,
        field: &str,
        all: &BTreeMap<String, StringMatch>,
        names: Names,
    ) -> Vec<NamedMatch> {
        let mut matches = Vec::with_capacity(all.len());
        for (name, value) in all {
            if let Some(value) = self.text(&format!("{field}[{}]", shown(name)), value) {
                let lower = names == Names::Headers && !name.starts_with(CLAIM_PREFIX);
                let name = if lower {
                    name.to_ascii_lowercase()
                } else {
                    name.clone()
                };
                matches.push(NamedMatch {
                    name: name.into(),
                    value,
                });
            }
        }
        matches
    }

    fn port(&mut self, port: u32) -> Option<u16> {
        match u16::try_from(port) {
            Ok(port) if port > 0 => Some(port),
            _ => self.refuse("port", format!("{port} is no port")),
        }
    }
}

/// Whether one of them is no condition at all; there is none to fulfil where there are none.
pub(super) fn take_everything(matches: &[Match]) -> bool {
    let takes_everything = |m: &Match| {
        let any_path = match &m.path {
            None => true,
            Some(PathMatch::Prefix(path) | PathMatch::Text(path)) => &**path == "/",
            Some(PathMatch::Regex(path)) => &**path == ".*",
            Some(PathMatch::Exact(_)) => false,
        };
        let otherwise = Match {
            path: None,
            ignore_case: false,
            ..m.clone()
        };
        any_path && otherwise == Match::default()
    };
    matches.is_empty() || matches.iter().any(takes_everything)
}

/// Whether an expression is one of RE2's.
pub(in crate::networking) fn compiles(regex: &str) -> Result<(), String> {
    match regex::Regex::new(regex) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{:?} is no regular expression", shown(regex))),
    }
}

/// What both matches ask for (a delegate's below its root's); `None` when they contradict.
pub(super) fn both(
    root: &HttpMatchRequest,
    delegate: &HttpMatchRequest,
) -> Option<HttpMatchRequest> {
    let uri = match (&root.uri, &delegate.uri) {
        (Some(root), Some(delegate)) => Some(narrower(root, delegate)?),
        (root, delegate) => root.clone().or_else(|| delegate.clone()),
    };
    let one = |root: &Option<StringMatch>, delegate: &Option<StringMatch>| match (root, delegate) {
        (Some(root), Some(delegate)) if root != delegate => Err(()),
        (root, delegate) => Ok(root.clone().or_else(|| delegate.clone())),
    };
    let all = |root: &BTreeMap<String, StringMatch>, delegate: &BTreeMap<String, StringMatch>| {
        let mut merged = root.clone();
        for (name, value) in delegate {
            if merged.get(name).is_some_and(|old| old != value) {
                return Err(());
            }
            merged.insert(name.clone(), value.clone());
        }
        Ok(merged)
    };
    let port = match (root.port, delegate.port) {
        (Some(a), Some(b)) if a != b => return None,
        (a, b) => a.or(b),
    };
    let mut source_labels = root.source_labels.clone();
    source_labels.extend(delegate.source_labels.clone());
    Some(HttpMatchRequest {
        name: delegate.name.clone().or_else(|| root.name.clone()),
        uri,
        scheme: one(&root.scheme, &delegate.scheme).ok()?,
        method: one(&root.method, &delegate.method).ok()?,
        authority: one(&root.authority, &delegate.authority).ok()?,
        headers: all(&root.headers, &delegate.headers).ok()?,
        port,
        source_labels,
        gateways: if root.gateways.is_empty() {
            delegate.gateways.clone()
        } else {
            root.gateways.clone()
        },
        query_params: all(&root.query_params, &delegate.query_params).ok()?,
        ignore_uri_case: root.ignore_uri_case.or(delegate.ignore_uri_case),
        without_headers: all(&root.without_headers, &delegate.without_headers).ok()?,
        source_namespace: root
            .source_namespace
            .clone()
            .or_else(|| delegate.source_namespace.clone()),
        stat_prefix: delegate.stat_prefix.clone(),
    })
}

/// The delegate's path, if the root's includes it.
fn narrower(root: &StringMatch, delegate: &StringMatch) -> Option<StringMatch> {
    let within = match (&root.prefix, &root.exact, &delegate.prefix, &delegate.exact) {
        (Some(root), _, Some(delegate), _) | (Some(root), _, _, Some(delegate)) => {
            delegate.starts_with(root.as_str())
        }
        (_, Some(root), _, Some(delegate)) => root == delegate,
        _ => root == delegate,
    };
    within.then(|| delegate.clone())
}
