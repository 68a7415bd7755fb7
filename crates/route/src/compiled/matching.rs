//! Does a request match?

use std::sync::Arc;

use regex::bytes::Regex;

use super::MatchedPath;
use crate::canonical;
use crate::error::PatternError;
use crate::request::{RequestHead, decoded, parameters};
use crate::resource::{Match, NamedMatch, PathMatch};
use crate::text::{Pattern, Patterns, written};

/// One alternative of a rule.
#[derive(Debug)]
pub(crate) struct CompiledMatch {
    pub(crate) path: PathTest,
    /// Of the path as it was written.
    path_length: u32,
    pub(crate) ignore_case: bool,
    /// Most matches look at the path alone.
    conditions: Option<Box<Conditions>>,
}

/// How a path is compared; literals in canonical form.
#[derive(Debug)]
pub(crate) enum PathTest {
    Any,
    Exact(Arc<str>),
    /// Without the slash at the end.
    Elements(Arc<str>),
    Text(Arc<str>),
    Regex(Arc<Regex>),
}

/// What makes a match win over others in Gateway API, the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Specificity {
    /// Written by a client's namespace for its own clients.
    of_clients: bool,
    path: u8,
    path_length: u32,
    method: bool,
    headers: usize,
    query: usize,
}

#[derive(Debug, Default)]
struct Conditions {
    method: Option<Pattern>,
    scheme: Option<Pattern>,
    authority: Option<Pattern>,
    headers: Vec<Named>,
    without_headers: Vec<Named>,
    query: Vec<Named>,
    port: Option<u16>,
    source_namespace: Option<Arc<str>>,
}

#[derive(Debug)]
struct Named {
    subject: Subject,
    pattern: Pattern,
}

/// What a name stands for.
#[derive(Debug)]
enum Subject {
    Name(Arc<str>),
    /// `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`.
    Claim {
        name: Arc<str>,
        path: Vec<Arc<str>>,
    },
}

const CLAIMS: &str = "@request.auth.claims";

impl CompiledMatch {
    /// No match at all matches everything.
    pub(crate) fn compile_all(
        matches: &[Match],
        patterns: &mut Patterns,
    ) -> Result<Box<[Self]>, PatternError> {
        if matches.is_empty() {
            let everything = Self::compile(&Match::default(), patterns)?;
            return Ok(Box::new([everything]));
        }
        matches.iter().map(|m| Self::compile(m, patterns)).collect()
    }

    fn compile(m: &Match, patterns: &mut Patterns) -> Result<Self, PatternError> {
        let written = m.path.as_ref().map_or(1, |path| path.text().len());
        Ok(Self {
            path: PathTest::compile(m.path.as_ref(), patterns)?,
            path_length: u32::try_from(written).unwrap_or(u32::MAX),
            ignore_case: m.ignore_case,
            conditions: Conditions::compile(m, patterns)?.map(Box::new),
        })
    }

    pub(crate) fn to_resource(&self) -> Match {
        let conditions = self.conditions.as_deref();
        Match {
            path: self.path.to_resource(),
            ignore_case: self.ignore_case,
            ..conditions.map_or(Match::default(), Conditions::to_resource)
        }
    }

    /// The namespace for whose clients alone it counts.
    pub(crate) fn source_namespace(&self) -> Option<&Arc<str>> {
        self.conditions.as_ref()?.source_namespace.as_ref()
    }

    /// Takes every request: comes last among rules in order, as Istio does it when it merges VirtualServices.
    pub(crate) fn catches_all(&self) -> bool {
        self.conditions.is_none() && self.path.takes_all()
    }

    /// Exact before prefix before expression, as Istio ranks them; a rule without a path has the prefix `/`.
    pub(crate) fn specificity(&self) -> Specificity {
        let conditions = self.conditions.as_deref();
        let count = |of: fn(&Conditions) -> usize| conditions.map_or(0, of);
        Specificity {
            of_clients: self.source_namespace().is_some(),
            path: match self.path {
                PathTest::Exact(_) => 3,
                PathTest::Any | PathTest::Elements(_) | PathTest::Text(_) => 2,
                PathTest::Regex(_) => 1,
            },
            path_length: self.path_length,
            method: conditions.is_some_and(|c| c.method.is_some()),
            headers: count(|c| c.headers.len() + c.without_headers.len()),
            query: count(|c| c.query.len()),
        }
    }

