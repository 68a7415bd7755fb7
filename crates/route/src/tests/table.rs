//! Scopes, updates, sizes.

use super::*;

fn service(name: &str, port: Option<u16>) -> Parent {
    Parent::Service {
        service: ServiceKey::new("infra", name),
        port,
    }
}

fn of(parent: Parent, name: &str, matches: Vec<Match>) -> HttpRoute {
    HttpRoute {
        parents: vec![parent],
        ..route(name, &[], vec![rule(name, matches)])
    }
}

#[test]
fn services_have_routes_for_all_ports_and_for_one() {
    let table = table([
        of(service("echo", None), "all", vec![prefix("/a")]),
        of(service("echo", Some(80)), "eighty", vec![prefix("/a/b")]),
        of(service("other", Some(90)), "ninety", vec![]),
    ]);
    let at = |name: &str, port, path: &str| {
        let service = ServiceKey::new("infra", name);
        let scope = Scope::Service {
            service: &service,
            port,
        };
        // The host is of no interest.
        winner(&table, scope, &get("whatever.example", path))
    };
    assert_eq!(at("echo", 80, "/a/b"), "eighty");
    assert_eq!(at("echo", 80, "/a/c"), "all");
    assert_eq!(at("echo", 81, "/a/b"), "all");
    assert_eq!(at("echo", 81, "/z"), "404");
    assert_eq!(at("other", 90, "/"), "ninety");
    assert_eq!(at("other", 80, "/"), "unrouted");
    assert_eq!(at("none", 80, "/"), "unrouted");
}

/// MeshConsumerRoute: a route about somebody else's service is for the clients of its own namespace.
#[test]
fn consumers_routes_are_for_their_own_clients() {
    let consumer = |m: Match| Match {
        source_namespace: Some("apps".into()),
        ..m
    };
    let echo = ServiceKey::new("infra", "echo");
    let scope = Scope::Service {
        service: &echo,
        port: 80,
    };
    let from = |namespace: &str, path: &str| Request {
        namespace: Some(namespace.to_owned()),
        ..get("h", path)
    };
    let theirs = of(
        service("echo", None),
        "consumer",
        vec![consumer(prefix("/a"))],
    );
    let mut table = table([theirs]);
    assert_eq!(winner(&table, scope, &from("apps", "/a")), "consumer");
    assert_eq!(winner(&table, scope, &from("apps", "/b")), "404");
    assert_eq!(winner(&table, scope, &from("other", "/a")), "unrouted");
    assert_eq!(winner(&table, scope, &get("h", "/a")), "unrouted");
    // Beside the service's own route, also a more specific one.
    table
        .insert_http(of(service("echo", None), "producer", vec![prefix("/a/b")]))
        .unwrap();
    assert_eq!(winner(&table, scope, &from("apps", "/a/b")), "consumer");
    assert_eq!(winner(&table, scope, &from("other", "/a/b")), "producer");
    assert_eq!(winner(&table, scope, &from("other", "/c")), "404");
    assert!(table.remove_http("HTTPRoute/infra/producer"));
    assert_eq!(winner(&table, scope, &from("other", "/c")), "unrouted");
    assert!(table.remove_http("HTTPRoute/infra/consumer"));
    assert!(table.is_empty());
}

#[test]
fn a_route_without_rules_is_still_a_route() {
    let empty = HttpRoute {
        rules: vec![],
        ..of(service("echo", None), "empty", vec![])
    };
    let mut table = table([empty]);
    let echo = ServiceKey::new("infra", "echo");
    let scope = Scope::Service {
        service: &echo,
        port: 80,
    };
    assert_eq!(winner(&table, scope, &get("h", "/")), "404");
    assert!(table.remove_http("HTTPRoute/infra/empty"));
    assert_eq!(winner(&table, scope, &get("h", "/")), "unrouted");
    assert!(!table.remove_http("HTTPRoute/infra/empty"));
    assert!(table.is_empty());
}

#[test]
fn clones_do_not_see_later_changes() {
    let mut table = table([route("r", &[], vec![rule("old", vec![])])]);
    let before = table.clone();
    table
        .insert_http(route("r", &[], vec![rule("new", vec![])]))
        .unwrap();
    let request = get("h", "/");
    assert_eq!(winner(&before, SCOPE, &request), "old");
    assert_eq!(winner(&table, SCOPE, &request), "new");
    table.remove_http("HTTPRoute/infra/r");
    assert_eq!(winner(&before, SCOPE, &request), "old");
    assert_eq!(before.http_routes().count(), 1);
    assert_eq!(table.http_routes().count(), 0);
}

