//! Single matches.

use super::*;
use crate::{Claims, Headers, Values};

fn matches(m: Match, request: &Request) -> bool {
    let table = table([in_order("r", vec![rule("yes", vec![m])])]);
    winner(&table, SCOPE, request) == "yes"
}

#[test]
fn kinds_of_texts() {
    let method = |method: TextMatch| Match {
        method: Some(method),
        ..Match::default()
    };
    let request = get("h", "/").method("PATCH");
    for (text, wanted) in [
        (TextMatch::Exact("PATCH".into()), true),
        (TextMatch::Exact("patch".into()), false),
        (TextMatch::Prefix("PA".into()), true),
        (TextMatch::Suffix("CH".into()), true),
        (TextMatch::Suffix("PA".into()), false),
        (TextMatch::Regex("P.*|GET".into()), true),
        // The whole text.
        (TextMatch::Regex("PAT".into()), false),
        (TextMatch::Regex("A.*".into()), false),
        (TextMatch::Present, true),
    ] {
        assert_eq!(matches(method(text.clone()), &request), wanted, "{text:?}");
    }
}

#[test]
fn case_matters_unless_the_user_says_so() {
    let ignoring = |m: Match| Match {
        ignore_case: true,
        ..m
    };
    for (m, path, wanted) in [
        (exact("/Hello"), "/hello", false),
        (ignoring(exact("/Hello")), "/hELLO", true),
        (ignoring(text("/He")), "/hello", true),
        (ignoring(prefix("/He")), "/hello", false),
        (ignoring(prefix("/He")), "/hE/llo", true),
        // Expressions say themselves what they ignore.
        (ignoring(regex("/Hello")), "/hello", false),
    ] {
        assert_eq!(matches(m.clone(), &get("h", path)), wanted, "{m:?} {path}");
    }
}

#[test]
fn scheme_authority_port_and_namespace() {
    let request = Request {
        namespace: Some("apps".into()),
        ..get("h.example", "/")
    };
    let exactly = |text: &str| Some(TextMatch::Exact(text.into()));
    let any = Match::default();
    for (m, wanted) in [
        (
            Match {
                scheme: exactly("http"),
                ..any.clone()
            },
            true,
        ),
        (
            Match {
                scheme: exactly("https"),
                ..any.clone()
            },
            false,
        ),
        (
            Match {
                authority: exactly("h.example"),
                ..any.clone()
            },
            true,
        ),
        (
            Match {
                authority: exactly("example"),
                ..any.clone()
            },
            false,
        ),
        (
            Match {
                port: Some(80),
                ..any.clone()
            },
            true,
        ),
        (
            Match {
                port: Some(81),
                ..any.clone()
            },
            false,
        ),
        (
            Match {
                source_namespace: Some("apps".into()),
                ..any.clone()
            },
            true,
        ),
        (
            Match {
                source_namespace: Some("other".into()),
                ..any.clone()
            },
            false,
        ),
    ] {
        assert_eq!(matches(m.clone(), &request), wanted, "{m:?}");
    }
    let of_namespace = Match {
        source_namespace: Some("apps".into()),
        ..any
    };
    assert!(
        !matches(of_namespace, &get("h", "/")),
        "unknown clients are in no namespace"
    );
}

#[test]
fn repeated_headers_are_joined() {
    let request = get("h", "/").with("x", "a").with("x", "b");
    assert!(matches(headers(&[("x", "a,b")]), &request));
    assert!(!matches(headers(&[("x", "a")]), &request));
}

