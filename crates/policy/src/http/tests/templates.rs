//! Path templates, by Istio's own examples.

use crate::http::{PathTemplate, TemplateError};

fn fits(template: &str, path: &str) -> bool {
    PathTemplate::parse(template).unwrap().matches(path)
}

#[test]
fn one_element() {
    assert!(fits("/foo/{*}", "/foo/bar"));
    assert!(!fits("/foo/{*}", "/foo/bar/baz"));
    assert!(!fits("/foo/{*}", "/foo/"), "an element is never empty");
    assert!(!fits("/foo/{*}", "/foo"));
    assert!(fits("/foo/{*}/bar/{*}", "/foo/buzz/bar/v1"));
    assert!(!fits("/foo/{*}/bar/{*}", "/foo/buzz/bar/"));
}

#[test]
fn the_rest() {
    assert!(fits("/foo/{**}", "/foo/bar/baz.txt"));
    assert!(fits("/foo/{**}", "/foo/"));
    assert!(!fits("/foo/{**}", "/foo"));
    assert!(fits("/foo/{**}/", "/foo/bar/baz.txt/"));
    assert!(fits("/foo/{**}/", "/foo//"));
    assert!(!fits("/foo/{**}/", "/foo/bar"));
    assert!(
        !fits("/foo/{**}/end", "/foo/end"),
        "its slashes do not overlap"
    );
    assert!(fits("/{*}/baz/{**}", "/x/baz/y/z"));
    assert!(fits("/{**}", "/"));
    assert!(!fits("/{*}", "/"));
}

#[test]
fn without_operators_is_exact() {
    assert!(fits("/foo", "/foo"));
    assert!(!fits("/foo", "/foo/"));
}

#[test]
fn what_is_no_template() {
    let why = |text| PathTemplate::parse(text).unwrap_err();
    assert_eq!(why("foo/{*}"), TemplateError::NoSlash);
    assert_eq!(why("/foo/{*}*"), TemplateError::Shared);
    assert_eq!(why("/foo*/{*}"), TemplateError::Star);
    assert_eq!(why("/{**}/foo/{*}"), TemplateError::AfterRest);
    assert_eq!(why("/foo/{bar}"), TemplateError::Braces);
    assert_eq!(why("/foo/{*"), TemplateError::Braces);
    assert_eq!(why("/foo{*}"), TemplateError::Shared);
}
