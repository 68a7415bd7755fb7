//! The evaluator against a naive one that says what Istio's documentation says.

use proptest::prelude::*;
use tulle_model::Identity;

use super::{Asked, claims, names, service, waypoint};
use crate::Target;
use crate::http::{
    Action, Clause, Custom, HttpPolicies, HttpPolicy, Match, NetAttribute, PathMatch, Rule, Test,
    TextAttribute, TextMatch,
};

const TEXTS: [&str; 14] = [
    "GET",
    "POST",
    "td/ns/a/sa/b",
    "a",
    "td",
    "host:80",
    "HOST:80",
    "host",
    "me/you",
    "g1",
    "x",
    "/a/b",
    "/a",
    "b",
];

fn text_match() -> impl Strategy<Value = TextMatch> {
    let text = (prop::sample::select(TEXTS.to_vec()), 0..3usize, 0..3usize).prop_map(
        |(text, front, back)| {
            let end = text.len().saturating_sub(back).max(front.min(text.len()));
            text[front.min(text.len())..end].to_owned()
        },
    );
    (text, 0..4).prop_map(|(text, kind)| match kind {
        0 => TextMatch::Exact(text.into()),
        1 => TextMatch::Prefix(text.into()),
        2 => TextMatch::Suffix(text.into()),
        _ => TextMatch::Present,
    })
}

fn few<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(value, 1..3)]
}

fn test() -> impl Strategy<Value = Test> {
    use TextAttribute as A;
    let attribute = prop::sample::select(vec![
        A::Principal,
        A::Namespace,
        A::TrustDomain,
        A::RequestPrincipal,
        A::Audience,
        A::Presenter,
        A::Claim(names(&["groups"])),
        A::Claim(names(&["n", "m"])),
        A::Header("x-a".into()),
        A::Method,
        A::Host,
        A::Sni,
    ]);
    let texts =
        (attribute, few(text_match()), few(text_match())).prop_map(|(attribute, values, not)| {
            Test::Text {
                attribute,
                values,
                not,
            }
        });
    let path = || {
        prop_oneof![
            text_match().prop_map(PathMatch::Text),
            prop::sample::select(vec!["/a/{*}", "/{**}", "/{*}", "/a/{**}/b"])
                .prop_map(|t| PathMatch::Template(t.into())),
        ]
    };
    let paths = (few(path()), few(path())).prop_map(|(values, not)| Test::Path { values, not });
    let net = || {
        prop::sample::select(vec!["10.0.0.9/32", "203.0.113.0/24", "10.0.0.0/30", "::/0"])
            .prop_map(|n| n.parse().unwrap())
    };
    let of = prop::sample::select(vec![
        NetAttribute::Source,
        NetAttribute::Remote,
        NetAttribute::Destination,
    ]);
    let nets = (of, few(net()), few(net())).prop_map(|(attribute, values, not)| Test::Net {
        attribute,
        values,
        not,
    });
    let port = || prop::sample::select(vec![80u16, 81]);
    let ports = (few(port()), few(port())).prop_map(|(values, not)| Test::Port { values, not });
    prop_oneof![6 => texts, 2 => paths, 1 => nets, 1 => ports]
}

fn target() -> impl Strategy<Value = Target> {
    prop::sample::select(vec![
        waypoint(),
        service("reviews"),
        service("ratings"),
        Target::Waypoints,
    ])
}

fn policy() -> impl Strategy<Value = HttpPolicy> {
    let all = prop::collection::vec(test(), 0..3).prop_map(|all| Match { all });
    let clause = prop::collection::vec(all, 0..3).prop_map(|any| Clause { any });
    let rules = prop::collection::vec(
        prop::collection::vec(clause, 0..3).prop_map(|clauses| Rule { clauses }),
        0..3,
    );
    let custom = |provider: &'static str| Action::Custom {
        provider: provider.into(),
    };
    let action = prop::sample::select(vec![
        Action::Allow,
        Action::Deny,
        Action::Audit,
        custom("p"),
        custom("q"),
    ]);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (
        0..5,
        prop::collection::vec(target(), 1..3),
        action,
        rules,
        flags,
    )
        .prop_map(
            |(name, targets, action, rules, (dry_run, broken))| HttpPolicy {
                name: format!("ns/{name}").into(),
                targets,
                action,
                dry_run,
                rules,
                unenforceable: broken.then(|| "?".into()),
            },
        )
}

