//! What Istio's documentation says, case by case.

use std::net::{IpAddr, SocketAddr};

use super::{Asked, claims, names, policy, rule, service, text, waypoint};
use crate::http::{
    Action, Ask, Cause, Clause, Custom, HttpPolicies, HttpPolicy, Match, NetAttribute, Note,
    Outcome, PathMatch, Request, Rule, Test, TextAttribute, TextMatch,
};
use crate::{Envelope, Target};

fn table(policies: Vec<HttpPolicy>) -> HttpPolicies {
    let mut table = HttpPolicies::default();
    policies.into_iter().for_each(|policy| table.insert(policy));
    table
}

fn allowed(table: &HttpPolicies, targets: &[Target], asked: &Asked<'_>) -> bool {
    asked.with(|request| table.decide(targets, request).is_allowed())
}

/// One ALLOW policy of one rule of one test: does it match?
fn matches(test: Test, asked: &Asked<'_>) -> bool {
    allowed(
        &table(vec![policy(
            "ns/p",
            waypoint(),
            Action::Allow,
            vec![rule(test)],
        )]),
        &[waypoint()],
        asked,
    )
}

#[test]
fn without_policies_everything_passes() {
    assert!(allowed(
        &HttpPolicies::default(),
        &[waypoint()],
        &Asked::default()
    ));
}

#[test]
fn allow_without_rules_denies_all_and_an_empty_rule_allows_all() {
    let targets = [waypoint(), service("reviews")];
    let nothing = table(vec![policy(
        "ns/nothing",
        waypoint(),
        Action::Allow,
        Vec::new(),
    )]);
    let verdict = Asked::default().with(|request| nothing.decide(&targets, request));
    assert_eq!(
        verdict.outcome,
        Outcome::Denied(Cause::NoAllow {
            considered: names(&["ns/nothing"])
        })
    );
    assert_eq!(
        verdict.outcome.to_string(),
        "no allow policy of ns/nothing matched"
    );
    let all = table(vec![policy(
        "ns/all",
        waypoint(),
        Action::Allow,
        vec![Rule::default()],
    )]);
    let verdict = Asked::default().with(|request| all.decide(&targets, request));
    assert_eq!(
        verdict.outcome,
        Outcome::Allowed(Some(("ns/all".into(), 0)))
    );
}

#[test]
fn deny_wins_and_names_policy_and_rule() {
    let get = rule(text(TextAttribute::Method, &["GET"], &[]));
    let post = rule(text(TextAttribute::Method, &["POST"], &[]));
    let table = table(vec![
        policy("ns/allow", waypoint(), Action::Allow, vec![Rule::default()]),
        policy("ns/deny", waypoint(), Action::Deny, vec![post, get]),
    ]);
    let outcome = Asked::default().with(|request| table.decide(&[waypoint()], request).outcome);
    assert_eq!(outcome.to_string(), "denied by policy ns/deny rule 1");
    assert!(allowed(
        &table,
        &[waypoint()],
        &Asked {
            method: "PUT",
            ..Asked::default()
        }
    ));
}

#[test]
fn a_policy_of_one_service_leaves_others_alone() {
    let deny = policy(
        "ns/deny",
        service("reviews"),
        Action::Deny,
        vec![Rule::default()],
    );
    let table = table(vec![deny]);
    assert!(!allowed(
        &table,
        &[waypoint(), service("reviews")],
        &Asked::default()
    ));
    assert!(allowed(
        &table,
        &[waypoint(), service("ratings")],
        &Asked::default()
    ));
}

#[test]
fn mesh_wide_deny_is_lifted_by_any_allow() {
    let everywhere = policy(
        "istio-system/deny-all",
        Target::Waypoints,
        Action::Allow,
        Vec::new(),
    );
    let one = policy(
        "ns/one",
        service("reviews"),
        Action::Allow,
        vec![Rule::default()],
    );
    let table = table(vec![everywhere, one]);
    let targets = |name| [waypoint(), service(name), Target::Waypoints];
    assert!(allowed(&table, &targets("reviews"), &Asked::default()));
    assert!(!allowed(&table, &targets("ratings"), &Asked::default()));
    assert!(allowed(
        &table,
        &[Target::Gateway("ns/gateway".into())],
        &Asked::default()
    ));
}

