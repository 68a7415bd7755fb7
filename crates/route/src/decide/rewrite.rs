//! New paths.

use std::borrow::Cow;

use crate::compiled::{CompiledPathRewrite, MatchedPath};

/// The path (without query) that goes to the backend.
pub fn rewrite_path<'a>(
    rewrite: &'a CompiledPathRewrite,
    matched: MatchedPath,
    path: &'a str,
) -> Cow<'a, str> {
    let rest = match matched {
        MatchedPath::Prefix(length) => path.get(length..).unwrap_or_default(),
        MatchedPath::Whole => "",
    };
    let new = match rewrite {
        CompiledPathRewrite::Full(text) => Cow::Borrowed(&**text),
        CompiledPathRewrite::Text(text) => joined(text, rest),
        CompiledPathRewrite::Prefix(text) => {
            // Elements stay apart: a prefix that ended with a slash has eaten none of the rest.
            let slash = !rest.is_empty() && !rest.starts_with('/');
            if slash {
                Cow::Owned(format!("{text}/{rest}"))
            } else {
                joined(text, rest)
            }
        }
        CompiledPathRewrite::Regex(regex, replacement) => {
            Cow::Owned(replacement.0.apply(regex, path))
        }
    };
    if new.starts_with('/') {
        new
    } else {
        Cow::Owned(format!("/{new}"))
    }
}

fn joined<'a>(text: &'a str, rest: &str) -> Cow<'a, str> {
    if rest.is_empty() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{text}{rest}"))
    }
}