/// The values of an attribute, as texts.
fn values(attribute: &TextAttribute, a: &Asked<'_>) -> Vec<String> {
    use TextAttribute as A;
    let claim = |path: &[&str]| -> Vec<String> {
        let Some(value) = a.claims.as_ref().and_then(|claims| claims.get(path)) else {
            return Vec::new();
        };
        match value {
            serde_json::Value::String(text) => vec![text.clone()],
            serde_json::Value::Array(list) => list
                .iter()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        }
    };
    let of =
        |part: fn(&Identity) -> String| a.source.as_ref().map(part).into_iter().collect::<Vec<_>>();
    match attribute {
        A::Principal => of(Identity::principal),
        A::Namespace => of(|i| i.namespace.to_string()),
        A::TrustDomain => of(|i| i.trust_domain.to_string()),
        A::RequestPrincipal => match (claim(&["iss"]).first(), claim(&["sub"]).first()) {
            (Some(iss), Some(sub)) => vec![format!("{iss}/{sub}")],
            _ => Vec::new(),
        },
        A::Audience => claim(&["aud"]),
        A::Presenter => claim(&["azp"]),
        A::Claim(path) => claim(&path.iter().map(|step| &**step).collect::<Vec<_>>()),
        A::Header(name) => {
            let lines: Vec<&str> = a
                .headers
                .iter()
                .filter(|(n, _)| *n == &**name)
                .map(|(_, v)| *v)
                .collect();
            if lines.is_empty() {
                Vec::new()
            } else {
                vec![lines.join(",")]
            }
        }
        A::Method => vec![a.method.to_owned()],
        A::Host => vec![a.authority.to_lowercase()],
        A::Sni => a.sni.map(str::to_owned).into_iter().collect(),
    }
}

fn fits(text: &TextMatch, value: &str, lower: bool) -> bool {
    let case = |t: &str| {
        if lower {
            t.to_lowercase()
        } else {
            t.to_owned()
        }
    };
    match text {
        TextMatch::Exact(t) => value == case(t),
        TextMatch::Prefix(t) => value.starts_with(&case(t)),
        TextMatch::Suffix(t) => value.ends_with(&case(t)),
        TextMatch::Present => !value.is_empty(),
    }
}

fn test_holds(test: &Test, a: &Asked<'_>) -> bool {
    match test {
        Test::Text {
            attribute,
            values: wanted,
            not,
        } => {
            let values = values(attribute, a);
            let lower = *attribute == TextAttribute::Host;
            let header = matches!(attribute, TextAttribute::Header(_));
            let any = |texts: &[TextMatch]| {
                texts.iter().any(|text| {
                    values
                        .iter()
                        .any(|v| (header && *text == TextMatch::Present) || fits(text, v, lower))
                })
            };
            (wanted.is_empty() || any(wanted)) && !any(not)
        }
        Test::Path { values, not } => {
            let fit = |path: &PathMatch| match path {
                PathMatch::Text(text) => fits(text, a.path, false),
                PathMatch::Template(template) => template_fits(template, a.path),
            };
            (values.is_empty() || values.iter().any(fit)) && !not.iter().any(fit)
        }
        Test::Net {
            attribute,
            values,
            not,
        } => {
            let address: std::net::IpAddr = match attribute {
                NetAttribute::Source => [10, 0, 0, 9].into(),
                NetAttribute::Remote => a.remote,
                NetAttribute::Destination => [10, 0, 0, 1].into(),
            };
            (values.is_empty() || values.iter().any(|n| n.contains(&address)))
                && !not.iter().any(|n| n.contains(&address))
        }
        Test::Port { values, not } => {
            (values.is_empty() || values.contains(&a.port)) && !not.contains(&a.port)
        }
        Test::ServiceAccount { .. } => unreachable!("not made here"),
    }
}

/// The four templates above, each in its own words.
fn template_fits(template: &str, path: &str) -> bool {
    let elements: Vec<&str> = path.split('/').skip(1).collect();
    match template {
        "/a/{*}" => matches!(elements[..], ["a", one] if !one.is_empty()),
        "/{*}" => matches!(elements[..], [one] if !one.is_empty()),
        "/{**}" => path.starts_with('/'),
        "/a/{**}/b" => {
            elements.len() >= 3 && elements[0] == "a" && elements[elements.len() - 1] == "b"
        }
        _ => unreachable!(),
    }
}

fn hits(policy: &HttpPolicy, a: &Asked<'_>) -> bool {
    let clause = |clause: &Clause| {
        clause
            .any
            .iter()
            .any(|m| m.all.iter().all(|test| test_holds(test, a)))
    };
    policy
        .rules
        .iter()
        .any(|rule| rule.clauses.iter().all(clause))
}

