//! Gateway API's conformance cases, by the names of its suite: the routes of its manifests and the requests of its tables.

use super::*;

fn check(table: &Table, cases: &[(Request, &str)]) {
    for (request, wanted) in cases {
        let Request {
            method,
            host,
            path,
            query,
            headers,
            ..
        } = request;
        assert_eq!(
            winner(table, SCOPE, request),
            *wanted,
            "{method} {host}{path} {query:?} {headers:?}"
        );
    }
}

#[test]
fn http_route_matching() {
    let table = table([route(
        "matching",
        &[],
        vec![
            rule("v1", vec![prefix("/"), headers(&[("version", "one")])]),
            rule("v2", vec![prefix("/v2"), headers(&[("version", "two")])]),
        ],
    )]);
    check(
        &table,
        &[
            (get("h", "/"), "v1"),
            (get("h", "/example"), "v1"),
            (get("h", "/").with("version", "one"), "v1"),
            (get("h", "/v2"), "v2"),
            (get("h", "/v2/example"), "v2"),
            (get("h", "/").with("version", "two"), "v2"),
            (get("h", "/v2/"), "v2"),
            // Not a prefix by whole elements.
            (get("h", "/v2example"), "v1"),
            (get("h", "/foo/v2/example"), "v1"),
        ],
    );
}

#[test]
fn http_route_matching_across_routes() {
    let table = table([
        route(
            "matching-part1",
            &["example.com", "example.net"],
            vec![rule(
                "v1",
                vec![prefix("/"), headers(&[("version", "one")])],
            )],
        ),
        route(
            "matching-part2",
            &["example.com"],
            vec![rule(
                "v2",
                vec![prefix("/v2"), headers(&[("version", "two")])],
            )],
        ),
    ]);
    check(
        &table,
        &[
            (get("example.com", "/"), "v1"),
            (get("example.com", "/example"), "v1"),
            (get("example.net", "/example"), "v1"),
            (get("example.com", "/example").with("version", "one"), "v1"),
            (get("example.com", "/v2"), "v2"),
            (get("example.net", "/v2"), "v1"),
            (get("example.com", "/v2/example"), "v2"),
            (get("example.com", "/").with("version", "two"), "v2"),
            (get("example.org", "/"), "404"),
        ],
    );
}

#[test]
fn http_route_path_match_order() {
    let table = table([route(
        "path-matching-order",
        &[],
        vec![
            rule("a", vec![exact("/match")]),
            rule("b", vec![exact("/match/exact")]),
            rule("c", vec![exact("/match/exact/one")]),
            rule("d", vec![prefix("/match/")]),
            rule("e", vec![prefix("/match/prefix/")]),
            rule("f", vec![prefix("/match/prefix/one")]),
        ],
    )]);
    check(
        &table,
        &[
            (get("h", "/match/exact/one"), "c"),
            (get("h", "/match/exact"), "b"),
            (get("h", "/match"), "a"),
            (get("h", "/match/prefix/one/any"), "f"),
            (get("h", "/match/prefix/any"), "e"),
            (get("h", "/match/any"), "d"),
            (get("h", "/other"), "404"),
        ],
    );
}

#[test]
fn http_route_exact_path_matching() {
    let rules = vec![
        rule("one", vec![exact("/one")]),
        rule("two", vec![exact("/two")]),
    ];
    let table = table([route("exact-matching", &[], rules)]);
    check(
        &table,
        &[
            (get("h", "/one"), "one"),
            (get("h", "/two"), "two"),
            (get("h", "/"), "404"),
            (get("h", "/one/example"), "404"),
            (get("h", "/two/"), "404"),
            (get("h", "/Two"), "404"),
        ],
    );
}