    pub(crate) fn test(&self, request: &RequestHead<'_>) -> Option<MatchedPath> {
        let matched = self.path.test(request.path, self.ignore_case)?;
        let holds = self
            .conditions
            .as_ref()
            .is_none_or(|conditions| conditions.hold(request));
        holds.then_some(matched)
    }
}

impl PathTest {
    fn compile(path: Option<&PathMatch>, patterns: &mut Patterns) -> Result<Self, PatternError> {
        let literal = |text: &Arc<str>| match canonical::literal(text) {
            std::borrow::Cow::Borrowed(_) => text.clone(),
            std::borrow::Cow::Owned(text) => text.into(),
        };
        Ok(match path {
            None => Self::Any,
            Some(PathMatch::Exact(text)) => Self::Exact(literal(text)),
            Some(PathMatch::Prefix(text)) => match text.strip_suffix('/') {
                // Most routes by host alone have this one.
                Some("") => Self::Any,
                Some(elements) => Self::Elements(literal(&elements.into())),
                None => Self::Elements(literal(text)),
            },
            Some(PathMatch::Text(text)) => Self::Text(literal(text)),
            Some(PathMatch::Regex(text)) => Self::Regex(patterns.whole(text)?),
        })
    }

    fn to_resource(&self) -> Option<PathMatch> {
        Some(match self {
            Self::Any => return None,
            Self::Exact(text) => PathMatch::Exact(text.clone()),
            Self::Elements(text) => PathMatch::Prefix(text.clone()),
            Self::Text(text) => PathMatch::Text(text.clone()),
            Self::Regex(regex) => PathMatch::Regex(written(regex).into()),
        })
    }

    fn takes_all(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Elements(text) => text.is_empty(),
            Self::Text(text) => &**text == "/",
            Self::Regex(regex) => written(regex) == ".*",
            Self::Exact(_) => false,
        }
    }

    fn test(&self, path: &str, ignore_case: bool) -> Option<MatchedPath> {
        let begins = |prefix: &str| {
            path.as_bytes()
                .get(..prefix.len())
                .is_some_and(|begin| equal(begin, prefix, ignore_case))
        };
        match self {
            Self::Any => Some(MatchedPath::Prefix(0)),
            Self::Exact(text) => {
                equal(path.as_bytes(), text, ignore_case).then_some(MatchedPath::Whole)
            }
            Self::Elements(prefix) => (begins(prefix) && at_boundary(path, prefix.len()))
                .then_some(MatchedPath::Prefix(prefix.len())),
            Self::Text(prefix) => begins(prefix).then_some(MatchedPath::Prefix(prefix.len())),
            Self::Regex(regex) => regex
                .is_match(path.as_bytes())
                .then_some(MatchedPath::Whole),
        }
    }
}

/// Whether an element of `path` ends at `length`.
pub(crate) fn at_boundary(path: &str, length: usize) -> bool {
    matches!(path.as_bytes().get(length), None | Some(b'/')) || length == 0
}

fn equal(a: &[u8], b: &str, ignore_case: bool) -> bool {
    if ignore_case {
        a.eq_ignore_ascii_case(b.as_bytes())
    } else {
        a == b.as_bytes()
    }
}

impl Conditions {
    fn compile(m: &Match, patterns: &mut Patterns) -> Result<Option<Self>, PatternError> {
        let mut named = |list: &[NamedMatch]| -> Result<Vec<Named>, PatternError> {
            list.iter().map(|n| Named::compile(n, patterns)).collect()
        };
        let headers = named(&m.headers)?;
        let without_headers = named(&m.without_headers)?;
        let query = named(&m.query)?;
        let mut text = |text: &Option<_>| {
            text.as_ref()
                .map(|text| Pattern::compile(text, patterns))
                .transpose()
        };
        let conditions = Self {
            method: text(&m.method)?,
            scheme: text(&m.scheme)?,
            authority: text(&m.authority)?,
            headers,
            without_headers,
            query,
            port: m.port,
            source_namespace: m.source_namespace.clone(),
        };
        Ok(conditions.any().then_some(conditions))
    }

