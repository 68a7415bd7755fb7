//! Policies there and back, and what fails closed.

use std::net::SocketAddr;

use proptest::prelude::*;
use prost::Message;
use tulle_model::Identity;
use tulle_policy::{
    Action, Clause, Connection, Match, Policies, Policy, Rule, Scope, ServiceAccountMatch,
    StringMatch,
};

use crate::security as wire;
use crate::workload::Extension;
use crate::{decode_authorization, encode_policy};

fn string_match() -> impl Strategy<Value = StringMatch> {
    ("[a-z*/]{0,6}", 0..4).prop_map(|(text, kind)| match kind {
        0 => StringMatch::Exact(text.into()),
        1 => StringMatch::Prefix(text.into()),
        2 => StringMatch::Suffix(text.into()),
        _ => StringMatch::Presence,
    })
}

fn matched() -> impl Strategy<Value = Match> {
    let texts = || prop::collection::vec(string_match(), 0..2);
    let net = (any::<std::net::IpAddr>(), 0u8..=32)
        .prop_map(|(ip, length)| ipnet::IpNet::new(ip, length).unwrap());
    let nets = || prop::collection::vec(net.clone(), 0..2);
    let ports = || prop::collection::vec(any::<u16>(), 0..2);
    let account = ("[a-z]{1,3}", "[a-z]{1,3}").prop_map(|(n, s)| ServiceAccountMatch {
        namespace: n.into(),
        service_account: s.into(),
    });
    let accounts = || prop::collection::vec(account.clone(), 0..2);
    let first = (texts(), texts(), texts(), texts(), nets(), nets());
    let second = (nets(), nets(), ports(), ports(), accounts(), accounts());
    (first, second).prop_map(|(a, b)| Match {
        namespaces: a.0,
        not_namespaces: a.1,
        principals: a.2,
        not_principals: a.3,
        source_ips: a.4,
        not_source_ips: a.5,
        destination_ips: b.0,
        not_destination_ips: b.1,
        destination_ports: b.2,
        not_destination_ports: b.3,
        service_accounts: b.4,
        not_service_accounts: b.5,
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let clause = prop::collection::vec(matched(), 0..3).prop_map(|matches| Clause { matches });
    let rule = prop::collection::vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    let scope = prop::sample::select(vec![Scope::Global, Scope::Namespace, Scope::Workload]);
    let action = prop::sample::select(vec![Action::Allow, Action::Deny]);
    (
        scope,
        action,
        prop::collection::vec(rule, 0..3),
        any::<bool>(),
    )
        .prop_map(|(scope, action, rules, dry_run)| Policy {
            rules,
            dry_run,
            ..Policy::new("ns", "p", scope, action)
        })
}

proptest! {
    #[test]
    fn policies_survive_the_wire(policy in policy()) {
        prop_assert_eq!(decode_authorization(&encode_policy(&policy)).unwrap(), policy);
    }

    #[test]
    fn rubbish_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_authorization(&bytes);
    }

    /// An unknown field at any depth, before or after the known ones, is found.
    #[test]
    fn no_unknown_field_is_overlooked(depth in 0..5usize, first in any::<bool>(), number in 14u32..1000) {
        let mut inner = Vec::new();
        prost::encoding::string::encode(number, &"x".to_owned(), &mut inner);
        // Authorization.rules, Rule.clauses, Clause.matches, Match.principals
        for field in [5u32, 1, 2, 3].into_iter().take(depth).rev() {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(field, &inner, &mut outer);
            inner = outer;
        }
        let known = encode_policy(&Policy::new("ns", "p", Scope::Namespace, Action::Allow));
        let bytes = if first { [&inner[..], &known].concat() } else { [&known[..], &inner].concat() };
        let policy = decode_authorization(&bytes).unwrap();
        let why = policy.unenforceable.expect("found");
        prop_assert!(why.contains(&number.to_string()), "{}", why);
    }
}

fn least() -> wire::Authorization {
    wire::Authorization {
        name: "p".into(),
        namespace: "ns".into(),
        scope: wire::Scope::Namespace.into(),
        ..Default::default()
    }
}

/// A policy of one match that everything fits.
fn with(change: impl FnOnce(&mut wire::Match)) -> wire::Authorization {
    let mut m = wire::Match {
        destination_ports: vec![80],
        ..Default::default()
    };
    change(&mut m);
    let rules = vec![wire::Rule {
        clauses: vec![wire::Clause { matches: vec![m] }],
    }];
    wire::Authorization { rules, ..least() }
}

/// Whether a connection to port 80 passes, and what the decoder says.
fn passes(message: &wire::Authorization, workload_namespace: &str) -> bool {
    let policy = decode_authorization(&message.encode_to_vec()).unwrap();
    assert!(policy.unenforceable.is_some(), "{message:?}");
    let mut policies = Policies::default();
    policies.insert(policy);
    let wire = crate::workload::Workload {
        uid: "u".into(),
        namespace: workload_namespace.into(),
        ..Default::default()
    };
    let workload = wire.try_into().unwrap();
    let identity = Identity::new("td", "a", "b");
    let connection = Connection {
        source: Some(&identity),
        source_ip: [10, 0, 0, 9].into(),
        destination: SocketAddr::from(([10, 0, 0, 1], 80)),
    };
    policies.evaluate(&workload, &connection).is_allowed()
}

#[test]
fn what_is_not_understood_fails_closed() {
    let extension = || {
        vec![Extension {
            name: "x".into(),
            config: None,
        }]
    };
    let address = |address: Vec<u8>, length| vec![wire::Address { address, length }];
    let odd = || vec![wire::StringMatch { match_type: None }];
    let cases = [
        wire::Authorization {
            extensions: extension(),
            ..with(|_| {})
        },
        with(|m| m.extensions = extension()),
        with(|m| m.destination_ports = vec![70_000]),
        with(|m| m.not_destination_ports = vec![70_000]),
        with(|m| m.source_ips = address(vec![1, 2, 3], 8)),
        with(|m| m.not_source_ips = address(vec![10, 0, 0, 0], 33)),
        with(|m| m.not_destination_ips = address(vec![0; 16], 129)),
        with(|m| m.principals = odd()),
        with(|m| m.not_namespaces = odd()),
        with(|m| m.not_service_accounts = vec![wire::ServiceAccountMatch::default()]),
    ];
    for case in cases {
        for action in [wire::Action::Allow, wire::Action::Deny] {
            let message = wire::Authorization {
                action: action.into(),
                ..case.clone()
            };
            assert!(!passes(&message, "ns"), "{message:?}");
            assert!(
                passes(&message, "other"),
                "other namespaces are not concerned"
            );
        }
    }
}

#[test]
fn unknown_action_and_scope_are_taken_for_the_worst() {
    let action = wire::Authorization {
        action: 7,
        ..least()
    };
    assert!(!passes(&action, "ns"));
    let scope = wire::Authorization {
        scope: 7,
        action: wire::Action::Deny.into(),
        ..least()
    };
    assert!(!passes(&scope, "other"), "any workload may be meant");
}

#[test]
fn without_a_name_it_is_an_error() {
    for bad in [
        wire::Authorization {
            name: String::new(),
            ..least()
        },
        wire::Authorization {
            namespace: String::new(),
            ..least()
        },
    ] {
        assert!(decode_authorization(&bad.encode_to_vec()).is_err());
    }
    let error = decode_authorization(&[0xff]).unwrap_err();
    assert!(
        error.to_string().contains("istio.security.Authorization"),
        "{error}"
    );
}

#[test]
fn an_unenforceable_policy_is_sent_as_what_it_does() {
    let broken = |action| Policy {
        unenforceable: Some("?".into()),
        rules: vec![Rule::default(), Rule::default()],
        ..Policy::new("ns", "p", Scope::Namespace, action)
    };
    let sent = |action| decode_authorization(&encode_policy(&broken(action))).unwrap();
    assert_eq!(sent(Action::Allow).rules, []);
    assert_eq!(
        sent(Action::Deny).rules,
        [Rule::default()],
        "one that matches everything"
    );
}
