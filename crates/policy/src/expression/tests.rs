//! Expressions as Istio's documentation has them.

use super::{Attributes, Expression, ExpressionError, Value};

struct Known;

impl Attributes for Known {
    fn get(&self, path: &[&str]) -> Option<Value> {
        Some(match path {
            ["response", "code"] => Value::Int(404),
            ["response", "total_size"] => Value::Int(1 << 20),
            ["request", "host"] => Value::Text("reviews:9080".to_owned()),
            ["request", "url_path"] => Value::Text("/api/v1".to_owned()),
            ["request", "headers", "x-id"] => Value::Text("7".to_owned()),
            ["destination", "port"] => Value::Int(9080),
            ["connection", "mtls"] => Value::Bool(true),
            _ => return None,
        })
    }
}

fn value(text: &str) -> Option<Value> {
    Expression::parse(text)
        .unwrap_or_else(|why| panic!("{text}: {why}"))
        .value(&Known)
}

#[test]
fn filters() {
    for (text, holds) in [
        ("response.code >= 400", true),
        ("response.code >= 500", false),
        ("response.code == 404 && connection.mtls", true),
        ("!connection.mtls || response.code < 200", false),
        (
            "request.url_path.startsWith('/api') && !(response.code == 200)",
            true,
        ),
        ("request.host.contains(\"9080\")", true),
        ("request.url_path.endsWith('v2')", false),
        ("response.code in [403, 404]", true),
        ("response.code in []", false),
        (
            "has(request.headers['x-id']) && request.headers['x-id'] == '7'",
            true,
        ),
        ("has(request.headers['x-none'])", false),
        ("size(request.headers['x-id']) == 1", true),
        ("response.code > 399.5", true),
        ("request.url_path.matches('^/api/v[0-9]+$')", true),
        ("request.url_path.matches('^/v1')", false),
        ("response.code == '404'", false),
        ("response.code != '404'", true),
    ] {
        assert_eq!(value(text), Some(Value::Bool(holds)), "{text}");
        assert_eq!(
            Expression::parse(text).unwrap().holds(&Known),
            holds,
            "{text}"
        );
    }
}

#[test]
fn what_is_not_there_has_no_value_but_one_side_may_decide() {
    for text in [
        "request.none == 'x'",
        "!request.none",
        "response.code + 'x'",
        "'a' < 1",
        "response.code",
        "int('x') == 1",
    ] {
        assert!(!Expression::parse(text).unwrap().holds(&Known), "{text}");
    }
    assert_eq!(
        value("request.none == 'x' || true"),
        Some(Value::Bool(true))
    );
    assert_eq!(
        value("request.none == 'x' && false"),
        Some(Value::Bool(false))
    );
    assert_eq!(value("request.none == 'x' && true"), None);
}

#[test]
fn tags() {
    for (text, tag) in [
        ("string(destination.port)", "9080"),
        ("request.host", "reviews:9080"),
        ("'fixed'", "fixed"),
        ("response.code >= 400 ? 'error' : 'fine'", "error"),
        (
            "has(request.headers['x']) ? request.headers['x'] : 'none'",
            "none",
        ),
        ("request.host + request.url_path", "reviews:9080/api/v1"),
        ("1 + 2", "3"),
        ("-1", "-1"),
        ("[1, 'a']", "[1, a]"),
        ("'it\\'s'", "it's"),
    ] {
        assert_eq!(
            value(text).map(|value| value.to_string()).as_deref(),
            Some(tag),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_expression() {
    let why = |text: &str| Expression::parse(text).unwrap_err();
    assert_eq!(why("a = b"), ExpressionError::Character('='));
    assert_eq!(why("'open"), ExpressionError::Quote);
    assert_eq!(why("1.2.3"), ExpressionError::Number);
    assert_eq!(
        why("a &&"),
        ExpressionError::Unexpected("its end".to_owned())
    );
    assert_eq!(why("a b"), ExpressionError::Unexpected("\"b\"".to_owned()));
    assert_eq!(
        why("x.replace('a')"),
        ExpressionError::Function("replace".to_owned())
    );
    for text in [
        "x.matches('(')",
        "x.matches(y)",
        "x.matches('(a{999}){999}')",
    ] {
        assert!(matches!(why(text), ExpressionError::Pattern(_)), "{text}");
    }
    assert_eq!(
        why("exec('a')"),
        ExpressionError::Function("exec".to_owned())
    );
    assert_eq!(why(&"(".repeat(1000)), ExpressionError::TooDeep);
    assert_eq!(why(&"a".repeat(100_000)), ExpressionError::TooLong);
    for text in [
        "", "has('a')", "'a'.b", "a[", "a[b]", "(a", "a ? b", "size(a", ".",
    ] {
        assert!(Expression::parse(text).is_err(), "{text}");
    }
}
