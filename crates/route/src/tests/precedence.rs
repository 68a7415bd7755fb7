//! The table against a slow reference that compares every match of every route.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

/// One alternative of a rule, with everything that decides.
struct Flat<'a> {
    route: &'a HttpRoute,
    host: HostPattern,
    rule: usize,
    alternative: usize,
    m: Match,
}

/// Written after the specification, without looking at the table: most specific host first and alone, then VirtualServices in order with
/// catch-alls last, then Gateway API's list.
fn reference(routes: &[HttpRoute], request: &Request) -> String {
    let mut all: Vec<Flat<'_>> = Vec::new();
    for route in routes {
        for parent in &route.parents {
            let Parent::Listener { hostnames, .. } = parent else {
                continue;
            };
            let any = [HostPattern::any()];
            let hosts = if hostnames.is_empty() {
                &any[..]
            } else {
                hostnames
            };
            for host in hosts.iter().filter(|h| host_matches(&h.0, &request.host)) {
                for (rule, r) in route.rules.iter().enumerate() {
                    let matches = if r.matches.is_empty() {
                        vec![Match::default()]
                    } else {
                        r.matches.clone()
                    };
                    for (alternative, m) in matches.into_iter().enumerate() {
                        all.push(Flat {
                            route,
                            host: host.clone(),
                            rule,
                            alternative,
                            m,
                        });
                    }
                }
            }
        }
    }
    let best_host = all.iter().map(|f| host_rank(&f.host.0)).max();
    all.retain(|f| Some(host_rank(&f.host.0)) == best_host && holds(&f.m, request));
    let winner = all.into_iter().min_by(order);
    winner.map_or_else(
        || "404".into(),
        |f| f.route.rules[f.rule].name.clone().unwrap().to_string(),
    )
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
        None => pattern == host,
    }
}

fn host_rank(pattern: &str) -> (bool, usize) {
    (!pattern.starts_with('*'), pattern.len())
}

fn holds(m: &Match, request: &Request) -> bool {
    let lower = |s: &str| {
        if m.ignore_case {
            s.to_lowercase()
        } else {
            s.to_owned()
        }
    };
    let path = lower(&request.path);
    let path_holds = match &m.path {
        None => true,
        Some(PathMatch::Exact(p)) => path == lower(p),
        Some(PathMatch::Prefix(p)) => {
            let p = lower(p);
            let p = p.trim_end_matches('/');
            // `OPTIONS *` is below `/`, too.
            p.is_empty() || path == p || path.starts_with(&format!("{p}/"))
        }
        Some(PathMatch::Text(p)) => path.starts_with(&lower(p)),
        Some(PathMatch::Regex(p)) => regex::bytes::Regex::new(&format!("^(?-u:{p})$"))
            .unwrap()
            .is_match(request.path.as_bytes()),
    };
    let method = match &m.method {
        Some(TextMatch::Exact(method)) => **method == *request.method,
        _ => true,
    };
    let header = |n: &NamedMatch| match &n.value {
        TextMatch::Exact(v) => request.headers.get(&*n.name).is_some_and(|h| h == &**v),
        _ => unreachable!("not generated"),
    };
    let query = |n: &NamedMatch| match &n.value {
        TextMatch::Exact(v) => request
            .query
            .as_deref()
            .unwrap_or("")
            .split('&')
            .any(|p| p == format!("{}={v}", n.name)),
        _ => unreachable!("not generated"),
    };
    path_holds && method && m.headers.iter().all(header) && m.query.iter().all(query)
}

fn order(a: &Flat<'_>, b: &Flat<'_>) -> Ordering {
    let in_order = |f: &Flat<'_>| f.route.precedence == Precedence::InOrder;
    let age = |f: &Flat<'_>| {
        (
            f.route.created,
            f.route.object.clone(),
            f.rule,
            f.alternative,
        )
    };
    in_order(b).cmp(&in_order(a)).then_with(|| {
        if in_order(a) {
            (is_catch_all(&a.m), age(a)).cmp(&(is_catch_all(&b.m), age(b)))
        } else {
            specific(&b.m)
                .cmp(&specific(&a.m))
                .then_with(|| age(a).cmp(&age(b)))
        }
    })
}