#[test]
fn methods_paths_and_hosts() {
    let asked = Asked::default();
    assert!(matches(
        text(TextAttribute::Method, &["GET", "HEAD"], &[]),
        &asked
    ));
    assert!(
        !matches(text(TextAttribute::Method, &["get"], &[]), &asked),
        "methods have case"
    );
    assert!(
        matches(text(TextAttribute::Host, &["REVIEWS:9080"], &[]), &asked),
        "hosts have none"
    );
    assert!(
        !matches(text(TextAttribute::Host, &["reviews"], &[]), &asked),
        "the port belongs to the authority"
    );
    assert!(matches(
        text(TextAttribute::Host, &["reviews:*"], &[]),
        &asked
    ));
    assert!(!matches(
        text(TextAttribute::Host, &[], &["*:9080"]),
        &asked
    ));
    let path = |values: &[&str], not: &[&str]| {
        let parse = |texts: &[&str]| {
            texts
                .iter()
                .map(|t| PathMatch::Text(TextMatch::parse(t)))
                .collect()
        };
        Test::Path {
            values: parse(values),
            not: parse(not),
        }
    };
    assert!(matches(path(&["/reviews*"], &[]), &asked));
    assert!(matches(path(&["*/1"], &["/reviews/2"]), &asked));
    assert!(!matches(path(&["/Reviews/1"], &[]), &asked));
    assert!(!matches(path(&["*"], &["/reviews/1"]), &asked));
    let template = Test::Path {
        values: vec![PathMatch::Template("/reviews/{*}".into())],
        not: Vec::new(),
    };
    assert!(matches(template, &asked));
}

#[test]
fn sources() {
    let asked = Asked::default();
    let stranger = Asked {
        source: None,
        ..Asked::default()
    };
    for (attribute, value) in [
        (TextAttribute::Principal, "td/ns/a/sa/b"),
        (TextAttribute::Principal, "*/sa/b"),
        (TextAttribute::Namespace, "a"),
        (TextAttribute::TrustDomain, "t*"),
    ] {
        assert!(
            matches(text(attribute.clone(), &[value], &[]), &asked),
            "{value}"
        );
        assert!(
            !matches(text(attribute.clone(), &[], &[value]), &asked),
            "not {value}"
        );
        assert!(
            !matches(text(attribute.clone(), &[value], &[]), &stranger),
            "{value} of nobody"
        );
        assert!(
            matches(text(attribute, &[], &[value]), &stranger),
            "nobody is not {value}"
        );
    }
    let account = crate::ServiceAccountMatch {
        namespace: "a".into(),
        service_account: "b".into(),
    };
    let test = Test::ServiceAccount {
        values: vec![account],
        not: Vec::new(),
    };
    assert!(matches(test.clone(), &asked));
    assert!(!matches(test, &stranger));
}

#[test]
fn addresses_and_ports() {
    let net = |attribute, net: &str| Test::Net {
        attribute,
        values: vec![net.parse().unwrap()],
        not: Vec::new(),
    };
    let asked = Asked {
        remote: "::ffff:203.0.113.7".parse().unwrap(),
        ..Asked::default()
    };
    assert!(matches(net(NetAttribute::Source, "10.0.0.0/24"), &asked));
    assert!(!matches(
        net(NetAttribute::Source, "203.0.113.0/24"),
        &asked
    ));
    assert!(
        matches(net(NetAttribute::Remote, "203.0.113.0/24"), &asked),
        "IPv4 in IPv6 is IPv4"
    );
    assert!(matches(
        net(NetAttribute::Destination, "10.0.0.1/32"),
        &asked
    ));
    assert!(matches(
        Test::Port {
            values: vec![9080],
            not: vec![80]
        },
        &asked
    ));
    assert!(!matches(
        Test::Port {
            values: Vec::new(),
            not: vec![9080]
        },
        &asked
    ));
    let sni = text(TextAttribute::Sni, &["*.example.com"], &[]);
    assert!(!matches(sni.clone(), &asked));
    assert!(matches(
        sni,
        &Asked {
            sni: Some("www.example.com"),
            ..Asked::default()
        }
    ));
}

