//! Redirects and rewrites, by the names of Gateway API's conformance cases, and VirtualService's.

use super::*;
use crate::decide::{redirect, rewrite_path};

fn redirecting(of: Redirect) -> Rule {
    Rule {
        action: RuleAction::Redirect(of),
        ..rule("redirect", vec![])
    }
}

fn to(status: u16) -> Redirect {
    Redirect {
        status,
        scheme: None,
        host: None,
        port: None,
        port_of_scheme: false,
        path: None,
    }
}

fn location(of: Redirect, m: Match, request: &Request) -> (u16, String) {
    let rule = Rule {
        matches: vec![m],
        ..redirecting(of)
    };
    let table = table([route("redirect", &[], vec![rule])]);
    let head = request.head();
    let routed = table.http(SCOPE, &head).routed().unwrap();
    redirect(routed.rule.redirect().unwrap(), &head, routed.matched)
}

#[test]
fn http_route_redirect_path() {
    let host = |host: &str, of: Redirect| Redirect {
        host: Some(host.into()),
        ..of
    };
    let replace = |prefix: &str, status: u16| Redirect {
        path: Some(PathRewrite::Prefix(prefix.into())),
        ..to(status)
    };
    let full = |path: &str, status: u16| Redirect {
        path: Some(PathRewrite::Full(path.into())),
        ..to(status)
    };
    let cases = [
        (
            replace("/replacement-prefix", 302),
            "/original-prefix",
            "/original-prefix/lemon",
            "http://h/replacement-prefix/lemon",
        ),
        (
            full("/full-path-replacement", 302),
            "/full",
            "/full/path/original",
            "http://h/full-path-replacement",
        ),
        (
            host("example.org", replace("/replacement-prefix", 302)),
            "/path-and-host",
            "/path-and-host",
            "http://example.org/replacement-prefix",
        ),
        (
            replace("/replacement-prefix", 301),
            "/path-and-status",
            "/path-and-status",
            "http://h/replacement-prefix",
        ),
        (
            host("example.org", full("/replacement-full", 302)),
            "/full-path-and-host",
            "/full-path-and-host",
            "http://example.org/replacement-full",
        ),
        (
            full("/replacement-full", 301),
            "/full-path-and-status",
            "/full-path-and-status",
            "http://h/replacement-full",
        ),
        // The query is kept.
        (replace("/x", 308), "/a", "/a/b?c=d&e", "http://h/x/b?c=d&e"),
        (full("/x?own=1", 307), "/a", "/a?c=d", "http://h/x?own=1"),
    ];
    for (of, matched, target, wanted) in cases {
        let status = of.status;
        assert_eq!(
            location(of, prefix(matched), &get("h", target)),
            (status, wanted.into()),
            "{target}"
        );
    }
}

#[test]
fn http_route_redirect_port_and_scheme() {
    // (listener port, listener scheme, redirect scheme, redirect port) -> Location
    let cases = [
        (80, "http", None, None, "http://example.org/"),
        (80, "http", None, Some(80), "http://example.org/"),
        (80, "http", None, Some(8080), "http://example.org:8080/"),
        (80, "http", Some("https"), None, "https://example.org/"),
        (80, "http", Some("https"), Some(443), "https://example.org/"),
        (
            80,
            "http",
            Some("https"),
            Some(8443),
            "https://example.org:8443/",
        ),
        (8080, "http", None, None, "http://example.org:8080/"),
        (8080, "http", None, Some(80), "http://example.org/"),
        (8080, "http", Some("https"), None, "https://example.org/"),
        (443, "https", None, None, "https://example.org/"),
        (443, "https", None, Some(443), "https://example.org/"),
        (443, "https", None, Some(8443), "https://example.org:8443/"),
        (443, "https", Some("http"), None, "http://example.org/"),
        (443, "https", Some("http"), Some(80), "http://example.org/"),
        (
            443,
            "https",
            Some("http"),
            Some(8080),
            "http://example.org:8080/",
        ),
    ];
    for (port, from, scheme, wanted_port, wanted) in cases {
        let of = Redirect {
            scheme: scheme.map(Into::into),
            host: Some("example.org".into()),
            port: wanted_port,
            ..to(302)
        };
        let request = Request {
            port,
            scheme: from,
            ..get("h", "/")
        };
        assert_eq!(
            location(of, Match::default(), &request).1,
            wanted,
            "{port} {from} {scheme:?} {wanted_port:?}"
        );
    }
}

#[test]
fn http_route_redirect_host_and_status_303_307_308() {
    for status in [301, 302, 303, 307, 308] {
        let of = Redirect {
            host: Some("example.org".into()),
            ..to(status)
        };
        assert_eq!(
            location(of, Match::default(), &get("h", "/a?b")),
            (status, "http://example.org/a?b".into())
        );
    }
}

#[test]
fn virtual_service_redirects_know_no_port_of_a_listener() {
    let request = Request {
        port: 8080,
        ..get("h", "/old")
    };
    let of = |host: Option<&str>| Redirect {
        host: host.map(Into::into),
        port_of_scheme: true,
        path: Some(PathRewrite::Full("/new".into())),
        ..to(301)
    };
    assert_eq!(
        location(of(Some("other")), Match::default(), &request).1,
        "http://other/new"
    );
    assert_eq!(
        location(of(Some("other:81")), Match::default(), &request).1,
        "http://other:81/new"
    );
    // The authority stays as it was, with its port.
    assert_eq!(
        location(of(None), Match::default(), &request).1,
        "http://h:8080/new"
    );
    let ipv6 = Request {
        port: 81,
        ..get("[::1]", "/")
    };
    assert_eq!(
        location(to(301), Match::default(), &ipv6).1,
        "http://[::1]:81/"
    );
}

