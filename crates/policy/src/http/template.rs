//! Paths with places for elements: `/v1/{*}/orders/{**}`.

use std::fmt;
use std::sync::Arc;

/// A compiled template. `{*}` is one element, never empty; `{**}` is any rest, also none, and the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Arc<str>),
    /// `{*}`
    One,
    /// `{**}`
    Rest,
}

/// Why a text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It does not begin with `/`.
    NoSlash,
    /// `*` stands outside of `{*}` and `{**}`.
    Star,
    /// Braces hold something else.
    Braces,
    /// An operator shares its element with other text.
    Shared,
    /// Something comes after `{**}` that is an operator.
    AfterRest,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "does not begin with /",
            Self::Star => "has a * outside of {*} and {**}",
            Self::Braces => "has braces around something other than * and **",
            Self::Shared => "has {*} or {**} beside other text in one element",
            Self::AfterRest => "has another {*} or {**} after {**}",
        })
    }
}

impl std::error::Error for TemplateError {}

impl PathTemplate {
    /// Whether a path of a policy is meant as a template.
    pub fn is_meant(text: &str) -> bool {
        text.contains('{') || text.contains('}')
    }

    /// Compiles a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let rest = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::from("/");
        let mut ended = false;
        for (at, element) in rest.split('/').enumerate() {
            if at > 0 {
                literal.push('/');
            }
            let operator = match element {
                "{*}" => Part::One,
                "{**}" => Part::Rest,
                plain => {
                    check_plain(plain)?;
                    literal.push_str(plain);
                    continue;
                }
            };
            if ended {
                return Err(TemplateError::AfterRest);
            }
            ended = operator == Part::Rest;
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            parts.push(operator);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(Self {
            parts: parts.into(),
        })
    }

    /// Whether a canonical path fits.
    pub fn matches(&self, path: &str) -> bool {
        let mut left = path;
        let mut parts = self.parts.iter();
        while let Some(part) = parts.next() {
            match part {
                Part::Literal(text) => match left.strip_prefix(&**text) {
                    Some(rest) => left = rest,
                    None => return false,
                },
                Part::One => {
                    let end = left.find('/').unwrap_or(left.len());
                    if end == 0 {
                        return false;
                    }
                    left = left.get(end..).unwrap_or_default();
                }
                // Only a literal can follow.
                Part::Rest => {
                    return match parts.next() {
                        Some(Part::Literal(end)) => left.ends_with(&**end),
                        _ => true,
                    };
                }
            }
        }
        left.is_empty()
    }
}

fn check_plain(element: &str) -> Result<(), TemplateError> {
    if element.contains("{*}") || element.contains("{**}") {
        Err(TemplateError::Shared)
    } else if element.contains(['{', '}']) {
        Err(TemplateError::Braces)
    } else if element.contains('*') {
        Err(TemplateError::Star)
    } else {
        Ok(())
    }
}