#[test]
fn headers_are_joined_and_may_be_empty() {
    let asked = Asked {
        headers: vec![("x-role", "a"), ("x-role", "b"), ("x-empty", "")],
        ..Asked::default()
    };
    let header = |name: &str, value: &str| text(TextAttribute::Header(name.into()), &[value], &[]);
    assert!(matches(header("x-role", "a,b"), &asked));
    assert!(!matches(header("x-role", "a"), &asked));
    assert!(matches(header("x-role", "a*"), &asked));
    assert!(matches(header("x-empty", "*"), &asked), "present");
    assert!(!matches(header("x-none", "*"), &asked));
    assert!(
        matches(
            text(TextAttribute::Header("x-none".into()), &[], &["a"]),
            &asked
        ),
        "what is not there is not a"
    );
}

#[test]
fn claims_of_tokens() {
    let token = claims(
        r#"{"iss":"me","sub":"you","aud":["x","y"],"azp":"app","groups":["g1","g2"],"scope":"read write",
            "nested":{"a":{"b":"deep"}},"level":3,"spaced":"one two"}"#,
    );
    let asked = Asked {
        claims: Some(token),
        ..Asked::default()
    };
    let none = Asked::default();
    let claim = |path: &[&str]| TextAttribute::Claim(names(path));
    for (attribute, value, holds) in [
        (TextAttribute::RequestPrincipal, "me/you", true),
        (TextAttribute::RequestPrincipal, "*", true),
        (TextAttribute::RequestPrincipal, "me/*", true),
        (TextAttribute::RequestPrincipal, "you/*", false),
        (TextAttribute::Audience, "y", true),
        (TextAttribute::Presenter, "app", true),
        (claim(&["groups"]), "g2", true),
        (claim(&["groups"]), "g3", false),
        (claim(&["scope"]), "write", true),
        (claim(&["scope"]), "read write", true),
        (claim(&["spaced"]), "one", false),
        (claim(&["nested", "a", "b"]), "deep", true),
        (claim(&["nested", "a"]), "*", false),
        (claim(&["level"]), "3", false),
    ] {
        let name = format!("{attribute:?} {value}");
        assert_eq!(
            matches(text(attribute.clone(), &[value], &[]), &asked),
            holds,
            "{name}"
        );
        assert_eq!(
            matches(text(attribute.clone(), &[], &[value]), &asked),
            !holds,
            "not {name}"
        );
        assert!(
            !matches(text(attribute.clone(), &[value], &[]), &none),
            "{name} without token"
        );
        assert!(
            matches(text(attribute, &[], &[value]), &none),
            "not {name} without token"
        );
    }
}

#[test]
fn clauses_and_matches() {
    let get = || text(TextAttribute::Method, &["GET"], &[]);
    let post = || text(TextAttribute::Method, &["POST"], &[]);
    let a = || text(TextAttribute::Namespace, &["a"], &[]);
    let clause = |tests: Vec<Vec<Test>>| Clause {
        any: tests.into_iter().map(|all| Match { all }).collect(),
    };
    let holds = |clauses: Vec<Clause>| {
        let table = table(vec![policy(
            "ns/p",
            waypoint(),
            Action::Allow,
            vec![Rule { clauses }],
        )]);
        allowed(&table, &[waypoint()], &Asked::default())
    };
    assert!(holds(vec![
        clause(vec![vec![post()], vec![get()]]),
        clause(vec![vec![a()]])
    ]));
    assert!(!holds(vec![
        clause(vec![vec![post()]]),
        clause(vec![vec![a()]])
    ]));
    assert!(!holds(vec![clause(vec![vec![a(), post()]])]));
    assert!(
        !holds(vec![clause(Vec::new())]),
        "a clause without matches cannot hold"
    );
}