#[test]
fn http_route_header_matching() {
    let table = table([route(
        "header-matching",
        &[],
        vec![
            rule("one", vec![headers(&[("version", "one")])]),
            rule("two", vec![headers(&[("version", "two")])]),
            rule(
                "orange",
                vec![headers(&[("version", "two"), ("color", "orange")])],
            ),
            rule(
                "cold",
                vec![
                    headers(&[("color", "blue")]),
                    headers(&[("color", "green")]),
                ],
            ),
            rule(
                "warm",
                vec![
                    headers(&[("color", "red")]),
                    headers(&[("color", "yellow")]),
                ],
            ),
        ],
    )]);
    check(
        &table,
        &[
            (get("h", "/").with("Version", "one"), "one"),
            (get("h", "/").with("Version", "two"), "two"),
            (
                get("h", "/").with("Version", "two").with("Color", "orange"),
                "orange",
            ),
            (
                get("h", "/").with("Version", "two").with("Color", "blue"),
                "two",
            ),
            (get("h", "/").with("Color", "orange"), "404"),
            (get("h", "/").with("Some-Other-Header", "one"), "404"),
            (get("h", "/").with("Color", "blue"), "cold"),
            (get("h", "/").with("Color", "green"), "cold"),
            (get("h", "/").with("Color", "red"), "warm"),
            (get("h", "/").with("Color", "yellow"), "warm"),
            (get("h", "/").with("Color", "purple"), "404"),
        ],
    );
}

#[test]
fn http_route_method_matching() {
    let method = |method: &str, m: Match| Match {
        method: Some(TextMatch::Exact(method.into())),
        ..m
    };
    let table = table([route(
        "method-matching",
        &[],
        vec![
            rule("post", vec![method("POST", prefix("/"))]),
            rule("get", vec![method("GET", prefix("/"))]),
            rule("path1", vec![method("GET", prefix("/path1"))]),
            rule(
                "put-one",
                vec![method("PUT", headers(&[("version", "one")]))],
            ),
            rule(
                "path2",
                vec![Match {
                    headers: named(&[("version", "two")]),
                    ..method("POST", prefix("/path2"))
                }],
            ),
            rule(
                "or",
                vec![
                    method("PATCH", prefix("/path3")),
                    Match {
                        headers: named(&[("version", "three")]),
                        ..method("DELETE", prefix("/path4"))
                    },
                ],
            ),
            rule("path5", vec![prefix("/path5")]),
            rule("patch", vec![method("PATCH", prefix("/"))]),
            rule("four", vec![headers(&[("version", "four")])]),
        ],
    )]);
    check(
        &table,
        &[
            (get("h", "/").method("POST"), "post"),
            (get("h", "/"), "get"),
            (get("h", "/").method("HEAD"), "404"),
            (get("h", "/path1"), "path1"),
            (
                get("h", "/").method("PUT").with("version", "one"),
                "put-one",
            ),
            (
                get("h", "/path2").method("POST").with("version", "two"),
                "path2",
            ),
            (get("h", "/path3").method("PATCH"), "or"),
            (
                get("h", "/path4").method("DELETE").with("version", "three"),
                "or",
            ),
            (get("h", "/path4").method("DELETE"), "404"),
            (get("h", "/").method("PUT"), "404"),
            // A longer path before a method, a method before headers.
            (get("h", "/path5").method("PATCH"), "path5"),
            (
                get("h", "/").method("PATCH").with("version", "four"),
                "patch",
            ),
        ],
    );
}

#[test]
fn http_route_query_param_matching() {
    let query = |pairs: &[(&str, &str)], m: Match| Match {
        query: named(pairs),
        ..m
    };
    let table = table([route(
        "query-param-matching",
        &[],
        vec![
            rule("whale", vec![query(&[("animal", "whale")], prefix("/"))]),
            rule(
                "dolphin",
                vec![query(&[("animal", "dolphin")], prefix("/"))],
            ),
            rule(
                "blue",
                vec![
                    query(&[("animal", "dolphin"), ("color", "blue")], prefix("/")),
                    query(&[("ANIMAL", "Whale")], prefix("/")),
                ],
            ),
            rule(
                "path1",
                vec![query(&[("animal", "whale")], prefix("/path1"))],
            ),
            rule(
                "one",
                vec![query(
                    &[("animal", "whale")],
                    headers(&[("version", "one")]),
                )],
            ),
            rule(
                "path2",
                vec![Match {
                    headers: named(&[("version", "two")]),
                    ..query(&[("animal", "whale")], prefix("/path2"))
                }],
            ),
            rule("path5", vec![prefix("/path5")]),
            rule("hydra", vec![query(&[("animal", "hydra")], prefix("/"))]),
            rule("four", vec![headers(&[("version", "four")])]),
        ],
    )]);
    check(
        &table,
        &[
            (get("h", "/?animal=whale"), "whale"),
            (get("h", "/?animal=dolphin"), "dolphin"),
            (get("h", "/?animal=dolphin&color=blue"), "blue"),
            (get("h", "/?ANIMAL=Whale"), "blue"),
            (get("h", "/?animal=whale&otherparam=irrelevant"), "whale"),
            (get("h", "/?animal=dolphin&color=yellow"), "dolphin"),
            (get("h", "/?color=blue"), "404"),
            (get("h", "/?animal=dog"), "404"),
            (get("h", "/?animal=whaledolphin"), "404"),
            (get("h", "/"), "404"),
            (get("h", "/path1?animal=whale"), "path1"),
            (get("h", "/?animal=whale").with("version", "one"), "one"),
            (
                get("h", "/path2?animal=whale").with("version", "two"),
                "path2",
            ),
            (get("h", "/path5?animal=hydra"), "path5"),
            (get("h", "/?animal=hydra").with("version", "four"), "four"),
        ],
    );
}