#[test]
fn a_status_that_is_no_redirect_is_refused() {
    let mut table = Table::default();
    let error = table
        .insert_http(route("r", &[], vec![redirecting(to(200))]))
        .unwrap_err();
    assert_eq!(error.fault, crate::RuleFault::RedirectStatus(200));
    assert!(
        error
            .to_string()
            .starts_with("HTTPRoute/infra/r, rule 0: 200 is not a redirect"),
        "{error}"
    );
    assert!(table.is_empty());
}

#[test]
fn http_route_backend_request_redirect() {
    let mut one = backend("a", 1);
    one.filters = vec![Filter::Redirect(Redirect {
        host: Some("other".into()),
        ..to(302)
    })];
    let rule = Rule {
        action: RuleAction::Forward(vec![one, backend("b", 1)]),
        ..rule("split", vec![])
    };
    let table = table([route("r", &[], vec![rule])]);
    let request = get("h", "/x");
    let head = request.head();
    let routed = table.http(SCOPE, &head).routed().unwrap();
    let of_first = routed.rule.backend_filters(0).redirect.as_ref().unwrap();
    assert_eq!(
        redirect(of_first, &head, routed.matched),
        (302, "http://other/x".into())
    );
    assert!(routed.rule.backend_filters(1).redirect.is_none());
}

fn rewritten(m: Match, rewrite: PathRewrite, path: &str) -> String {
    let rule = Rule {
        filters: vec![Filter::Rewrite(Rewrite {
            host: None,
            path: Some(rewrite),
        })],
        ..rule("rewrite", vec![m])
    };
    let table = table([route("rewrite", &[], vec![rule])]);
    let request = get("h", path);
    let routed = table.http(SCOPE, &request.head()).routed().unwrap();
    let rewrite = routed.rule.filters().rewrite.as_ref().unwrap();
    rewrite_path(
        rewrite.path.as_ref().unwrap(),
        routed.matched,
        &request.path,
    )
    .into_owned()
}

#[test]
fn http_route_rewrite_path() {
    let replace = |text: &str| PathRewrite::Prefix(text.into());
    // (matched prefix, replacement, path, result): the suite's cases, then the table of `ReplacePrefixMatch`.
    for (matched, replacement, path, wanted) in [
        ("/prefix/one", "/one", "/prefix/one/two", "/one/two"),
        ("/strip-prefix", "/", "/strip-prefix/three", "/three"),
        ("/strip-prefix", "/", "/strip-prefix", "/"),
        ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
        ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
        ("/foo", "/xyz", "/foo", "/xyz"),
        ("/foo", "/xyz", "/foo/", "/xyz/"),
        ("/foo", "", "/foo/bar", "/bar"),
        ("/foo", "", "/foo/", "/"),
        ("/foo", "", "/foo", "/"),
        ("/foo", "/", "/foo/", "/"),
        ("/foo", "/", "/foo", "/"),
        ("/", "/xyz", "/foo", "/xyz/foo"),
        ("/", "/xyz", "/", "/xyz/"),
    ] {
        assert_eq!(
            rewritten(prefix(matched), replace(replacement), path),
            wanted,
            "{matched} {replacement} {path}"
        );
    }
    let full = PathRewrite::Full("/one".into());
    assert_eq!(
        rewritten(prefix("/full/one"), full, "/full/one/two"),
        "/one"
    );
}

#[test]
fn virtual_service_rewrites_are_textual() {
    let text_rewrite = |text: &str| PathRewrite::Text(text.into());
    for (m, replacement, path, wanted) in [
        (
            text("/ratings"),
            "/v1/bookRatings",
            "/ratings/7",
            "/v1/bookRatings/7",
        ),
        (text("/ratings"), "/v1/x", "/ratingsmore", "/v1/xmore"),
        (text("/a/"), "/", "/a/b", "/b"),
        // No prefix: the whole path.
        (exact("/a/b"), "/c", "/a/b", "/c"),
        (regex("/a/[0-9]+"), "/c", "/a/17", "/c"),
    ] {
        assert_eq!(
            rewritten(m, text_rewrite(replacement), path),
            wanted,
            "{path}"
        );
    }
}

#[test]
fn regular_expressions_rewrite_with_groups() {
    let regex_rewrite = |pattern: &str, replacement: &str| PathRewrite::Regex {
        pattern: pattern.into(),
        replacement: replacement.into(),
    };
    for (pattern, replacement, path, wanted) in [
        (
            r"/service/([^/]+)(/.*)",
            r"\2/instance/\1",
            "/service/foo/v1/api",
            "/v1/api/instance/foo",
        ),
        ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        (
            r"^(.*?)one(.*)$",
            r"\1two\2",
            "/xxx/one/yyy/one/zzz",
            "/xxx/two/yyy/one/zzz",
        ),
        (r"(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        (r"/(a)(b)?", r"/\0\2\\", "/a", r"//a\"),
        ("/a", "b", "/a/x", "/b/x"),
        ("nothing", "x", "/kept", "/kept"),
    ] {
        assert_eq!(
            rewritten(Match::default(), regex_rewrite(pattern, replacement), path),
            wanted,
            "{pattern}"
        );
    }
}
