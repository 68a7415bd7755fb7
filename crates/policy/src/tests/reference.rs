//! The evaluator against a naive one that builds texts and says what Istio's documentation says.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use proptest::prelude::*;
use tulle_model::{Identity, Workload};

use super::workload;
use crate::{
    Action, Clause, Connection, Match, Policies, Policy, Rule, Scope, ServiceAccountMatch,
    StringMatch,
};

/// Texts that share beginnings and ends with the identities below, at every boundary between pieces.
fn text() -> impl Strategy<Value = String> {
    let whole = "td/ns/a/sa/b";
    let cut = (0..=whole.len(), 0..=whole.len())
        .prop_map(move |(from, to)| whole[from.min(to)..from.max(to)].to_owned());
    prop_oneof![
        cut,
        prop::sample::select(vec!["a", "b", "td", "td/ns/a/sa/bb", "ttd/ns/a/sa/b", ""])
            .prop_map(str::to_owned)
    ]
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    (text(), 0..4).prop_map(|(text, kind)| match kind {
        0 => StringMatch::Exact(text.into()),
        1 => StringMatch::Prefix(text.into()),
        2 => StringMatch::Suffix(text.into()),
        _ => StringMatch::Presence,
    })
}

fn few<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(value, 1..3)]
}

fn matched() -> impl Strategy<Value = Match> {
    let net = || {
        prop::sample::select(vec!["10.0.0.0/24", "10.0.0.9/32", "0.0.0.0/0", "fd00::/8"])
            .prop_map(|t| t.parse::<IpNet>().unwrap())
    };
    let account = || {
        prop::sample::select(vec![("a", "b"), ("a", "c")]).prop_map(|(n, s)| ServiceAccountMatch {
            namespace: n.into(),
            service_account: s.into(),
        })
    };
    let port = || prop::sample::select(vec![80u16, 81]);
    let texts = (
        few(string_match()),
        few(string_match()),
        few(string_match()),
        few(string_match()),
    );
    let rest = (
        few(net()),
        few(net()),
        few(net()),
        few(net()),
        few(port()),
        few(port()),
        few(account()),
        few(account()),
    );
    (texts, rest).prop_map(|((a, b, c, d), (e, f, g, h, i, j, k, l))| Match {
        namespaces: a,
        not_namespaces: b,
        principals: c,
        not_principals: d,
        source_ips: e,
        not_source_ips: f,
        destination_ips: g,
        not_destination_ips: h,
        destination_ports: i,
        not_destination_ports: j,
        service_accounts: k,
        not_service_accounts: l,
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let clause = prop::collection::vec(matched(), 0..3).prop_map(|matches| Clause { matches });
    let rule = prop::collection::vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    let rules = prop::collection::vec(rule, 0..3);
    let scope = prop::sample::select(vec![Scope::Global, Scope::Namespace, Scope::Workload]);
    let action = prop::sample::select(vec![Action::Allow, Action::Deny]);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let name = (prop::sample::select(vec!["n", "m"]), 0..4);
    (name, scope, action, rules, flags).prop_map(|(name, scope, action, rules, flags)| {
        let ((namespace, name), (dry_run, broken)): ((&str, i32), (bool, bool)) = (name, flags);
        let unenforceable = broken.then(|| "?".into());
        let policy = Policy::new(namespace, name.to_string(), scope, action);
        Policy {
            rules,
            dry_run,
            unenforceable,
            ..policy
        }
    })
}

/// The naive evaluator.
fn allowed(policies: &[Policy], destination: &Workload, c: &Connection<'_>) -> bool {
    let known = |name: &str| policies.iter().any(|p| p.key() == name);
    if destination.policies.iter().any(|name| !known(name)) {
        return false;
    }
    let concerns = |p: &&Policy| match p.scope {
        Scope::Global => true,
        Scope::Namespace if p.namespace == destination.namespace => true,
        _ => destination.policies.iter().any(|name| **name == p.key()),
    };
    let enforced: Vec<&Policy> = policies
        .iter()
        .filter(concerns)
        .filter(|p| !p.dry_run)
        .collect();
    let of = |action: Action| enforced.iter().filter(move |p| p.action == action);
    let hits = |p: &Policy| p.rules.iter().any(|rule| rule_hits(rule, c));
    if of(Action::Deny).any(|p| p.unenforceable.is_some() || hits(p)) {
        return false;
    }
    of(Action::Allow).count() == 0
        || of(Action::Allow).any(|p| p.unenforceable.is_none() && hits(p))
}

fn rule_hits(rule: &Rule, c: &Connection<'_>) -> bool {
    rule.clauses.iter().all(|clause| {
        let mut matches = clause.matches.iter().filter(|m| **m != Match::default());
        clause.matches.is_empty() || matches.any(|m| match_hits(m, c))
    })
}

fn match_hits(m: &Match, c: &Connection<'_>) -> bool {
    let namespace = c.source.map_or(String::new(), |i| i.namespace.to_string());
    let principal = c
        .source
        .map(|i| i.to_string().strip_prefix("spiffe://").unwrap().to_owned());
    let text = |s: &StringMatch, value: &str| match s {
        StringMatch::Exact(t) => value == &**t,
        StringMatch::Prefix(t) => value.starts_with(&**t),
        StringMatch::Suffix(t) => value.ends_with(&**t),
        StringMatch::Presence => !value.is_empty(),
    };
    let of_principal = |s: &StringMatch| principal.as_ref().is_some_and(|p| text(s, p));
    let account = |a: &ServiceAccountMatch| {
        c.source.is_some_and(|i| {
            (&i.namespace, &i.service_account) == (&a.namespace, &a.service_account)
        })
    };
    let (source, destination, port) = (c.source_ip, c.destination.ip(), c.destination.port());
    let conditions = [
        m.namespaces.is_empty() || m.namespaces.iter().any(|s| text(s, &namespace)),
        !m.not_namespaces.iter().any(|s| text(s, &namespace)),
        m.principals.is_empty() || m.principals.iter().any(of_principal),
        !m.not_principals.iter().any(of_principal),
        m.service_accounts.is_empty() || m.service_accounts.iter().any(account),
        !m.not_service_accounts.iter().any(account),
        m.source_ips.is_empty() || m.source_ips.iter().any(|n| n.contains(&source)),
        !m.not_source_ips.iter().any(|n| n.contains(&source)),
        m.destination_ips.is_empty() || m.destination_ips.iter().any(|n| n.contains(&destination)),
        !m.not_destination_ips
            .iter()
            .any(|n| n.contains(&destination)),
        m.destination_ports.is_empty() || m.destination_ports.contains(&port),
        !m.not_destination_ports.contains(&port),
    ];
    conditions.into_iter().all(|holds| holds)
}

fn source() -> impl Strategy<Value = Option<Identity>> {
    let some = (
        prop::sample::select(vec!["td", "t"]),
        prop::sample::select(vec!["a", "n"]),
        prop::sample::select(vec!["b", "bb"]),
    );
    prop::option::weighted(0.8, some.prop_map(|(t, n, s)| Identity::new(t, n, s)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn evaluates_as_the_naive_one(
        policies in prop::collection::vec(policy(), 0..6),
        named in prop::collection::vec((prop::sample::select(vec!["n", "m"]), 0..4), 0..3),
        missing_too in prop::bool::weighted(0.2),
        source in source(),
        ips in (prop::sample::select(vec!["10.0.0.9", "10.0.1.9", "fd00::9"]), prop::sample::select(vec!["10.0.0.1", "fd00::1"])),
        port in prop::sample::select(vec![80u16, 81, 82]),
    ) {
        // Later policies of one key replace earlier ones.
        let mut table = Policies::default();
        let mut list: Vec<Policy> = Vec::new();
        for policy in policies {
            list.retain(|p| p.key() != policy.key());
            list.push(policy.clone());
            table.insert(policy);
        }
        let names: Vec<String> = named.iter().map(|(ns, name)| format!("{ns}/{name}")).collect();
        let known = |name: &&str| missing_too || list.iter().any(|p| p.key() == **name);
        let names: Vec<&str> = names.iter().map(String::as_str).filter(known).collect();
        let destination = workload("n", &names);
        let connection = Connection {
            source: source.as_ref(),
            source_ip: ips.0.parse::<IpAddr>().unwrap(),
            destination: SocketAddr::new(ips.1.parse().unwrap(), port),
        };
        let verdict = table.evaluate(&destination, &connection);
        prop_assert_eq!(verdict.is_allowed(), allowed(&list, &destination, &connection), "{}", verdict);

        for policy in &list {
            prop_assert!(table.remove(&policy.key()));
        }
        prop_assert!(table.is_empty());
        let empty = table.evaluate(&workload("n", &[]), &connection).is_allowed();
        prop_assert!(empty, "the scope tables are empty too");
    }
}