/// The control plane has intersected host names; the table is asked per listener.
#[test]
fn http_route_hostname_intersection() {
    let on = |listener: &str, hosts: &[&str]| Parent::Listener {
        gateway: "infra/intersection".into(),
        listener: listener.into(),
        hostnames: hosts.iter().map(|h| HostPattern((*h).into())).collect(),
    };
    let intersect = |listener: &str, listener_host: &str, route_hosts: &[&str]| {
        let listener_host = HostPattern(listener_host.into());
        let hosts: Vec<_> = route_hosts
            .iter()
            .filter_map(|h| HostPattern((*h).into()).intersect(&listener_host))
            .map(|h| h.0.to_string())
            .collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        on(listener, &hosts)
    };
    let attached = |name: &str, path: &str, parent| HttpRoute {
        parents: vec![parent],
        ..route(name, &[], vec![rule(name, vec![prefix(path)])])
    };
    let table = table([
        attached(
            "s1",
            "/s1",
            intersect(
                "listener-1",
                "very.specific.com",
                &[
                    "non.matching.com",
                    "*.nonmatchingwildcard.io",
                    "very.specific.com",
                ],
            ),
        ),
        attached(
            "s2",
            "/s2",
            intersect(
                "listener-2",
                "*.wildcard.io",
                &[
                    "non.matching.com",
                    "wildcard.io",
                    "foo.wildcard.io",
                    "bar.wildcard.io",
                    "foo.bar.wildcard.io",
                ],
            ),
        ),
        attached(
            "s3",
            "/s3",
            intersect(
                "listener-1",
                "very.specific.com",
                &["non.matching.com", "*.specific.com"],
            ),
        ),
        attached(
            "s4",
            "/s4",
            intersect(
                "listener-3",
                "*.anotherwildcard.io",
                &["*.anotherwildcard.io"],
            ),
        ),
    ]);
    let gateway = gateway(&[
        ("listener-1", "very.specific.com"),
        ("listener-2", "*.wildcard.io"),
        ("listener-3", "*.anotherwildcard.io"),
    ]);
    let cases = [
        ("very.specific.com", "/s1", "s1"),
        ("non.matching.com", "/s1", "404"),
        ("foo.nonmatchingwildcard.io", "/s1", "404"),
        ("foo.wildcard.io", "/s2", "s2"),
        ("bar.wildcard.io", "/s2", "s2"),
        ("foo.bar.wildcard.io", "/s2", "s2"),
        ("non.matching.com", "/s2", "404"),
        ("wildcard.io", "/s2", "404"),
        ("very.specific.com", "/s3", "s3"),
        ("foo.specific.com", "/s3", "404"),
        ("one.anotherwildcard.io", "/s4", "s4"),
        ("one.two.anotherwildcard.io", "/s4", "s4"),
        ("anotherwildcard.io", "/s4", "404"),
    ];
    for (host, path, wanted) in cases {
        assert_eq!(
            through(&gateway, &table, &get(host, path)),
            wanted,
            "{host}{path}"
        );
    }
}