#[test]
fn five_thousand_hosts_and_five_thousand_paths() {
    let hosts = (0..5000).map(|n| {
        let name = format!("r{n}");
        route(
            &name,
            &[&format!("{name}.example.com")],
            vec![rule(&name, vec![prefix("/")])],
        )
    });
    let hosts = table(hosts);
    assert_eq!(hosts.len(), 5000);
    assert_eq!(
        winner(&hosts, SCOPE, &get("r4711.example.com", "/x")),
        "r4711"
    );
    assert_eq!(
        winner(&hosts, SCOPE, &get("r5000.example.com", "/x")),
        "404"
    );
    let mut paths = Table::default();
    for n in 0..5000 {
        let name = format!("r{n}");
        paths
            .insert_http(route(
                &name,
                &["h"],
                vec![rule(&name, vec![prefix(&format!("/api/{n}"))])],
            ))
            .unwrap();
    }
    assert_eq!(winner(&paths, SCOPE, &get("h", "/api/4711/x")), "r4711");
    assert_eq!(winner(&paths, SCOPE, &get("h", "/api/471")), "r471");
    assert_eq!(winner(&paths, SCOPE, &get("h", "/api/5000")), "404");
    for n in 0..4999 {
        assert!(paths.remove_http(&format!("HTTPRoute/infra/r{n}")));
    }
    assert_eq!(winner(&paths, SCOPE, &get("h", "/api/4999")), "r4999");
    assert_eq!(winner(&paths, SCOPE, &get("h", "/api/4711")), "404");
}

#[test]
fn equal_expressions_are_compiled_once() {
    let routes = (0..3).map(|n| {
        route(
            &format!("r{n}"),
            &[],
            vec![rule("r", vec![regex("/a[0-9]+")])],
        )
    });
    let mut patterns = crate::text::Patterns::default();
    let first = patterns.whole(&"/a[0-9]+".into()).unwrap();
    let second = patterns.whole(&"/a[0-9]+".into()).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(
        &first,
        &patterns.part(&"/a[0-9]+".into()).unwrap()
    ));
    assert_eq!(winner(&table(routes), SCOPE, &get("h", "/a17")), "r");
}

#[test]
fn a_rule_can_be_kept_when_its_route_is_gone() {
    let mut table = table([route("r", &[], vec![rule("kept", vec![])])]);
    let request = get("h", "/");
    let rule = table
        .http(SCOPE, &request.head())
        .routed()
        .unwrap()
        .rule
        .clone();
    table.remove_http("HTTPRoute/infra/r");
    assert_eq!(rule.name().map(|n| &**n), Some("kept"));
    assert_eq!(rule.object(), &key("r"));
    assert_eq!(rule.backends().len(), 1);
    assert_eq!(rule.index(), 0);
}

#[test]
fn logs_call_a_rule_by_its_name_or_by_that_of_its_object() {
    let unnamed = Rule {
        name: None,
        ..rule("r", vec![])
    };
    for (rule, label) in [
        (rule("named", vec![]), "named"),
        (unnamed, "HTTPRoute/infra/r"),
    ] {
        let table = table([route("r", &[], vec![rule])]);
        let request = get("h", "/");
        let found = table.http(SCOPE, &request.head()).routed().unwrap();
        assert_eq!(&**found.rule.label(), label);
    }
}

#[test]
fn what_routes_have_in_common_is_held_once() {
    let table = table([
        route("a", &["h"], vec![rule("same", vec![prefix("/a")])]),
        route("b", &["h"], vec![rule("same", vec![prefix("/b")])]),
    ]);
    let of = |path: &str| {
        let request = get("h", path);
        let found = table.http(SCOPE, &request.head()).routed().unwrap();
        found.rule.backends().as_ptr()
    };
    assert_eq!(of("/a"), of("/b"));
    let mut parents = table.http_routes().map(|route| route.parents);
    match (&parents.next().unwrap()[0], &parents.next().unwrap()[0]) {
        (
            Parent::Listener {
                gateway: a,
                hostnames: of_a,
                ..
            },
            Parent::Listener {
                gateway: b,
                hostnames: of_b,
                ..
            },
        ) => {
            assert!(Arc::ptr_eq(a, b));
            assert!(Arc::ptr_eq(&of_a[0].0, &of_b[0].0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn more_than_can_be_counted_is_refused_and_the_last_good_route_stays() {
    let many = usize::from(u16::MAX) + 1;
    for too_many in [
        route("r", &[], vec![rule("many", vec![]); many]),
        route("r", &[], vec![rule("many", vec![exact("/a"); many])]),
    ] {
        let mut table = table([route("r", &[], vec![rule("good", vec![])])]);
        let error = table.insert_http(too_many).unwrap_err();
        assert_eq!(error.fault, crate::RuleFault::TooMany);
        assert_eq!(winner(&table, SCOPE, &get("h", "/a")), "good");
    }
}
