//! Filters, ready to be applied.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use regex::bytes::Regex;

use crate::decide::CompiledCors;
use crate::error::{PatternError, RuleFault};
use crate::resource::{
    Fault, Filter, Fraction, HeaderEdits, Mirror, PathRewrite, Redirect, Rewrite,
};
use crate::text::{Patterns, Replacement};

/// What a rule or a backend does to requests and responses, by kind. Edits keep the order in which the user wrote them; the order of
/// the kinds is the pipeline's.
#[derive(Debug, Default)]
pub struct Filters {
    /// On the way there.
    pub request_headers: Vec<Edits>,
    /// On the way back.
    pub response_headers: Vec<Edits>,
    /// Host and path.
    pub rewrite: Option<CompiledRewrite>,
    /// Copies.
    pub mirrors: Vec<Mirror>,
    /// Cross-origin requests.
    pub cors: Option<CompiledCors>,
    /// Trouble on purpose.
    pub fault: Option<Fault>,
    /// Instead of being forwarded.
    pub redirect: Option<CompiledRedirect>,
    /// A filter that cannot be used: answer with 500; the text is for the log.
    pub invalid: Option<Arc<str>>,
}

impl Filters {
    pub(crate) fn none() -> &'static Self {
        static NONE: Filters = Filters {
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            rewrite: None,
            mirrors: Vec::new(),
            cors: None,
            fault: None,
            redirect: None,
            invalid: None,
        };
        &NONE
    }

    /// `None` when there is nothing to do, which is most often so.
    pub(crate) fn compile(
        filters: &[Filter],
        patterns: &mut Patterns,
    ) -> Result<Option<Box<Self>>, RuleFault> {
        if filters.is_empty() {
            return Ok(None);
        }
        let mut all = Self::default();
        for filter in filters {
            match filter {
                Filter::RequestHeaders(edits) => all.request_headers.push(Edits::compile(edits)?),
                Filter::ResponseHeaders(edits) => all.response_headers.push(Edits::compile(edits)?),
                Filter::Rewrite(rewrite) => {
                    all.rewrite = Some(CompiledRewrite::compile(rewrite, patterns)?);
                }
                Filter::Mirror(mirror) => {
                    nonzero(mirror.fraction)?;
                    all.mirrors.push(mirror.clone());
                }
                Filter::Cors(cors) => all.cors = Some(CompiledCors::compile(cors, patterns)?),
                Filter::Fault(fault) => {
                    fault.delay.map_or(Ok(()), |d| nonzero(d.fraction))?;
                    fault.abort.map_or(Ok(()), |a| nonzero(a.fraction))?;
                    all.fault = Some(fault.clone());
                }
                Filter::Redirect(redirect) => {
                    all.redirect = Some(CompiledRedirect::compile(redirect, patterns)?);
                }
                Filter::Invalid(why) => all.invalid = Some(why.clone()),
            }
        }
        Ok(Some(Box::new(all)))
    }
}

fn nonzero(fraction: Fraction) -> Result<(), RuleFault> {
    if fraction.denominator == 0 {
        Err(RuleFault::Fraction)
    } else {
        Ok(())
    }
}

/// Header edits with parsed names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    pub(crate) add: Vec<(HeaderName, HeaderValue)>,
    pub(crate) remove: Vec<HeaderName>,
}

impl Edits {
    /// Parses; a header that cannot be sent is an error.
    pub fn compile(edits: &HeaderEdits) -> Result<Self, RuleFault> {
        let pairs = |list: &[(Arc<str>, Arc<str>)]| -> Result<Vec<_>, RuleFault> {
            list.iter().map(|(name, value)| pair(name, value)).collect()
        };
        Ok(Self {
            set: pairs(&edits.set)?,
            add: pairs(&edits.add)?,
            remove: edits
                .remove
                .iter()
                .map(|name| pair(name, &"".into()).map(|(name, _)| name))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn pair(name: &Arc<str>, value: &Arc<str>) -> Result<(HeaderName, HeaderValue), RuleFault> {
    let parsed = (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_str(value),
    );
    match parsed {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(RuleFault::Header {
            name: name.clone(),
            value: value.clone(),
        }),
    }
}

/// A redirect, its new path prepared.
#[derive(Clone, Debug)]
pub struct CompiledRedirect {
    pub(crate) redirect: Redirect,
    pub(crate) path: Option<CompiledPathRewrite>,
}

impl CompiledRedirect {
    pub(crate) fn compile(redirect: &Redirect, patterns: &mut Patterns) -> Result<Self, RuleFault> {
        if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
            return Err(RuleFault::RedirectStatus(redirect.status));
        }
        let path = redirect.path.as_ref();
        Ok(Self {
            redirect: redirect.clone(),
            path: path
                .map(|path| CompiledPathRewrite::compile(path, patterns))
                .transpose()?,
        })
    }
}

/// A rewrite of host and path.
#[derive(Clone, Debug)]
pub struct CompiledRewrite {
    /// The new host.
    pub host: Option<Arc<str>>,
    /// What becomes of the path.
    pub path: Option<CompiledPathRewrite>,
}

impl CompiledRewrite {
    fn compile(rewrite: &Rewrite, patterns: &mut Patterns) -> Result<Self, PatternError> {
        Ok(Self {
            host: rewrite.host.clone(),
            path: rewrite
                .path
                .as_ref()
                .map(|path| CompiledPathRewrite::compile(path, patterns))
                .transpose()?,
        })
    }
}

/// How a path changes.
#[derive(Clone, Debug)]
pub enum CompiledPathRewrite {
    /// All of it.
    Full(Arc<str>),
    /// The matched prefix, by whole elements; without the slash at its end.
    Prefix(Arc<str>),
    /// The matched prefix, as text.
    Text(Arc<str>),
    /// Every match in it.
    Regex(Arc<Regex>, ReplacementText),
}

/// What replaces a match of a regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacementText(pub(crate) Replacement);

impl CompiledPathRewrite {
    pub(crate) fn compile(
        path: &PathRewrite,
        patterns: &mut Patterns,
    ) -> Result<Self, PatternError> {
        Ok(match path {
            PathRewrite::Full(text) => Self::Full(text.clone()),
            PathRewrite::Prefix(text) => Self::Prefix(text.trim_end_matches('/').into()),
            PathRewrite::Text(text) => Self::Text(text.clone()),
            PathRewrite::Regex {
                pattern,
                replacement,
            } => Self::Regex(
                patterns.part(pattern)?,
                ReplacementText(Replacement::parse(replacement)),
            ),
        })
    }
}