fn asked() -> impl Strategy<Value = Asked<'static>> {
    let token = prop::sample::select(vec![
        None,
        Some(r#"{"iss":"me","sub":"you","aud":"x","groups":["g1","b"],"n":{"m":"a"}}"#),
        Some(r#"{"iss":"me","azp":"b","aud":["x","td"],"groups":"g1"}"#),
    ]);
    let source = prop::option::weighted(
        0.8,
        prop::sample::select(vec![("td", "a", "b"), ("t", "x", "bb")]),
    );
    let first = (
        source,
        prop::sample::select(vec!["GET", "POST"]),
        prop::sample::select(vec!["host:80", "Host", "x"]),
    );
    let second = (
        prop::sample::select(vec!["/a/b", "/", "/a", "/a/", "/a//b"]),
        token,
        prop::sample::select(vec![80u16, 81, 82]),
    );
    let headers = prop::sample::select(vec![
        vec![],
        vec![("x-a", "")],
        vec![("x-a", "a"), ("x-a", "b")],
        vec![("x-b", "g1")],
    ]);
    let sni = prop::sample::select(vec![None, Some("host"), Some("x")]);
    let remote = prop::sample::select(vec![[203, 0, 113, 7], [10, 0, 0, 9]]);
    (first, second, headers, sni, remote).prop_map(
        |((source, method, authority), (path, token, port), headers, sni, remote)| Asked {
            source: source.map(|(t, n, s)| Identity::new(t, n, s)),
            method,
            authority,
            path,
            headers,
            claims: token.map(claims),
            port,
            sni,
            remote: remote.into(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn evaluates_as_the_naive_one(
        policies in prop::collection::vec(policy(), 0..6),
        targets in prop::collection::vec(target(), 1..4),
        asked in asked(),
    ) {
        let mut table = HttpPolicies::default();
        let mut list: Vec<HttpPolicy> = Vec::new();
        for policy in policies {
            list.retain(|p| p.name != policy.name);
            list.push(policy.clone());
            table.insert(policy);
        }
        let concerns = |p: &&HttpPolicy| !p.dry_run && p.targets.iter().any(|t| targets.contains(t));
        let enforced: Vec<&HttpPolicy> = list.iter().filter(concerns).collect();
        let of = |action: fn(&Action) -> bool| enforced.iter().copied().filter(move |p| action(&p.action)).collect::<Vec<_>>();
        let refuses = |p: &&HttpPolicy| p.unenforceable.is_some() || hits(p, &asked);
        let allows = of(|a| *a == Action::Allow);
        let denied = of(|a| *a == Action::Deny).iter().any(refuses);
        let allowed = allows.is_empty() || allows.iter().any(|p| p.unenforceable.is_none() && hits(p, &asked));
        let decision = asked.with(|request| table.decide(&targets, request));
        prop_assert_eq!(decision.is_allowed(), !denied && allowed, "{}", decision.outcome);

        let customs = of(|a| matches!(a, Action::Custom { .. }));
        match asked.with(|request| table.custom(&targets, request)) {
            Custom::Refused(_) => prop_assert!(customs.iter().any(|p| p.unenforceable.is_some())),
            Custom::Ask(asks) => {
                prop_assert!(customs.iter().all(|p| p.unenforceable.is_none()));
                for provider in ["p", "q"] {
                    let named = |p: &&&HttpPolicy| p.action == Action::Custom { provider: provider.into() };
                    let wanted = customs.iter().filter(named).any(|p| hits(p, &asked));
                    prop_assert_eq!(asks.iter().filter(|ask| &*ask.provider == provider).count(), usize::from(wanted));
                }
            }
        }
        let noted = list.iter().filter(|p| p.targets.iter().any(|t| targets.contains(t)));
        let (tried, others): (Vec<&HttpPolicy>, Vec<_>) = noted
            .filter(|p| p.dry_run || p.action == Action::Audit)
            .partition(|p| p.action == Action::Allow);
        let others = others.into_iter().filter(|p| p.unenforceable.is_some() || hits(p, &asked)).count();
        // Of dry-run ALLOW policies one that matches stands for all.
        let matched = tried.iter().any(|p| p.unenforceable.is_none() && hits(p, &asked));
        let tried = if matched { 1 } else { tried.len() };
        prop_assert_eq!(decision.notes.len(), others + tried);

        for policy in &list {
            prop_assert!(table.remove(&policy.name));
        }
        prop_assert!(table.is_empty());
        prop_assert!(asked.with(|request| table.decide(&targets, request)).is_allowed());
    }
}