fn is_catch_all(m: &Match) -> bool {
    let path = match &m.path {
        None => true,
        Some(PathMatch::Prefix(p) | PathMatch::Text(p)) => &**p == "/",
        Some(PathMatch::Regex(p)) => &**p == ".*",
        Some(PathMatch::Exact(_)) => false,
    };
    path && m.method.is_none() && m.headers.is_empty() && m.query.is_empty()
}

fn specific(m: &Match) -> (u8, usize, bool, usize, usize) {
    let (kind, length) = match &m.path {
        None => (2, 1),
        Some(PathMatch::Exact(p)) => (3, p.len()),
        Some(PathMatch::Prefix(p) | PathMatch::Text(p)) => (2, p.len()),
        Some(PathMatch::Regex(p)) => (1, p.len()),
    };
    (
        kind,
        length,
        m.method.is_some(),
        m.headers.len(),
        m.query.len(),
    )
}

fn path_match() -> impl Strategy<Value = Option<PathMatch>> {
    let literal = prop::sample::select(vec![
        "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/A/b", "/b",
    ]);
    prop_oneof![
        1 => Just(None),
        3 => literal.clone().prop_map(|p| Some(PathMatch::Exact(p.into()))),
        4 => literal.clone().prop_map(|p| Some(PathMatch::Prefix(p.into()))),
        2 => literal.prop_map(|p| Some(PathMatch::Text(p.into()))),
        2 => prop::sample::select(vec![".*", "/a.*", "/[ab]", "/a/b|/b"]).prop_map(|p| Some(PathMatch::Regex(p.into()))),
    ]
}

fn matches() -> impl Strategy<Value = Match> {
    let pairs =
        |names: &'static [(&'static str, &'static str)]| prop::sample::subsequence(names, 0..=1);
    let headers = pairs(&[("x", "1"), ("y", "2")]);
    let query = pairs(&[("p", "1"), ("q", "2")]);
    let method = prop_oneof![4 => Just(None), 1 => Just(Some("GET")), 1 => Just(Some("POST"))];
    (path_match(), any::<bool>(), method, headers, query).prop_map(
        |(path, case, method, headers, query)| Match {
            ignore_case: case && path.is_some(),
            path,
            method: method.map(|m| TextMatch::Exact(m.into())),
            headers: named(&headers),
            query: named(&query),
            ..Match::default()
        },
    )
}

