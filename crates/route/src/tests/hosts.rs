//! Host patterns.

use proptest::prelude::*;

use super::*;

fn host(text: &str) -> HostPattern {
    HostPattern(text.into())
}

#[test]
fn wildcards_match_names_below_them() {
    for (pattern, name, wanted) in [
        ("a.com", "a.com", true),
        ("a.com", "b.a.com", false),
        ("*.a.com", "b.a.com", true),
        ("*.a.com", "c.b.a.com", true),
        ("*.a.com", "a.com", false),
        ("*.a.com", ".a.com", false),
        ("*.a.com", "xa.com", false),
        ("*", "anything", true),
    ] {
        assert_eq!(host(pattern).matches(name), wanted, "{pattern} {name}");
    }
}

#[test]
fn intersections() {
    for (a, b, wanted) in [
        ("*", "*", Some("*")),
        ("*", "a.com", Some("a.com")),
        ("*", "*.a.com", Some("*.a.com")),
        ("a.com", "a.com", Some("a.com")),
        ("a.com", "b.com", None),
        ("*.a.com", "b.a.com", Some("b.a.com")),
        ("*.a.com", "a.com", None),
        ("*.a.com", "*.b.a.com", Some("*.b.a.com")),
        ("*.a.com", "*.b.com", None),
        ("*.com", "*.xcom", None),
    ] {
        let wanted = wanted.map(host);
        assert_eq!(host(a).intersect(&host(b)), wanted, "{a} {b}");
        assert_eq!(host(b).intersect(&host(a)), wanted, "{b} {a}");
    }
}

fn pattern() -> impl Strategy<Value = HostPattern> {
    "(\\*|(\\*\\.)?([ab]\\.){0,2}c)".prop_map(|text| HostPattern(text.into()))
}

proptest! {
    #[test]
    fn an_intersection_is_what_both_match(a in pattern(), b in pattern(), name in "([ab]\\.){0,4}c") {
        let both = a.matches(&name) && b.matches(&name);
        let found = a.intersect(&b).is_some_and(|c| c.matches(&name));
        prop_assert_eq!(found, both, "{:?} {:?} {}", a, b, name);
    }
}

#[test]
fn the_most_specific_host_decides_alone() {
    let one = |name: &str, hosts: &[&str], path: &str| {
        route(name, hosts, vec![rule(name, vec![prefix(path)])])
    };
    let table = table([
        one("exact", &["a.b.com"], "/exact"),
        one("longer", &["*.b.com"], "/longer"),
        one("shorter", &["*.com"], "/shorter"),
        one("any", &[], "/any"),
    ]);
    for (host, path, wanted) in [
        ("a.b.com", "/exact", "exact"),
        ("a.b.com", "/longer", "404"),
        ("x.b.com", "/longer", "longer"),
        ("x.a.b.com", "/longer", "longer"),
        ("b.com", "/shorter", "shorter"),
        ("x.b.com", "/shorter", "404"),
        ("org", "/any", "any"),
        ("com", "/any", "any"),
    ] {
        assert_eq!(
            winner(&table, SCOPE, &get(host, path)),
            wanted,
            "{host}{path}"
        );
    }
}

#[test]
fn listeners_by_server_name() {
    let listener = |name: &str, host: Option<&str>, protocol| Listener {
        name: name.into(),
        port: 443,
        service_port: 443,
        hostname: host.map(super::hosts::host),
        protocol,
    };
    let gateway = Gateway {
        namespace: "n".into(),
        name: "g".into(),
        role: Role::Gateway,
        listeners: vec![
            listener("pass", Some("*.pass.com"), Protocol::Passthrough),
            listener("plain", Some("a.pass.com"), Protocol::Http),
            listener("rest", None, Protocol::Passthrough),
        ],
        backend_certificate: None,
        client_identity: false,
    };
    let name = |sni| gateway.listener_of_sni(443, sni).map(|l| &*l.name);
    assert_eq!(name(Some("a.pass.com")), Some("pass"));
    assert_eq!(name(Some("other")), Some("rest"));
    assert_eq!(name(None), Some("rest"));
    assert_eq!(gateway.listener_of_sni(444, None), None);
    assert_eq!(
        gateway
            .listener_of_host(443, "a.pass.com")
            .map(|l| &*l.name),
        Some("plain")
    );
}
