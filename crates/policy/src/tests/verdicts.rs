//! What is decided, and the reasons as users read them.

use tulle_model::Identity;

use super::{connection, rule, workload};
use crate::{Action, Cause, Match, Policies, Policy, Rule, Scope, StringMatch, Verdict};

fn from(principal: &str) -> Match {
    Match {
        principals: vec![StringMatch::Exact(principal.into())],
        ..Match::default()
    }
}

fn policy(key: &str, scope: Scope, action: Action, rules: Vec<Rule>) -> Policy {
    let (namespace, name) = key.split_once('/').unwrap();
    Policy {
        rules,
        ..Policy::new(namespace, name, scope, action)
    }
}

fn table(policies: impl IntoIterator<Item = Policy>) -> Policies {
    let mut table = Policies::default();
    policies.into_iter().for_each(|policy| table.insert(policy));
    table
}

fn sleep() -> Identity {
    Identity::new("cluster.local", "default", "sleep")
}

const SLEEP: &str = "cluster.local/ns/default/sa/sleep";

#[test]
fn no_policy_allows() {
    let verdict = Policies::default().evaluate(&workload("ns", &[]), &connection(None));
    assert_eq!(
        verdict.to_string(),
        "allowed: no allow policy concerns the destination"
    );
    assert!(verdict.is_allowed());
}

#[test]
fn reasons_name_policy_and_rule() {
    let everything = || vec![Rule::default()];
    let table = table([
        policy(
            "ns/allow",
            Scope::Workload,
            Action::Allow,
            vec![rule(vec![from("x")]), rule(vec![from(SLEEP)])],
        ),
        policy("ns/other", Scope::Namespace, Action::Allow, vec![]),
        policy(
            "elsewhere/deny",
            Scope::Namespace,
            Action::Deny,
            everything(),
        ),
    ]);
    let workload = workload("ns", &["ns/allow"]);
    let id = sleep();
    let verdict = table.evaluate(&workload, &connection(Some(&id)));
    assert_eq!(verdict.to_string(), "allowed by policy ns/allow rule 1");
    let verdict = table.evaluate(&workload, &connection(None));
    assert_eq!(
        verdict.to_string(),
        "no allow policy of ns/other, ns/allow matched"
    );

    let mut table = table;
    table.insert(policy(
        "root/deny",
        Scope::Global,
        Action::Deny,
        vec![rule(vec![from("y")]), rule(vec![from(SLEEP)])],
    ));
    let verdict = table.evaluate(&workload, &connection(Some(&id)));
    assert_eq!(
        verdict.to_string(),
        "denied by policy root/deny rule 1",
        "DENY wins over ALLOW"
    );
}

#[test]
fn many_policies_are_counted() {
    let names: Vec<String> = (0..12).map(|i| format!("ns/p{i:02}")).collect();
    let table = table(
        names
            .iter()
            .map(|name| policy(name, Scope::Namespace, Action::Allow, vec![])),
    );
    let verdict = table.evaluate(&workload("ns", &[]), &connection(None));
    let text = verdict.to_string();
    assert!(text.ends_with("ns/p07 and 4 more matched"), "{text}");
}

#[test]
fn a_named_policy_that_is_not_there_refuses() {
    let mut table = table([policy(
        "ns/allow",
        Scope::Workload,
        Action::Allow,
        vec![Rule::default()],
    )]);
    let workload = workload("ns", &["ns/allow", "ns/late"]);
    let verdict = table.evaluate(&workload, &connection(None));
    assert_eq!(verdict.to_string(), "policy ns/late is not known yet");
    table.insert(policy("ns/late", Scope::Workload, Action::Deny, vec![]));
    assert!(table.evaluate(&workload, &connection(None)).is_allowed());
    assert!(table.remove("ns/late"));
    assert!(!table.evaluate(&workload, &connection(None)).is_allowed());
}

#[test]
fn a_policy_of_workload_scope_concerns_only_who_names_it() {
    let table = table([policy(
        "ns/deny",
        Scope::Workload,
        Action::Deny,
        vec![Rule::default()],
    )]);
    assert!(
        table
            .evaluate(&workload("ns", &[]), &connection(None))
            .is_allowed()
    );
    assert!(
        !table
            .evaluate(&workload("ns", &["ns/deny"]), &connection(None))
            .is_allowed()
    );
}