#[test]
fn custom_names_providers_in_order() {
    let custom = |name: &str, provider: &str, rules| {
        policy(
            name,
            waypoint(),
            Action::Custom {
                provider: provider.into(),
            },
            rules,
        )
    };
    let put = || rule(text(TextAttribute::Method, &["PUT"], &[]));
    let mut table = table(vec![
        custom("ns/a", "one", vec![put()]),
        custom("ns/b", "one", vec![put(), Rule::default()]),
        custom("ns/c", "two", vec![Rule::default()]),
        custom("ns/d", "one", vec![Rule::default()]),
    ]);
    let ask = |table: &HttpPolicies| {
        Asked::default().with(|request| table.custom(&[waypoint()], request))
    };
    let asks = |provider: &str, policy: &str, rule| Ask {
        provider: provider.into(),
        policy: policy.into(),
        rule,
    };
    assert_eq!(
        ask(&table),
        Custom::Ask(vec![asks("one", "ns/b", 1), asks("two", "ns/c", 0)])
    );
    assert!(
        allowed(&table, &[waypoint()], &Asked::default()),
        "CUSTOM alone leaves the rest open"
    );
    let broken = HttpPolicy {
        unenforceable: Some("no such provider".into()),
        ..custom("ns/a", "x", Vec::new())
    };
    table.insert(broken);
    let Custom::Refused(cause) = ask(&table) else {
        panic!("asks somebody")
    };
    assert_eq!(
        cause.to_string(),
        "denied by policy ns/a, which cannot be evaluated: no such provider"
    );
}

#[test]
fn audit_and_dry_run_are_noted_only() {
    let dry = |name: &str, action| HttpPolicy {
        dry_run: true,
        ..policy(name, waypoint(), action, vec![Rule::default()])
    };
    let table = table(vec![
        policy("ns/audit", waypoint(), Action::Audit, vec![Rule::default()]),
        dry("ns/deny", Action::Deny),
        dry(
            "ns/custom",
            Action::Custom {
                provider: "p".into(),
            },
        ),
        HttpPolicy {
            rules: Vec::new(),
            ..dry("ns/silent", Action::Allow)
        },
    ]);
    let decision = Asked::default().with(|request| table.decide(&[waypoint()], request));
    assert!(
        decision.is_allowed(),
        "an ALLOW policy in dry run does not deny"
    );
    let texts: Vec<String> = decision.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "audited by policy ns/audit rule 0",
            "provider p would be asked by dry-run policy ns/custom rule 0",
            "would be denied by dry-run policy ns/deny rule 0",
            "would not be allowed: no rule of dry-run policy ns/silent matched",
        ]
    );
    let results: Vec<&str> = decision.notes.iter().map(Note::result).collect();
    assert_eq!(
        results,
        [
            "audited",
            "would_be_asked",
            "would_be_denied",
            "would_not_be_allowed"
        ]
    );
    let custom = Asked::default().with(|request| table.custom(&[waypoint()], request));
    assert_eq!(custom, Custom::Ask(Vec::new()));
}

#[test]
fn of_dry_run_allow_policies_one_match_is_enough() {
    let dry = |name: &str, rules| HttpPolicy {
        dry_run: true,
        ..policy(name, waypoint(), Action::Allow, rules)
    };
    let table = table(vec![
        dry("ns/a", Vec::new()),
        dry("ns/b", vec![Rule::default()]),
    ]);
    let decision = Asked::default().with(|request| table.decide(&[waypoint()], request));
    let texts: Vec<String> = decision.notes.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["would be allowed by dry-run policy ns/b rule 0"]);
}

