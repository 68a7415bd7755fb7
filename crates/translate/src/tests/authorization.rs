//! AuthorizationPolicy: what reaches node proxies, and what its owner is told.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tulle_model::{Identity, Interner};
use tulle_policy::{Connection, Policies, Scope};

use super::from;
use crate::{AuthorizationFacts, authorization_policy};

fn translate(spec: Value) -> AuthorizationFacts {
    annotated(spec, json!({}))
}

fn annotated(spec: Value, annotations: Value) -> AuthorizationFacts {
    let resource = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "default", "generation": 3, "annotations": annotations},
        "spec": spec,
    });
    authorization_policy(&from(resource), &mut Interner::default())
}

/// Whether `source` may reach port 80 of a workload that the policy selects.
fn allowed(facts: &AuthorizationFacts, source: Option<&str>) -> bool {
    let mut policies = Policies::default();
    let policy = facts.policy.clone().unwrap();
    let mut workload = crate::tests::pod::workload();
    workload.policies = vec![policy.key().into()];
    policies.insert(policy);
    let identity: Option<Identity> = source.map(|text| text.parse().unwrap());
    let connection = Connection {
        source: identity.as_ref(),
        source_ip: [10, 0, 0, 9].into(),
        destination: SocketAddr::from(([10, 0, 0, 1], 80)),
    };
    policies.evaluate(&workload, &connection).is_allowed()
}

const SLEEP: Option<&str> = Some("spiffe://cluster.local/ns/default/sa/sleep");
const NOTSLEEP: Option<&str> = Some("spiffe://cluster.local/ns/default/sa/notsleep");

fn told(facts: &AuthorizationFacts) -> (&'static str, bool, &'static str) {
    let [condition] = &facts.conditions[..] else {
        panic!("{:?}", facts.conditions)
    };
    assert_eq!(condition.observed_generation, Some(3));
    (condition.kind, condition.status, condition.reason)
}

const ACCEPTED: (&str, bool, &str) = ("ZtunnelAccepted", true, "Accepted");
const PARTIAL: (&str, bool, &str) = ("ZtunnelAccepted", true, "PartiallyInvalid");
const INVALID: (&str, bool, &str) = ("ZtunnelAccepted", false, "Invalid");

fn from_principal(principal: &str) -> Value {
    json!([{"source": {"principals": [principal]}}])
}

#[test]
fn allow_by_principal() {
    let facts = translate(json!({
        "selector": {"matchLabels": {"app": "productpage"}},
        "action": "ALLOW",
        "rules": [{"from": from_principal("cluster.local/ns/default/sa/sleep")}],
    }));
    assert_eq!(told(&facts), ACCEPTED);
    assert_eq!(facts.policy.as_ref().unwrap().scope, Scope::Workload);
    assert_eq!(&**facts.selector.get("app").unwrap(), "productpage");
    assert!(allowed(&facts, SLEEP));
    assert!(!allowed(&facts, NOTSLEEP));
    assert!(!allowed(&facts, None));
}

#[test]
fn nothing_and_everything() {
    let nothing = translate(json!({"selector": {"matchLabels": {"a": "b"}}}));
    assert!(
        !allowed(&nothing, SLEEP),
        "ALLOW without rules allows nothing"
    );
    let everything = translate(json!({"selector": {"matchLabels": {"a": "b"}}, "rules": [{}]}));
    assert!(
        allowed(&everything, None),
        "an empty rule matches everything"
    );
    let denied = translate(
        json!({"selector": {"matchLabels": {"a": "b"}}, "action": "DENY", "rules": [{}]}),
    );
    assert!(!allowed(&denied, SLEEP));
    let namespace = translate(json!({"selector": {"matchLabels": {}}}));
    assert_eq!(
        namespace.policy.unwrap().scope,
        Scope::Namespace,
        "an empty selector selects all"
    );
}