/// Hosts, rules as matches, age, and whether it is read in order.
type Parts = (Vec<&'static str>, Vec<Vec<Match>>, i64, bool);

fn routes() -> impl Strategy<Value = Vec<HttpRoute>> {
    let hosts = prop::sample::subsequence(vec!["*", "*.com", "*.a.com", "x.a.com", "b.org"], 0..4);
    let rules = prop::collection::vec(prop::collection::vec(matches(), 0..4), 1..8);
    let one = (hosts, rules, 0i64..3, prop::bool::weighted(0.3));
    prop::collection::vec(one, 1..7).prop_map(|all| {
        let of = |(n, (hosts, rules, created, in_order)): (usize, Parts)| {
            let named_rules = rules
                .into_iter()
                .enumerate()
                .map(|(r, matches)| rule(&format!("{n}-{r}"), matches));
            let precedence = if in_order {
                Precedence::InOrder
            } else {
                Precedence::Specific
            };
            // Names that do not sort as they were made.
            HttpRoute {
                created,
                precedence,
                ..route(
                    &format!("route-{}", (n * 5) % 7),
                    &hosts,
                    named_rules.collect(),
                )
            }
        };
        all.into_iter().enumerate().map(of).collect()
    })
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let host = prop::sample::select(vec![
        "x.a.com", "y.a.com", "z.com", "a.com", "b.org", "c.org",
    ]);
    let path = prop::sample::select(vec![
        "/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/d", "/ab", "/abc", "/A/B", "/b", "/z", "*",
    ]);
    let method = prop::sample::select(vec!["GET", "POST", "PUT"]);
    let headers = prop::sample::subsequence(vec![("x", "1"), ("y", "2"), ("x", "3")], 0..3);
    let query = prop::sample::select(vec!["", "p=1", "q=2&p=1", "p=2"]);
    let one =
        (host, path, method, headers, query).prop_map(|(host, path, method, headers, query)| {
            let mut request = get(host, &format!("{path}?{query}")).method(method);
            for (name, value) in headers {
                if !request.headers.contains_key(name) {
                    request = request.with(name, value);
                }
            }
            request
        });
    prop::collection::vec(one, 20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_agrees_with_the_reference(routes in routes(), requests in requests()) {
        let found = table(routes.clone());
        for request in &requests {
            prop_assert_eq!(winner(&found, SCOPE, request), reference(&routes, request), "{:?}", request);
        }
    }

    /// Whatever came and went in between, the table is as if it had been made of what is there.
    #[test]
    fn history_leaves_no_trace(
        routes in routes(),
        others in routes(),
        requests in requests(),
        removed in prop::collection::vec(any::<bool>(), 7),
    ) {
        let mut changed = table(others);
        for route in &routes {
            changed.insert_http(route.clone()).unwrap();
        }
        let mut left = routes.clone();
        for (n, remove) in removed.iter().enumerate() {
            let name = key(&format!("route-{n}"));
            let is_new = routes.iter().any(|r| r.object == name);
            if *remove || !is_new {
                changed.remove_http(&name.to_string());
                left.retain(|r| r.object != name);
            }
        }
        for request in &requests {
            let wanted = if left.is_empty() { "unrouted".into() } else { reference(&left, request) };
            prop_assert_eq!(winner(&changed, SCOPE, request), wanted);
        }
        prop_assert_eq!(changed.len(), left.len());
    }
}

#[test]
fn ties_go_to_the_older_route_then_to_the_first_by_name() {
    let named_route = |namespace: &str, name: &str, created| HttpRoute {
        created,
        object: ObjectKey::new("HTTPRoute", namespace, name),
        ..route(
            name,
            &[],
            vec![rule(&format!("{namespace}/{name}"), vec![prefix("/")])],
        )
    };
    let older = [named_route("b", "b", 1), named_route("a", "a", 2)];
    let request = get("h", "/");
    assert_eq!(winner(&table(older), SCOPE, &request), "b/b");
    let same_age = [named_route("b", "a", 1), named_route("a", "z", 1)];
    assert_eq!(winner(&table(same_age), SCOPE, &request), "a/z");
}

#[test]
fn virtual_services_are_read_in_order() {
    let table = table([in_order(
        "vs",
        vec![
            rule("first", vec![text("/a")]),
            rule("never", vec![exact("/a/exact")]),
            rule("second", vec![headers(&[("end-user", "jason")])]),
            rule("rest", vec![]),
        ],
    )]);
    for (request, wanted) in [
        (get("h", "/a/exact"), "first"),
        (get("h", "/ab"), "first"),
        (get("h", "/b").with("end-user", "jason"), "second"),
        (get("h", "/b"), "rest"),
    ] {
        assert_eq!(winner(&table, SCOPE, &request), wanted);
    }
}

/// Istio's merge of several VirtualServices for one host.
#[test]
fn a_catch_all_of_one_virtual_service_does_not_hide_the_next_one() {
    let old = HttpRoute {
        created: 1,
        ..in_order(
            "old",
            vec![rule("old-a", vec![text("/a")]), rule("old-rest", vec![])],
        )
    };
    let new = HttpRoute {
        created: 2,
        ..in_order(
            "new",
            vec![rule("new-b", vec![text("/b")]), rule("new-rest", vec![])],
        )
    };
    let table = table([new, old]);
    for (path, wanted) in [("/a", "old-a"), ("/b", "new-b"), ("/c", "old-rest")] {
        assert_eq!(winner(&table, SCOPE, &get("h", path)), wanted);
    }
}

#[test]
fn virtual_services_count_before_gateway_api() {
    let table = table([
        route(
            "http",
            &[],
            vec![rule("exact", vec![exact("/a/b")]), rule("rest", vec![])],
        ),
        in_order("vs", vec![rule("vs", vec![text("/a")])]),
    ]);
    for (path, wanted) in [("/a/b", "vs"), ("/c", "rest")] {
        assert_eq!(winner(&table, SCOPE, &get("h", path)), wanted);
    }
}