    /// Without the path.
    fn to_resource(&self) -> Match {
        let text = |pattern: &Option<Pattern>| pattern.as_ref().map(Pattern::to_resource);
        let named = |list: &[Named]| list.iter().map(Named::to_resource).collect();
        Match {
            path: None,
            ignore_case: false,
            method: text(&self.method),
            scheme: text(&self.scheme),
            authority: text(&self.authority),
            headers: named(&self.headers),
            without_headers: named(&self.without_headers),
            query: named(&self.query),
            port: self.port,
            source_namespace: self.source_namespace.clone(),
        }
    }

    fn any(&self) -> bool {
        self.method.is_some()
            || self.scheme.is_some()
            || self.authority.is_some()
            || self.port.is_some()
            || self.source_namespace.is_some()
            || !(self.headers.is_empty()
                && self.without_headers.is_empty()
                && self.query.is_empty())
    }

    fn hold(&self, request: &RequestHead<'_>) -> bool {
        let text = |pattern: &Option<Pattern>, value: &str| {
            pattern
                .as_ref()
                .is_none_or(|pattern| pattern.matches(value.as_bytes()))
        };
        let namespace = self.source_namespace.as_deref();
        self.port.is_none_or(|port| port == request.port)
            && (namespace.is_none() || namespace == request.source_namespace)
            && text(&self.method, request.method)
            && text(&self.scheme, request.scheme)
            && text(&self.authority, request.host)
            && self.headers.iter().all(|header| header.holds(request))
            && !self
                .without_headers
                .iter()
                .any(|header| header.is_there(request))
            && self
                .query
                .iter()
                .all(|parameter| parameter.in_query(request.query))
    }
}

impl Named {
    fn compile(named: &NamedMatch, patterns: &mut Patterns) -> Result<Self, PatternError> {
        Ok(Self {
            subject: match named.name.strip_prefix(CLAIMS) {
                Some(path) => Subject::Claim {
                    name: named.name.clone(),
                    path: claim_path(path),
                },
                None => Subject::Name(named.name.clone()),
            },
            pattern: Pattern::compile(&named.value, patterns)?,
        })
    }

    fn to_resource(&self) -> NamedMatch {
        let (Subject::Name(name) | Subject::Claim { name, .. }) = &self.subject;
        NamedMatch {
            name: name.clone(),
            value: self.pattern.to_resource(),
        }
    }

    fn holds(&self, request: &RequestHead<'_>) -> bool {
        match &self.subject {
            Subject::Name(name) => request
                .headers
                .values(name)
                .bytes()
                .is_some_and(|value| self.pattern.matches(value)),
            Subject::Claim { name, path } => self.claimed(name, path, request),
        }
    }

    /// For `withoutHeaders`: a header that is not there counts as empty, unless its mere presence is asked for (as Istio has it).
    fn is_there(&self, request: &RequestHead<'_>) -> bool {
        match &self.subject {
            Subject::Name(name) => match request.headers.values(name).bytes() {
                Some(value) => self.pattern.matches(value),
                None => !matches!(self.pattern, Pattern::Present) && self.pattern.matches(b""),
            },
            Subject::Claim { name, path } => self.claimed(name, path, request),
        }
    }

    /// Whoever has no claims of his own to show may answer for them as for headers.
    fn claimed(&self, name: &str, path: &[Arc<str>], request: &RequestHead<'_>) -> bool {
        let Some(claims) = request.claims else {
            let values = request.headers.values(name);
            return values.bytes().is_some_and(|v| self.pattern.matches(v));
        };
        let path: Vec<&str> = path.iter().map(|part| &**part).collect();
        claims.any(&path, &mut |value| self.pattern.matches(value.as_bytes()))
    }

    /// The first parameter of that name counts, as it was sent or decoded.
    fn in_query(&self, query: Option<&str>) -> bool {
        let Subject::Name(name) = &self.subject else {
            return false;
        };
        let value = query.and_then(|query| parameters(query, name).next());
        value.is_some_and(|value| {
            self.pattern.matches(value.as_bytes())
                || decoded(value).is_some_and(|value| self.pattern.matches(&value))
        })
    }
}

/// `.a.b` or `[a][b]`.
fn claim_path(text: &str) -> Vec<Arc<str>> {
    let parts: Vec<&str> = match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(inner) => inner.split("][").collect(),
        None => text.trim_start_matches('.').split('.').collect(),
    };
    parts.into_iter().map(Arc::from).collect()
}
