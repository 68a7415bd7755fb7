//! What the control plane sends is read as it was written, and nothing unknown is passed over.

use std::time::Duration;

use super::*;

fn round_trip<T>(value: &T) -> String
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&json).unwrap(), *value);
    json
}

fn rich() -> HttpRoute {
    let fraction = Fraction {
        numerator: 1,
        denominator: 2,
    };
    let mut one = backend("a", 3);
    one.filters = vec![Filter::RequestHeaders(HeaderEdits {
        set: vec![("a".into(), "b".into())],
        ..HeaderEdits::default()
    })];
    let rich = Rule {
        name: Some("rich".into()),
        matches: vec![Match {
            method: Some(TextMatch::Present),
            headers: vec![NamedMatch {
                name: "x".into(),
                value: TextMatch::Regex("a.*".into()),
            }],
            ..prefix("/a")
        }],
        filters: vec![
            Filter::Rewrite(Rewrite {
                host: Some("h".into()),
                path: Some(PathRewrite::Regex {
                    pattern: "a".into(),
                    replacement: "b".into(),
                }),
            }),
            Filter::Mirror(Mirror {
                target: backend("m", 1).target,
                fraction,
            }),
            Filter::Cors(Cors::default()),
            Filter::Fault(Fault {
                delay: Some(Delay {
                    fixed: Duration::from_millis(1500),
                    fraction,
                }),
                abort: None,
            }),
            Filter::Invalid("why".into()),
        ],
        action: RuleAction::Forward(vec![
            one,
            Backend {
                weight: 1,
                target: BackendTarget::Unroutable(Unroutable {
                    status: 500,
                    why: "no such service".into(),
                }),
                filters: vec![],
            },
        ]),
        timeouts: Timeouts {
            request: Some(Duration::from_secs(3)),
            backend: None,
        },
        retry: Some(crate::decide::default_retry().clone()),
    };
    route("rich", &["*.a.com"], vec![rich])
}

#[test]
fn routes_come_back_as_they_were_sent() {
    let json = round_trip(&rich());
    assert!(json.contains(r#""precedence":"specific""#), "{json}");
    assert!(json.contains(r#""hostnames":["*.a.com"]"#), "{json}");
}

#[test]
fn what_may_be_left_out_is_filled_in() {
    let json = r#"{
        "object": "HTTPRoute/n/r",
        "parents": [{"service": {"service": "n/s.n.svc.cluster.local", "port": null}}],
        "created": 7,
        "precedence": "inOrder",
        "rules": [{"action": {"redirect": {"status": 301}}}]
    }"#;
    let route: HttpRoute = serde_json::from_str(json).unwrap();
    assert_eq!(route.rules[0].matches, []);
    assert_eq!(route.rules[0].timeouts, Timeouts::default());
    Table::default().insert_http(route).unwrap();
}

#[test]
fn unknown_fields_are_errors() {
    let json = serde_json::to_string(&rich()).unwrap();
    for (known, unknown) in [
        (r#""created""#, r#""newField":1,"created""#),
        (r#""weight":3"#, r#""weight":3,"newField":1"#),
        (r#""cors""#, r#""newFilter""#),
        (r#""prefix""#, r#""newKind""#),
        (r#""avoidTried""#, r#""newField":1,"avoidTried""#),
    ] {
        let changed = json.replacen(known, unknown, 1);
        assert_ne!(changed, json, "{known}");
        assert!(
            serde_json::from_str::<HttpRoute>(&changed).is_err(),
            "{unknown}"
        );
    }
}

#[test]
fn limits_and_destinations_come_back_too() {
    let limit = RateLimit {
        object: key("l"),
        targets: vec![tulle_policy::Target::Service(ServiceKey::new("n", "s"))],
        routes: vec![],
        matches: vec![prefix("/a")],
        limits: vec![Limit {
            name: None,
            key: vec![
                KeyPart::Identity,
                KeyPart::Header("x".into()),
                KeyPart::Claim(vec!["a".into()]),
            ],
            rate: Rate {
                requests: 5,
                per: Duration::from_secs(1),
            },
            burst: Some(2),
            scope: LimitScope::Shared,
            keys: None,
        }],
        status: None,
        dry_run: true,
    };
    round_trip(&limit);
    let destination = DestinationPolicy {
        service: ServiceKey::new("n", "s"),
        client: "shop".into(),
        policy: TrafficPolicy {
            balancing: Some(Balancing::Consistent(ConsistentHash {
                key: HashKey::Cookie {
                    name: "c".into(),
                    path: None,
                    ttl: Some(Duration::ZERO),
                },
                maglev: Some(101),
                minimum_ring: None,
            })),
            ..TrafficPolicy::default()
        },
        ports: vec![],
        subsets: vec![],
    };
    round_trip(&destination);
}

#[test]
fn a_table_tells_what_it_was_told() {
    let everything = Match {
        ignore_case: true,
        scheme: Some(TextMatch::Exact("https".into())),
        authority: Some(TextMatch::Suffix(".a.com".into())),
        without_headers: named(&[("y", "1")]),
        query: vec![NamedMatch {
            name: "q".into(),
            value: TextMatch::Prefix("1".into()),
        }],
        port: Some(80),
        source_namespace: Some("shop".into()),
        ..headers(&[("@request.auth.claims.a.b", "c")])
    };
    let redirect = Redirect {
        status: 301,
        scheme: Some("https".into()),
        host: None,
        port: Some(8443),
        port_of_scheme: false,
        path: Some(PathRewrite::Full("/b".into())),
    };
    let respond = DirectResponse {
        status: 503,
        body: "no".into(),
        headers: [("a".into(), "b".into())].into(),
    };
    let with = |matches, action| Rule {
        action,
        ..rule("r", matches)
    };
    let mut route = rich();
    route.rules.extend([
        rule("paths", vec![exact("/a"), text("/b"), regex("/c.*")]),
        with(vec![prefix("/d")], RuleAction::Redirect(redirect)),
        with(
            vec![Match {
                path: None,
                ..everything
            }],
            RuleAction::Respond(respond),
        ),
    ]);
    let told: Vec<HttpRoute> = table([route.clone()]).http_routes().collect();
    assert_eq!(told, [route]);
}

#[test]
fn names_of_objects_have_three_parts() {
    let key = ObjectKey::new("HTTPRoute", "n", "r");
    assert_eq!(
        (key.kind(), key.namespace(), key.name()),
        ("HTTPRoute", "n", "r")
    );
    assert_eq!(round_trip(&key), r#""HTTPRoute/n/r""#);
    for other in [
        "",
        "HTTPRoute",
        "HTTPRoute/n",
        "HTTPRoute//r",
        "/n/r",
        "HTTPRoute/n/",
    ] {
        assert_eq!(ObjectKey::shared(other.into()), None, "{other}");
    }
    let longer = ObjectKey::new("HTTPRoute", "n-a", "a");
    assert!(key < longer, "by part, not by letter");
}

#[test]
fn keys_are_never_shown() {
    let certificate = Certificate {
        name: "n/s".into(),
        chain: "chain".into(),
        key: "SECRET".into(),
        roots: None,
    };
    assert!(!format!("{certificate:?}").contains("SECRET"));
}