#[test]
fn what_cannot_be_evaluated_fails_closed() {
    let broken = |action, dry_run| Policy {
        unenforceable: Some("field 9".into()),
        dry_run,
        ..policy("ns/p", Scope::Namespace, action, vec![Rule::default()])
    };
    let id = sleep();
    let evaluate = |policies: Vec<Policy>| {
        table(policies).evaluate(&workload("ns", &[]), &connection(Some(&id)))
    };
    let verdict = evaluate(vec![broken(Action::Allow, false)]);
    assert_eq!(
        verdict.to_string(),
        "no allow policy of ns/p matched",
        "matches nothing"
    );
    let verdict = evaluate(vec![broken(Action::Deny, false)]);
    assert_eq!(
        verdict.to_string(),
        "denied by policy ns/p, which cannot be evaluated: field 9"
    );
    let allow = policy(
        "ns/allow",
        Scope::Namespace,
        Action::Allow,
        vec![Rule::default()],
    );
    assert!(evaluate(vec![broken(Action::Allow, false), allow]).is_allowed());
    let verdict = evaluate(vec![broken(Action::Deny, true)]);
    assert!(verdict.is_allowed(), "dry-run is never enforced");
    assert_eq!(
        verdict.dry_run()[0].to_string(),
        "would be denied by dry-run policy ns/p, which cannot be evaluated"
    );
}

#[test]
fn dry_run_is_reported_and_not_enforced() {
    let dry = |key, action| Policy {
        dry_run: true,
        ..policy(key, Scope::Namespace, action, vec![Rule::default()])
    };
    let table = table([dry("ns/a", Action::Allow), dry("ns/d", Action::Deny)]);
    let verdict = table.evaluate(&workload("ns", &[]), &connection(None));
    let Verdict::Allowed(allowed) = &verdict else {
        panic!("{verdict}")
    };
    assert_eq!(
        allowed.policy, None,
        "a dry-run ALLOW policy is no ALLOW policy"
    );
    let hits: Vec<String> = verdict.dry_run().iter().map(ToString::to_string).collect();
    assert_eq!(
        hits,
        [
            "would be denied by dry-run policy ns/d rule 0",
            "would be allowed by dry-run policy ns/a rule 0",
        ]
    );
}

#[test]
fn replacing_a_policy_moves_it_between_scopes() {
    let mut table = table([policy(
        "ns/p",
        Scope::Global,
        Action::Deny,
        vec![Rule::default()],
    )]);
    assert!(
        !table
            .evaluate(&workload("other", &[]), &connection(None))
            .is_allowed()
    );
    table.insert(policy(
        "ns/p",
        Scope::Namespace,
        Action::Deny,
        vec![Rule::default()],
    ));
    assert!(
        table
            .evaluate(&workload("other", &[]), &connection(None))
            .is_allowed()
    );
    assert!(
        !table
            .evaluate(&workload("ns", &[]), &connection(None))
            .is_allowed()
    );
    table.insert(policy(
        "ns/p",
        Scope::Workload,
        Action::Deny,
        vec![Rule::default()],
    ));
    assert!(
        table
            .evaluate(&workload("ns", &[]), &connection(None))
            .is_allowed()
    );
    assert_eq!(table.len(), 1);
    assert!(table.remove("ns/p") && table.is_empty() && !table.remove("ns/p"));
}

#[test]
fn mapped_addresses_are_ipv4() {
    let net = |text: &str| Match {
        source_ips: vec![text.parse().unwrap()],
        ..Match::default()
    };
    let table = table([policy(
        "ns/d",
        Scope::Namespace,
        Action::Deny,
        vec![rule(vec![net("10.0.0.0/24")])],
    )]);
    let mut connection = connection(None);
    connection.source_ip = "::ffff:10.0.0.9".parse().unwrap();
    let verdict = table.evaluate(&workload("ns", &[]), &connection);
    assert!(
        !verdict.is_allowed(),
        "a dual-stack socket must not hide the address"
    );
    let Verdict::Denied(reason) = verdict else {
        panic!()
    };
    assert_eq!(
        reason.cause,
        Cause::Rule {
            policy: "ns/d".into(),
            rule: 0
        }
    );
    assert_eq!(reason.cause.policy().map(|p| &**p), Some("ns/d"));
}

#[test]
fn the_config_dump_has_upstreams_shape() {
    let m = Match {
        principals: vec![StringMatch::Presence, StringMatch::Prefix("a".into())],
        destination_ports: vec![80],
        ..Match::default()
    };
    let policy = policy("ns/p", Scope::Workload, Action::Deny, vec![rule(vec![m])]);
    let json = serde_json::to_value(&policy).unwrap();
    let expected = serde_json::json!({
        "name": "p", "namespace": "ns", "scope": "WorkloadSelector", "action": "Deny", "dryRun": false,
        "rules": [[[{"principals": [{"Presence": []}, {"Prefix": "a"}], "destinationPorts": [80]}]]],
    });
    assert_eq!(json, expected);
}
