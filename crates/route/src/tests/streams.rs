//! Routes of connections.

use std::net::IpAddr;

use super::*;
use crate::{StreamLookup, StreamRequest};

fn stream(name: &str, hosts: &[&str], matches: Vec<StreamMatch>) -> StreamRoute {
    StreamRoute {
        object: ObjectKey::new("TLSRoute", "infra", name),
        parents: vec![listener(hosts)],
        created: 0,
        precedence: Precedence::Specific,
        rules: vec![StreamRule {
            name: None,
            matches,
            backends: vec![backend(name, 1)],
        }],
    }
}

fn sni(names: &[&str]) -> StreamMatch {
    StreamMatch {
        sni: names.iter().map(|n| HostPattern((*n).into())).collect(),
        ..StreamMatch::default()
    }
}

fn asked(sni: Option<&str>) -> StreamRequest<'_> {
    StreamRequest {
        sni,
        destination: Some(IpAddr::from([10, 1, 2, 3])),
        port: 443,
        source_namespace: Some("apps"),
    }
}

fn found(routes: Vec<StreamRoute>, request: &StreamRequest<'_>) -> String {
    let mut table = Table::default();
    routes
        .into_iter()
        .for_each(|route| table.insert_stream(route));
    match table.stream(SCOPE, request) {
        StreamLookup::Routed(found) => {
            assert_eq!(found.backends().len(), 1);
            found.route.object.name().to_string()
        }
        StreamLookup::NoMatch => "none".into(),
        StreamLookup::Unrouted => "unrouted".into(),
    }
}

#[test]
fn the_longest_server_name_wins() {
    let routes = || {
        vec![
            stream("any", &[], vec![]),
            stream("short", &["*.com"], vec![]),
            stream("long", &[], vec![sni(&["*.example.com", "*.org"])]),
            stream("exact", &["a.example.com"], vec![]),
        ]
    };
    for (name, wanted) in [
        (Some("a.example.com"), "exact"),
        (Some("b.example.com"), "long"),
        (Some("c.b.example.com"), "long"),
        (Some("x.com"), "short"),
        (Some("x.org"), "long"),
        (Some("x.net"), "any"),
        (None, "any"),
    ] {
        assert_eq!(found(routes(), &asked(name)), wanted, "{name:?}");
    }
}

/// TLSRouteHostnameIntersection: names of the listener and of the route both count.
#[test]
fn names_of_parent_and_match_both_count() {
    let route = || {
        vec![stream(
            "r",
            &["*.example.com"],
            vec![sni(&["a.example.com", "b.org"])],
        )]
    };
    assert_eq!(found(route(), &asked(Some("a.example.com"))), "r");
    assert_eq!(found(route(), &asked(Some("c.example.com"))), "none");
    assert_eq!(found(route(), &asked(Some("b.org"))), "none");
    assert_eq!(found(route(), &asked(None)), "none");
    assert_eq!(found(vec![], &asked(None)), "unrouted");
}

#[test]
fn destinations_ports_and_namespaces() {
    let to = |nets: &[&str]| StreamMatch {
        destinations: nets.iter().map(|n| n.parse().unwrap()).collect(),
        ..StreamMatch::default()
    };
    let wide = || stream("wide", &[], vec![to(&["10.0.0.0/8"])]);
    let narrow = || stream("zz-narrow", &[], vec![to(&["10.1.0.0/16"])]);
    let all = || stream("all", &[], vec![]);
    assert_eq!(
        found(vec![all(), wide(), narrow()], &asked(None)),
        "zz-narrow"
    );
    assert_eq!(found(vec![all(), wide()], &asked(None)), "wide");
    assert_eq!(
        found(vec![stream("v6", &[], vec![to(&["::/0"])])], &asked(None)),
        "none"
    );
    let no_address = StreamRequest {
        destination: None,
        ..asked(None)
    };
    assert_eq!(found(vec![wide()], &no_address), "none");
    let port = |port| StreamMatch {
        port: Some(port),
        ..StreamMatch::default()
    };
    assert_eq!(
        found(
            vec![stream("p", &[], vec![port(80), port(443)])],
            &asked(None)
        ),
        "p"
    );
    assert_eq!(
        found(vec![stream("p", &[], vec![port(80)])], &asked(None)),
        "none"
    );
    let namespace = |name: &str| StreamMatch {
        source_namespace: Some(name.into()),
        ..StreamMatch::default()
    };
    assert_eq!(
        found(
            vec![stream("n", &[], vec![namespace("apps")])],
            &asked(None)
        ),
        "n"
    );
    assert_eq!(
        found(
            vec![stream("n", &[], vec![namespace("other")])],
            &asked(None)
        ),
        "none"
    );
}

#[test]
fn the_same_name_goes_to_virtual_services_then_to_the_oldest() {
    let aged = |name: &str, created, precedence| StreamRoute {
        created,
        precedence,
        ..stream(name, &["a.com"], vec![])
    };
    let request = asked(Some("a.com"));
    let specific = Precedence::Specific;
    assert_eq!(
        found(
            vec![aged("a", 2, specific), aged("b", 1, specific)],
            &request
        ),
        "b"
    );
    assert_eq!(
        found(
            vec![aged("b", 1, specific), aged("a", 1, specific)],
            &request
        ),
        "a"
    );
    assert_eq!(
        found(
            vec![aged("a", 1, specific), aged("vs", 9, Precedence::InOrder)],
            &request
        ),
        "vs"
    );
}

#[test]
fn streams_come_and_go() {
    let mut table = Table::default();
    table.insert_stream(stream("r", &["a.com"], vec![]));
    table.insert_stream(stream("r", &["b.com"], vec![]));
    assert_eq!(table.stream_routes().count(), 1);
    assert!(
        table
            .stream(SCOPE, &asked(Some("a.com")))
            .routed()
            .is_none()
    );
    assert!(
        table
            .stream(SCOPE, &asked(Some("b.com")))
            .routed()
            .is_some()
    );
    assert!(table.remove_stream("TLSRoute/infra/r"));
    assert!(matches!(
        table.stream(SCOPE, &asked(None)),
        StreamLookup::Unrouted
    ));
}

#[test]
fn services_route_streams_too() {
    let service = ServiceKey::new("infra", "mysql");
    let mut table = Table::default();
    let at = |port| Parent::Service {
        service: service.clone(),
        port,
    };
    table.insert_stream(StreamRoute {
        parents: vec![at(None)],
        ..stream("all", &[], vec![])
    });
    table.insert_stream(StreamRoute {
        parents: vec![at(Some(443))],
        ..stream("a-port", &[], vec![])
    });
    let name = |port| {
        let scope = Scope::Service {
            service: &service,
            port,
        };
        table
            .stream(scope, &asked(None))
            .routed()
            .unwrap()
            .route
            .object
            .name()
            .to_string()
    };
    assert_eq!(name(443), "a-port");
    assert_eq!(name(80), "all");
}

/// A VirtualService may route both.
#[test]
fn an_object_loses_one_sort_of_routes_and_keeps_the_other() {
    let mut table = table([route("both", &[], vec![rule("http", vec![])])]);
    let mut of_connections = stream("both", &[], vec![]);
    of_connections.object = key("both");
    table.insert_stream(of_connections);
    assert!(table.remove_stream("HTTPRoute/infra/both"));
    assert!(!table.remove_stream("HTTPRoute/infra/both"));
    assert_eq!(winner(&table, SCOPE, &get("h", "/")), "http");
}
