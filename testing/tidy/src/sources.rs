//! Rules about single files.

use crate::Finding;

/// Longest source file, in lines. Tests may be longer than the code that they pin.
pub const MAX_LINES: usize = 500;
/// Longest test file, in lines.
pub const MAX_TEST_LINES: usize = 900;
/// Longest line, in characters.
pub const MAX_COLUMNS: usize = 240;

/// Module names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

/// A tracked file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the repository's root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All findings about one file.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |message: String| findings.push(Finding::new(&source.path, message));
    for word in words_of_elsewhere() {
        if source.text.contains(&word) {
            say(format!(
                "names {word:?}: the project speaks of itself alone"
            ));
        }
    }
    if source.is_rust() {
        rust(source, &mut say);
    }
    findings
}

fn rust(source: &Source, say: &mut impl FnMut(String)) {
    let lines = source.text.lines().count();
    let limit = if source.is_test() {
        MAX_TEST_LINES
    } else {
        MAX_LINES
    };
    if lines > limit {
        say(format!(
            "{lines} lines, at most {limit}: split it where a reader would"
        ));
    }
    let name = source
        .path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".rs");
    if EMPTY_NAMES.contains(&name) {
        say(format!(
            "a module named {name:?} says nothing: name what it holds"
        ));
    }
    for (number, line) in source.text.lines().enumerate() {
        if line.chars().count() > MAX_COLUMNS {
            say(format!(
                "line {}: longer than {MAX_COLUMNS} characters",
                number + 1
            ));
        }
        for mark in unfinished_marks() {
            if line.contains(&mark) {
                say(format!(
                    "line {}: {mark} left: finish it, or file an issue and say so in the status table",
                    number + 1
                ));
            }
        }
    }
    let has_unsafe = source
        .text
        .lines()
        .any(|l| !l.trim_start().starts_with("//") && l.contains(&unsafe_block()));
    if has_unsafe && !source.path.starts_with("crates/linux/") {
        say("unsafe code outside of crates/linux".into());
    }
    if source.path.ends_with("src/lib.rs") && !source.text.starts_with("//!") {
        say("a crate starts by saying what it is (//! ...)".into());
    }
}

/// Spelt in parts, so that this file passes its own rules.
fn unfinished_marks() -> [String; 4] {
    ["TO", "FIX", "todo", "unimplemented"].map(|m| match m {
        "TO" => format!("{m}DO"),
        "FIX" => format!("{m}ME"),
        _ => format!("{m}!("),
    })
}

fn unsafe_block() -> String {
    format!("{} {{", "unsafe")
}

/// Paths and tools of a workplace that no reader of this repository has.
fn words_of_elsewhere() -> [String; 4] {
    [
        format!("/{}/", "work"),
        format!("../{}/", "shared"),
        format!("bash_{}", "jobs"),
        format!("../.{}", "library"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn clean_file_passes() {
        assert_eq!(
            check(&source("crates/x/src/lib.rs", "//! X.\npub fn x() {}\n")),
            []
        );
    }

    #[test]
    fn each_rule_bites() {
        let long = "x\n".repeat(MAX_LINES + 1);
        let wide = format!("// {}\n", "x".repeat(MAX_COLUMNS));
        for (path, text) in [
            ("crates/x/src/a.rs", long.as_str()),
            ("crates/x/src/a.rs", wide.as_str()),
            ("crates/x/src/utils.rs", ""),
            ("crates/x/src/a.rs", &format!("// {}DO later\n", "TO")),
            ("crates/x/src/a.rs", &format!("{} {{ }}\n", "unsafe")),
            ("crates/x/src/lib.rs", "pub fn x() {}\n"),
            ("README.md", &format!("see /{}/x\n", "work")),
        ] {
            assert_eq!(check(&source(path, text)).len(), 1, "{path}");
        }
    }

    #[test]
    fn tests_may_be_longer() {
        let long = "x\n".repeat(MAX_LINES + 1);
        assert_eq!(check(&source("crates/x/src/tests.rs", &long)), []);
    }
}
