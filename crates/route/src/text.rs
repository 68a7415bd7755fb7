//! Texts, compared as users wrote it. Regular expressions are compiled once and shared by all rules that have the same.

use std::collections::HashMap;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::PatternError;
use crate::limits::{REGEX_BYTES, REGEX_CACHE_BYTES, REGEX_SWEEP_MINIMUM};
use crate::resource::TextMatch;

/// A compiled [`TextMatch`].
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// Matches as a whole.
    Regex(Arc<Regex>),
    /// Anything.
    Present,
}

impl Pattern {
    /// Compiles; expressions that `patterns` has are shared.
    pub fn compile(text: &TextMatch, patterns: &mut Patterns) -> Result<Self, PatternError> {
        Ok(match text {
            TextMatch::Exact(text) => Self::Exact(text.clone()),
            TextMatch::Prefix(text) => Self::Prefix(text.clone()),
            TextMatch::Suffix(text) => Self::Suffix(text.clone()),
            TextMatch::Regex(text) => Self::Regex(patterns.whole(text)?),
            TextMatch::Present => Self::Present,
        })
    }

    pub(crate) fn to_resource(&self) -> TextMatch {
        match self {
            Self::Exact(text) => TextMatch::Exact(text.clone()),
            Self::Prefix(text) => TextMatch::Prefix(text.clone()),
            Self::Suffix(text) => TextMatch::Suffix(text.clone()),
            Self::Regex(regex) => TextMatch::Regex(written(regex).into()),
            Self::Present => TextMatch::Present,
        }
    }

    /// Whether `value` matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(value),
            Self::Present => true,
        }
    }
}

/// Shared regular expressions: many routes of a user have the same few.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    compiled: HashMap<(Arc<str>, Form), Arc<Regex>>,
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Whole,
    Part,
}

impl Patterns {
    /// Matches whole texts only, as Envoy does.
    pub fn whole(&mut self, pattern: &Arc<str>) -> Result<Arc<Regex>, PatternError> {
        self.get(pattern, Form::Whole)
    }

    /// Matches parts of a text: for substitutions.
    pub fn part(&mut self, pattern: &Arc<str>) -> Result<Arc<Regex>, PatternError> {
        self.get(pattern, Form::Part)
    }

    fn get(&mut self, pattern: &Arc<str>, form: Form) -> Result<Arc<Regex>, PatternError> {
        let key = (pattern.clone(), form);
        if let Some(regex) = self.compiled.get(&key) {
            return Ok(regex.clone());
        }
        if self.compiled.len() >= self.sweep_at.max(REGEX_SWEEP_MINIMUM) {
            self.compiled
                .retain(|_, regex| Arc::strong_count(regex) > 1);
            self.sweep_at = self.compiled.len() * 2;
        }
        let regex = Arc::new(build(pattern, form)?);
        self.compiled.insert(key, regex.clone());
        Ok(regex)
    }
}

/// Whether a regular expression of a user can be used: what the control plane asks before it sends one.
pub fn check(pattern: &str) -> Result<(), PatternError> {
    build(pattern, Form::Part)?;
    build(pattern, Form::Whole).map(drop)
}

/// RE2's classes are ASCII, and so are ours; bytes, because headers need not be UTF-8.
fn build(pattern: &str, form: Form) -> Result<Regex, PatternError> {
    // Compiled alone first: `a)(b` must not become valid by being wrapped.
    let builder = |text: &str| {
        RegexBuilder::new(text)
            .unicode(false)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_CACHE_BYTES)
            .build()
            .map_err(|error| PatternError {
                pattern: pattern.into(),
                reason: last_line(&error.to_string()),
            })
    };
    let part = builder(pattern)?;
    match form {
        Form::Part => Ok(part),
        Form::Whole => builder(&format!("{WHOLE_BEGIN}{pattern}{WHOLE_END}")),
    }
}

/// Around an expression that matches whole texts.
const WHOLE_BEGIN: &str = r"\A(?:";
const WHOLE_END: &str = r")\z";

/// An expression for whole texts, as the user wrote it.
pub(crate) fn written(whole: &Regex) -> &str {
    let text = whole.as_str();
    let inner = text.strip_prefix(WHOLE_BEGIN);
    inner
        .and_then(|text| text.strip_suffix(WHOLE_END))
        .unwrap_or(text)
}

/// The engine draws the place over several lines; conditions and logs have one.
fn last_line(text: &str) -> String {
    text.lines()
        .next_back()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

/// What replaces a match: RE2's `\0` to `\9`, and `\\`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replacement(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Replacement {
    pub(crate) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                plain.push(c);
                continue;
            }
            match chars.next() {
                Some(d) if d.is_ascii_digit() => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Group(d as usize - '0' as usize));
                }
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Self(pieces)
    }

    /// Every match in `text` is replaced.
    pub(crate) fn apply(&self, regex: &Regex, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len());
        let mut end = 0;
        for found in regex.captures_iter(text.as_bytes()) {
            let Some(whole) = found.get(0) else { continue };
            out.extend_from_slice(text.as_bytes().get(end..whole.start()).unwrap_or_default());
            for piece in &self.0 {
                match piece {
                    Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                    Piece::Group(n) => {
                        out.extend_from_slice(found.get(*n).map_or(b"", |m| m.as_bytes()));
                    }
                }
            }
            end = whole.end();
        }
        out.extend_from_slice(text.as_bytes().get(end..).unwrap_or_default());
        String::from_utf8_lossy(&out).into_owned()
    }
}