#[test]
fn http_in_allow_leaves_the_rule_out() {
    let facts = translate(json!({
        "selector": {"matchLabels": {"a": "b"}},
        "rules": [
            {"from": from_principal("*/sa/sleep"), "to": [{"operation": {"paths": ["/x"]}}]},
            {"from": from_principal("*/sa/notsleep")},
        ],
    }));
    assert_eq!(told(&facts), PARTIAL);
    assert!(
        facts.conditions[0].message.contains("paths"),
        "{}",
        facts.conditions[0].message
    );
    assert!(!allowed(&facts, SLEEP));
    assert!(allowed(&facts, NOTSLEEP));
}

#[test]
fn http_in_deny_denies_more_never_less() {
    // Istio would switch these off: a clause with nothing but HTTP in it.
    for http in [
        json!({"to": [{"operation": {"paths": ["/admin"]}}]}),
        json!({"to": [{"operation": {"methods": ["GET"]}}, {"operation": {"ports": ["81"]}}]}),
        json!({"when": [{"key": "request.headers[x]", "values": ["y"]}]}),
    ] {
        let mut rule = http.clone();
        rule["from"] = from_principal("*/sa/sleep");
        let facts = translate(json!({
            "selector": {"matchLabels": {"a": "b"}}, "action": "DENY", "rules": [rule],
        }));
        assert_eq!(told(&facts), PARTIAL);
        assert!(!allowed(&facts, SLEEP), "{http}");
        assert!(allowed(&facts, NOTSLEEP), "{http}");
        let alone = translate(json!({
            "selector": {"matchLabels": {"a": "b"}}, "action": "DENY", "rules": [http],
        }));
        assert!(!allowed(&alone, NOTSLEEP), "{http}");
    }
    // HTTP beside a port in one operation: the port is kept.
    let mixed = translate(json!({
        "selector": {"matchLabels": {"a": "b"}},
        "action": "DENY",
        "rules": [{"to": [{"operation": {"paths": ["/admin"], "ports": ["81"]}}]}],
    }));
    assert!(allowed(&mixed, SLEEP), "port 80 is not meant");
}

#[test]
fn what_cannot_be_read_fails_closed() {
    for (field, bad) in [
        ("ipBlocks", "10.0.0.300"),
        ("notIpBlocks", "10.0.0.0/33"),
        ("namespaces", ""),
        ("serviceAccounts", "a/b/c"),
        ("notTrustDomains", "*suffix"),
    ] {
        for (action, expected) in [("ALLOW", false), ("DENY", false)] {
            let facts = translate(json!({
                "selector": {"matchLabels": {"a": "b"}},
                "action": action,
                "rules": [{"from": [{"source": {field: [bad]}}]}, {}],
            }));
            assert_eq!(told(&facts), INVALID, "{field}");
            assert_eq!(allowed(&facts, SLEEP), expected, "{action} {field}");
            let message = &facts.conditions[0].message;
            assert!(
                message.contains(field) && message.contains("rules[0]"),
                "{message}"
            );
        }
    }
    for port in ["http", "0", "65536", "-1", ""] {
        let facts = translate(json!({"rules": [{"to": [{"operation": {"notPorts": [port]}}]}]}));
        assert_eq!(told(&facts), INVALID, "{port}");
    }
}

#[test]
fn unknown_fields_fail_closed_wherever_they_are() {
    for spec in [
        json!({"newField": 1, "rules": [{}]}),
        json!({"rules": [{"newField": 1}]}),
        json!({"rules": [{"from": [{"newField": 1, "source": {"namespaces": ["default"]}}]}]}),
        json!({"rules": [{"from": [{"source": {"newField": 1, "namespaces": ["default"]}}]}]}),
        json!({"rules": [{"to": [{"operation": {"newField": 1, "ports": ["80"]}}]}]}),
        json!({"rules": [{"when": [{"key": "destination.port", "values": ["80"], "newField": 1}]}]}),
    ] {
        for action in ["ALLOW", "DENY"] {
            let mut spec = spec.clone();
            spec["action"] = json!(action);
            spec["selector"] = json!({"matchLabels": {"a": "b"}});
            let facts = translate(spec.clone());
            assert_eq!(told(&facts), INVALID, "{spec}");
            assert!(facts.conditions[0].message.contains("newField"));
            assert!(!allowed(&facts, SLEEP), "{spec}");
        }
    }
    let facts = translate(json!({"action": "SHADOW", "selector": {"matchLabels": {"a": "b"}}}));
    assert_eq!(told(&facts), INVALID);
    assert!(!allowed(&facts, SLEEP));
}