#[test]
fn http_route_listener_hostname_matching() {
    let gateway = gateway(&[
        ("listener-1", "bar.com"),
        ("listener-2", "foo.bar.com"),
        ("listener-3", "*.bar.com"),
        ("listener-4", "*.foo.com"),
    ]);
    let attached = |name: &str, listeners: &[(&str, &str)]| HttpRoute {
        parents: listeners
            .iter()
            .map(|(listener, host)| Parent::Listener {
                gateway: "infra/intersection".into(),
                listener: (*listener).into(),
                hostnames: vec![HostPattern((*host).into())],
            })
            .collect(),
        ..route(name, &[], vec![rule(name, vec![])])
    };
    let table = table([
        attached("v1", &[("listener-1", "bar.com")]),
        attached("v2", &[("listener-2", "foo.bar.com")]),
        attached(
            "v3",
            &[("listener-3", "*.bar.com"), ("listener-4", "*.foo.com")],
        ),
    ]);
    let cases = [
        ("bar.com", "v1"),
        ("foo.bar.com", "v2"),
        ("baz.bar.com", "v3"),
        ("boo.bar.com", "v3"),
        ("multiple.prefixes.bar.com", "v3"),
        ("multiple.prefixes.foo.com", "v3"),
        ("foo.com", "404"),
        ("no.matching.host", "404"),
    ];
    for (host, wanted) in cases {
        assert_eq!(through(&gateway, &table, &get(host, "/")), wanted, "{host}");
    }
}

/// GatewayHTTPListenerIsolation: a request belongs to one listener, and finds no route of another one.
#[test]
fn gateway_http_listener_isolation() {
    let gateway = gateway(&[
        ("empty", "*"),
        ("wildcard-com", "*.example.com"),
        ("wildcard-foo", "*.foo.example.com"),
        ("abc", "abc.foo.example.com"),
    ]);
    let attached = |listener: &str, host: &str| HttpRoute {
        parents: vec![Parent::Listener {
            gateway: "infra/intersection".into(),
            listener: listener.into(),
            hostnames: vec![HostPattern(host.into())],
        }],
        ..route(
            listener,
            &[],
            vec![rule(listener, vec![prefix(&format!("/{listener}"))])],
        )
    };
    let table = table([
        attached("empty", "*"),
        attached("wildcard-com", "*.example.com"),
        attached("wildcard-foo", "*.foo.example.com"),
        attached("abc", "abc.foo.example.com"),
    ]);
    let hosts = [
        ("bar.com", "empty"),
        ("bar.example.com", "wildcard-com"),
        ("bar.foo.example.com", "wildcard-foo"),
        ("abc.foo.example.com", "abc"),
    ];
    for (host, own) in hosts {
        for listener in ["empty", "wildcard-com", "wildcard-foo", "abc"] {
            let wanted = if listener == own { own } else { "404" };
            let request = get(host, &format!("/{listener}"));
            assert_eq!(
                through(&gateway, &table, &request),
                wanted,
                "{host}/{listener}"
            );
        }
    }
}

/// HTTPRouteHTTPSListenerDetectMisdirectedRequests.
#[test]
fn https_listener_detects_misdirected_requests() {
    let gateway = gateway(&[
        ("a", "example.org"),
        ("b", "second-example.org"),
        ("c", "*.wildcard.org"),
        ("d", "very.specific.wildcard.org"),
    ]);
    let of = |sni: &str| gateway.listener_of_host(80, sni).unwrap();
    for (sni, host, misdirected) in [
        ("example.org", "example.org", false),
        ("example.org", "second-example.org", true),
        // No listener has it: a 404, not a 421.
        ("example.org", "unknown-example.org", false),
        ("a.wildcard.org", "b.wildcard.org", false),
        ("a.wildcard.org", "very.specific.wildcard.org", true),
        ("very.specific.wildcard.org", "a.wildcard.org", true),
    ] {
        assert_eq!(
            gateway.is_misdirected(of(sni), host),
            misdirected,
            "{sni} {host}"
        );
    }
}

fn gateway(listeners: &[(&str, &str)]) -> Gateway {
    Gateway {
        namespace: "infra".into(),
        name: "intersection".into(),
        role: Role::Gateway,
        listeners: listeners
            .iter()
            .map(|(name, host)| Listener {
                name: (*name).into(),
                port: 80,
                service_port: 80,
                hostname: (*host != "*").then(|| HostPattern((*host).into())),
                protocol: Protocol::Http,
            })
            .collect(),
        backend_certificate: None,
        client_identity: false,
    }
}

fn through(gateway: &Gateway, table: &Table, request: &Request) -> String {
    let Some(listener) = gateway.listener_of_host(80, &request.host) else {
        return "404".into();
    };
    let scope = Scope::Listener {
        gateway: "infra/intersection",
        listener: &listener.name,
    };
    match winner(table, scope, request) {
        name if name == "unrouted" => "404".into(),
        name => name,
    }
}
