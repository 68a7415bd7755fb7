//! Where requests carry tokens.

use std::borrow::Cow;
use std::sync::Arc;

use super::resource::{JwtRule, TokenHeader};

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A header, after a prefix.
    Header(TokenHeader),
    /// A parameter of the query.
    Param(Arc<str>),
    /// A cookie.
    Cookie(Arc<str>),
}

/// The parts of a request that can carry tokens.
pub trait Carrier {
    /// Each line of a header (name in lower case) that is text.
    fn header(&self, name: &str) -> Vec<Cow<'_, str>>;
    /// The query, without `?`.
    fn query(&self) -> Option<&str>;
}

impl Location {
    /// Where a rule looks.
    pub(super) fn of(rule: &JwtRule) -> Vec<Self> {
        let headers = rule.from_headers.iter().cloned().map(Self::Header);
        let params = rule.from_params.iter().cloned().map(Self::Param);
        let cookies = rule.from_cookies.iter().cloned().map(Self::Cookie);
        let all: Vec<Self> = headers.chain(params).chain(cookies).collect();
        if !all.is_empty() {
            return all;
        }
        let bearer = TokenHeader {
            name: "authorization".into(),
            prefix: "Bearer ".into(),
        };
        vec![Self::Header(bearer), Self::Param("access_token".into())]
    }

    /// The tokens there. Without a prefix in a header line there is none in it.
    pub(super) fn tokens<'a>(&self, request: &'a dyn Carrier) -> Vec<Cow<'a, str>> {
        match self {
            Self::Header(header) => request
                .header(&header.name)
                .into_iter()
                .filter_map(|line| after_prefix(line, &header.prefix))
                .collect(),
            Self::Param(name) => pairs(request.query().unwrap_or_default(), '&', name)
                .map(Cow::Borrowed)
                .collect(),
            Self::Cookie(name) => {
                let lines = request.header("cookie").into_iter();
                lines
                    .flat_map(|line| {
                        let found: Vec<String> =
                            pairs(&line, ';', name).map(str::to_owned).collect();
                        found.into_iter().map(Cow::Owned)
                    })
                    .collect()
            }
        }
    }
}

/// What follows the prefix, as far as it can be part of a token.
fn after_prefix<'a>(line: Cow<'a, str>, prefix: &str) -> Option<Cow<'a, str>> {
    let at = line.find(prefix)? + prefix.len();
    let rest = line.get(at..)?;
    let token = rest.trim_start_matches(' ');
    let part = |c: char| c.is_ascii_alphanumeric() || "-_.=+/".contains(c);
    let length = token.find(|c| !part(c)).unwrap_or(token.len());
    let from = at + (rest.len() - token.len());
    let to = from + length;
    let found = match line {
        Cow::Borrowed(line) => Cow::Borrowed(line.get(from..to)?),
        Cow::Owned(line) => Cow::Owned(line.get(from..to)?.to_owned()),
    };
    (!found.is_empty()).then_some(found)
}

/// Values of a name in `a=b&c=d` and the like; empty ones are none.
fn pairs<'a>(text: &'a str, separator: char, name: &str) -> impl Iterator<Item = &'a str> {
    text.split(separator).filter_map(move |pair| {
        let (key, value) = pair.trim().split_once('=')?;
        let value = value.trim_matches('"');
        (key == name && !value.is_empty()).then_some(value)
    })
}