#[test]
fn not_for_node_proxies() {
    for action in ["CUSTOM", "AUDIT"] {
        let facts = translate(json!({"action": action, "rules": [{}]}));
        assert_eq!(facts.policy, None);
        assert_eq!(told(&facts), ("ZtunnelAccepted", false, "UnsupportedValue"));
    }
    for refs in [
        json!({"targetRefs": [{"kind": "Service", "name": "x"}]}),
        json!({"targetRef": {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "w"}}),
    ] {
        let facts = translate(refs);
        assert_eq!(facts.policy, None);
        assert!(facts.conditions.is_empty(), "waypoints tell of it");
    }
}

#[test]
fn conditions_on_connections() {
    let facts = translate(json!({
        "selector": {"matchLabels": {"a": "b"}},
        "rules": [{"when": [
            {"key": "source.ip", "values": ["10.0.0.0/8", "::ffff:192.0.2.0/120"], "notValues": ["10.1.0.0/16"]},
            {"key": "source.namespace", "values": ["default"]},
            {"key": "source.principal", "values": ["cluster.local/*"]},
            {"key": "destination.port", "values": ["80"], "notValues": ["81"]},
            {"key": "destination.ip", "notValues": ["10.0.0.2"]},
        ]}],
    }));
    assert_eq!(told(&facts), ACCEPTED);
    assert!(allowed(&facts, SLEEP));
    assert!(!allowed(&facts, None));
    let nets = &facts.policy.unwrap().rules[0].clauses[0].matches[0].source_ips;
    assert_eq!(
        nets[1].to_string(),
        "192.0.2.0/24",
        "IPv4 in IPv6 form is IPv4"
    );
}

#[test]
fn accounts_and_trust_domains() {
    let source = |source: Value| {
        translate(
            json!({"selector": {"matchLabels": {"a": "b"}}, "rules": [{"from": [{"source": source}]}]}),
        )
    };
    assert!(allowed(
        &source(json!({"serviceAccounts": ["sleep"]})),
        SLEEP
    ));
    assert!(allowed(
        &source(json!({"serviceAccounts": ["default/sleep"]})),
        SLEEP
    ));
    assert!(!allowed(
        &source(json!({"serviceAccounts": ["other/sleep"]})),
        SLEEP
    ));
    assert!(allowed(
        &source(json!({"trustDomains": ["cluster.local"]})),
        SLEEP
    ));
    assert!(!allowed(
        &source(json!({"trustDomains": ["cluster"]})),
        SLEEP
    ));
    assert!(allowed(
        &source(json!({"trustDomains": ["cluster*"]})),
        SLEEP
    ));
    assert!(!allowed(
        &source(json!({"notTrustDomains": ["cluster.local"]})),
        SLEEP
    ));
    let both = source(json!({"trustDomains": ["cluster.local"], "principals": ["*/sa/sleep"]}));
    assert_eq!(told(&both), PARTIAL);
    assert!(!allowed(&both, SLEEP), "cannot be checked, so not allowed");
}

#[test]
fn dry_run_is_what_go_reads_as_true() {
    let dry = |text: &str| {
        let facts = annotated(json!({}), json!({"istio.io/dry-run": text}));
        facts.policy.unwrap().dry_run
    };
    assert!(dry("true") && dry("1") && dry("T"));
    assert!(
        !dry("false") && !dry("yes") && !dry(""),
        "what cannot be read is enforced"
    );
}
