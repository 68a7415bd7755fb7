//! Regular expressions: compiled once, with a bound, and without backtracking.

use regex::{Regex, RegexBuilder};

use crate::limits::PATTERN_SIZE;

/// RE2's syntax, as in CEL. Found anywhere in a text.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
        compiled.map(Self).map_err(|error| error.to_string())
    }

    pub(super) fn is_found_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}