#[test]
fn what_is_not_understood_refuses() {
    let json = r#"{"name":"ns/new","targets":[{"gateway":"ns/waypoint"}],"action":"allow","since":"2.0","rules":[]}"#;
    let error = serde_json::from_str::<HttpPolicy>(json).unwrap_err();
    let envelope: Envelope = serde_json::from_str(json).unwrap();
    let mut table = table(vec![HttpPolicy::undecodable(envelope, error.to_string())]);
    let outcome = Asked::default().with(|request| table.decide(&[waypoint()], request).outcome);
    let text = outcome.to_string();
    assert!(
        text.starts_with(
            "denied by policy ns/new, which cannot be evaluated: unknown field `since`"
        ),
        "{text}"
    );
    assert!(allowed(
        &table,
        &[Target::Gateway("ns/other".into())],
        &Asked::default()
    ));
    table.insert_unreadable("ns/worse", "not even targets");
    assert!(!allowed(
        &table,
        &[Target::Gateway("ns/other".into())],
        &Asked::default()
    ));
    assert!(table.remove("ns/worse") && table.remove("ns/new") && table.is_empty());
    assert!(allowed(&table, &[waypoint()], &Asked::default()));
}

#[test]
fn a_template_that_does_not_compile_refuses() {
    let broken = Test::Path {
        values: vec![PathMatch::Template("/{x}".into())],
        not: Vec::new(),
    };
    let table = table(vec![policy(
        "ns/p",
        waypoint(),
        Action::Deny,
        vec![rule(broken)],
    )]);
    assert!(!allowed(&table, &[waypoint()], &Asked::default()));
}

#[test]
fn connections_fail_closed() {
    let connection = Request {
        source: None,
        source_ip: IpAddr::from([10, 0, 0, 9]),
        remote_ip: IpAddr::from([10, 0, 0, 9]),
        destination: SocketAddr::from(([10, 0, 0, 1], 80)),
        sni: None,
        http: None,
    };
    let not_post = || rule(text(TextAttribute::Method, &[], &["POST"]));
    let get = || rule(text(TextAttribute::Method, &["GET"], &[]));
    let port = || {
        rule(Test::Port {
            values: vec![80],
            not: Vec::new(),
        })
    };
    let decide = |action, rule| {
        table(vec![policy("ns/p", waypoint(), action, vec![rule])])
            .decide(&[waypoint()], &connection)
            .is_allowed()
    };
    assert!(!decide(Action::Deny, get()), "it might be GET");
    assert!(!decide(Action::Deny, not_post()));
    assert!(!decide(Action::Allow, get()), "it might not");
    assert!(!decide(Action::Allow, not_post()));
    assert!(decide(Action::Allow, port()));
    let other = rule(Test::Port {
        values: vec![81],
        not: Vec::new(),
    });
    assert!(decide(Action::Deny, other));
}

#[test]
fn survives_the_wire() {
    let tests = vec![
        text(TextAttribute::Claim(names(&["a", "b"])), &["x"], &["*"]),
        Test::Path {
            values: vec![PathMatch::Template("/{**}".into())],
            not: vec![PathMatch::Text(TextMatch::parse("*a"))],
        },
        Test::Net {
            attribute: NetAttribute::Remote,
            values: vec!["fd00::/8".parse().unwrap()],
            not: Vec::new(),
        },
        Test::Port {
            values: vec![1],
            not: vec![2],
        },
        Test::ServiceAccount {
            values: vec![crate::ServiceAccountMatch {
                namespace: "a".into(),
                service_account: "b".into(),
            }],
            not: Vec::new(),
        },
    ];
    let targets = vec![waypoint(), service("reviews"), Target::Waypoints];
    let whole = HttpPolicy {
        targets,
        rules: tests.into_iter().map(rule).collect(),
        ..policy(
            "ns/p",
            waypoint(),
            Action::Custom {
                provider: "p".into(),
            },
            Vec::new(),
        )
    };
    let json = serde_json::to_string(&whole).unwrap();
    assert_eq!(
        serde_json::from_str::<HttpPolicy>(&json).unwrap(),
        whole,
        "{json}"
    );
}