#[test]
fn headers_need_not_be_utf_8() {
    let mut request = get("h", "/");
    request
        .headers
        .insert("x", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    let of = |value: TextMatch| Match {
        headers: vec![NamedMatch {
            name: "x".into(),
            value,
        }],
        ..Match::default()
    };
    assert!(matches(of(TextMatch::Present), &request));
    assert!(matches(of(TextMatch::Regex(".*".into())), &request));
    assert!(!matches(of(TextMatch::Exact("x".into())), &request));
    let without = |value: TextMatch| Match {
        without_headers: of(value).headers,
        ..Match::default()
    };
    assert!(!matches(without(TextMatch::Regex(".*".into())), &request));
    assert!(!matches(without(TextMatch::Present), &request));
}

#[test]
fn without_headers() {
    let without = |value: TextMatch| Match {
        without_headers: vec![NamedMatch {
            name: "x".into(),
            value,
        }],
        ..Match::default()
    };
    let (none, one) = (get("h", "/"), get("h", "/").with("x", "1"));
    assert!(matches(without(TextMatch::Present), &none));
    assert!(!matches(without(TextMatch::Present), &one));
    assert!(!matches(without(TextMatch::Exact("1".into())), &one));
    assert!(matches(without(TextMatch::Exact("2".into())), &one));
    // As Istio has it: what is not there counts as empty.
    assert!(!matches(without(TextMatch::Regex(".*".into())), &none));
    assert!(matches(without(TextMatch::Regex(".+".into())), &none));
}

#[test]
fn query_parameters_are_compared_raw_and_decoded() {
    let query = |name: &str, value: &str| Match {
        query: named(&[(name, value)]),
        ..Match::default()
    };
    for (target, name, value, wanted) in [
        ("/?a=1", "a", "1", true),
        ("/?b=0&a=1&a=2", "a", "1", true),
        ("/?a=2&a=1", "a", "1", false),
        ("/?a=x%20y", "a", "x y", true),
        ("/?a=x+y", "a", "x y", true),
        ("/?a=x+y", "a", "x+y", true),
        ("/?%61=1", "a", "1", true),
        ("/?a", "a", "", true),
        ("/?a=", "a", "", true),
        ("/", "a", "", false),
        ("/?A=1", "a", "1", false),
        ("/?a=%zz", "a", "%zz", true),
    ] {
        assert_eq!(
            matches(query(name, value), &get("h", target)),
            wanted,
            "{target}"
        );
    }
}

struct Token;

impl Claims for Token {
    fn any(&self, path: &[&str], visit: &mut dyn FnMut(&str) -> bool) -> bool {
        match path {
            ["group"] => ["admin", "dev"].iter().any(|value| visit(value)),
            ["nested", "key.with.dots"] => visit("deep"),
            _ => false,
        }
    }
}

#[test]
fn claims_of_the_token() {
    let of = |name: &str, value: &str| headers(&[(name, value)]);
    let claimed = |m: Match| {
        let table = table([in_order("r", vec![rule("yes", vec![m])])]);
        let request = get("h", "/");
        let head = RequestHead {
            claims: Some(&Token),
            ..request.head()
        };
        table.http(SCOPE, &head).routed().is_some()
    };
    assert!(claimed(of("@request.auth.claims.group", "dev")));
    assert!(claimed(of(
        "@request.auth.claims[nested][key.with.dots]",
        "deep"
    )));
    assert!(!claimed(of("@request.auth.claims.group", "other")));
    assert!(
        !matches(of("@request.auth.claims.group", "dev"), &get("h", "/")),
        "no token, no claims"
    );
    // A header of that name proves nothing: it cannot even be sent.
    assert!(HeaderName::from_bytes(b"@request.auth.claims.group").is_err());
}

#[test]
fn values_of_headers() {
    let map = get("h", "/")
        .with("x", "1")
        .with("y", "1")
        .with("y", "2")
        .headers;
    assert_eq!(Headers::values(&map, "none"), Values::None);
    assert_eq!(Headers::values(&map, "x"), Values::One(b"1"));
    assert_eq!(Headers::values(&map, "y").bytes(), Some(&b"1,2"[..]));
}

#[test]
fn expressions_that_cannot_be_used_are_refused() {
    for pattern in ["(", "a)(b", "(?=x)", r"\1", "x{1000}{1000}", "[z-a]"] {
        let error = crate::text::check(pattern).unwrap_err();
        assert_eq!(&*error.pattern, pattern);
        assert!(!error.reason.contains('\n'), "{error}");
        let mut table = Table::default();
        table
            .insert_http(route("r", &[], vec![rule("good", vec![])]))
            .unwrap();
        let broken = route("r", &[], vec![rule("bad", vec![regex(pattern)])]);
        let refused = table.insert_http(broken).unwrap_err();
        assert_eq!(refused.fault, crate::RuleFault::Pattern(error));
        assert_eq!(
            winner(&table, SCOPE, &get("h", "/")),
            "good",
            "the last good one stays"
        );
    }
    for pattern in [r"/v[0-9]+/\d+\w*", "(?i)abc", "a|b", "", "^/a$"] {
        crate::text::check(pattern).unwrap();
    }
}

#[test]
fn paths_of_rules_are_written_in_canonical_form() {
    assert!(matches(exact("/a%2fb/%7e"), &get("h", "/a%2Fb/~")));
    assert!(matches(prefix("/é"), &get("h", "/%C3%A9/x")));
}
