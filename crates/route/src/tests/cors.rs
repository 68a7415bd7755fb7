//! HTTPRouteCORS, by its cases, and VirtualService's `corsPolicy`.

use std::time::Duration;

use http::Method;

use super::*;
use crate::decide::{CompiledCors, CorsDecision, CorsRequest, cors};
use crate::text::Patterns;

fn names(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|name| (*name).into()).collect()
}

fn compiled(policy: &Cors) -> CompiledCors {
    CompiledCors::compile(policy, &mut Patterns::default()).unwrap()
}

/// `/cors-1` of the suite's manifest.
fn cors_1() -> Cors {
    Cors {
        origins: vec![
            TextMatch::Exact("https://www.foo.com".into()),
            TextMatch::Regex(r"https://.*\.bar\.com".into()),
        ],
        methods: names(&["GET", "OPTIONS"]),
        headers: names(&["x-header-1", "x-header-2"]),
        expose: names(&["x-header-3", "x-header-4"]),
        max_age: Some(Duration::from_secs(3600)),
        credentials: true,
        forward_unmatched: false,
    }
}

fn ask(policy: &Cors, method: Method, headers: &[(&str, &str)]) -> CorsDecision {
    let mut request = get("h", "/");
    for (name, value) in headers {
        request = request.with(name, value);
    }
    let request = CorsRequest {
        method: &method,
        headers: &request.headers,
    };
    cors(&compiled(policy), request)
}

fn preflight(policy: &Cors, origin: &str, method: &str) -> HeaderMap {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "x-header-1, x-header-2"),
    ];
    match ask(policy, Method::OPTIONS, &headers) {
        CorsDecision::Answer(headers) => headers,
        other => panic!("no answer: {other:?}"),
    }
}

fn simple(policy: &Cors, origin: &str) -> Option<HeaderMap> {
    match ask(policy, Method::GET, &[("origin", origin)]) {
        CorsDecision::Decorate(headers) => Some(headers),
        CorsDecision::Pass => None,
        other => panic!("answered: {other:?}"),
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn preflights_from_matching_origins_are_allowed() {
    for origin in [
        "https://www.foo.com",
        "https://www.bar.com",
        "https://xpto.www.bar.com",
    ] {
        let headers = preflight(&cors_1(), origin, "GET");
        for (name, wanted) in [
            ("access-control-allow-origin", origin),
            ("access-control-allow-methods", "GET, OPTIONS"),
            ("access-control-allow-headers", "x-header-1, x-header-2"),
            ("access-control-expose-headers", "x-header-3, x-header-4"),
            ("access-control-max-age", "3600"),
            ("access-control-allow-credentials", "true"),
        ] {
            assert_eq!(value(&headers, name), Some(wanted), "{origin} {name}");
        }
    }
}

#[test]
fn preflights_from_other_origins_get_no_permission() {
    for origin in [
        "https://foobar.com",
        "https://bar.com",
        "http://www.foo.com",
        "https://www.foo.com.evil",
    ] {
        assert!(preflight(&cors_1(), origin, "GET").is_empty(), "{origin}");
    }
    let forwarded = Cors {
        forward_unmatched: true,
        ..cors_1()
    };
    let headers = [
        ("origin", "https://foobar.com"),
        ("access-control-request-method", "GET"),
    ];
    assert_eq!(
        ask(&forwarded, Method::OPTIONS, &headers),
        CorsDecision::Pass
    );
}

#[test]
fn simple_requests_are_decorated() {
    for origin in ["https://www.foo.com", "https://www.bar.com"] {
        let headers = simple(&cors_1(), origin).unwrap();
        assert_eq!(value(&headers, "access-control-allow-origin"), Some(origin));
        assert_eq!(value(&headers, "access-control-allow-methods"), None);
        assert_eq!(value(&headers, "vary"), Some("origin"));
    }
    assert_eq!(simple(&cors_1(), "https://foobar.com"), None);
    assert_eq!(ask(&cors_1(), Method::GET, &[]), CorsDecision::Pass);
    // OPTIONS without a method asked for is a request like others.
    let plain = ask(
        &cors_1(),
        Method::OPTIONS,
        &[("origin", "https://www.foo.com")],
    );
    assert!(matches!(plain, CorsDecision::Decorate(_)));
}

#[test]
fn wildcards_answer_for_anybody() {
    for any in [TextMatch::Exact("*".into()), TextMatch::Regex(".*".into())] {
        let policy = Cors {
            origins: vec![any],
            methods: names(&["*"]),
            headers: names(&["*"]),
            ..Cors::default()
        };
        let headers = preflight(&policy, "https://other.foo.com:12345", "PUT");
        assert_eq!(value(&headers, "access-control-allow-origin"), Some("*"));
        assert_eq!(value(&headers, "access-control-allow-methods"), Some("*"));
        assert_eq!(value(&headers, "access-control-allow-headers"), Some("*"));
        assert_eq!(value(&headers, "access-control-allow-credentials"), None);
    }
}

#[test]
fn wildcards_with_credentials_repeat_what_was_asked_for() {
    let policy = Cors {
        origins: vec![TextMatch::Exact("*".into())],
        methods: names(&["*"]),
        headers: names(&["*"]),
        expose: names(&["*"]),
        credentials: true,
        ..Cors::default()
    };
    let headers = preflight(&policy, "https://other.foo.com", "PUT");
    assert_eq!(
        value(&headers, "access-control-allow-origin"),
        Some("https://other.foo.com")
    );
    assert_eq!(value(&headers, "access-control-allow-methods"), Some("PUT"));
    assert_eq!(
        value(&headers, "access-control-allow-headers"),
        Some("x-header-1, x-header-2")
    );
    assert_eq!(value(&headers, "access-control-expose-headers"), None);
    // Nothing asked for, nothing said.
    let asked = [
        ("origin", "https://a"),
        ("access-control-request-method", "GET"),
    ];
    let CorsDecision::Answer(headers) = ask(&policy, Method::OPTIONS, &asked) else {
        panic!("no answer");
    };
    assert_eq!(value(&headers, "access-control-allow-headers"), None);
}

#[test]
fn decoration_replaces_the_backends_own_headers() {
    let decision = ask(&cors_1(), Method::GET, &[("origin", "https://www.foo.com")]);
    let mut response = get("h", "/")
        .with("access-control-allow-origin", "*")
        .with("vary", "accept-encoding")
        .headers;
    decision.decorate(&mut response);
    let all = |name: &str| -> Vec<&HeaderValue> { response.get_all(name).iter().collect() };
    assert_eq!(all("access-control-allow-origin"), ["https://www.foo.com"]);
    assert_eq!(all("vary"), ["accept-encoding", "origin"]);
}
