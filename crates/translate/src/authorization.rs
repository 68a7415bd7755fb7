//! AuthorizationPolicy to an L4 policy and its conditions. (For waypoints and gateways: `networking::authorization`.)
//!
//! A node proxy sees connections, not requests. What it cannot check fails closed: an ALLOW rule with such a condition
//! is left out, and of a DENY rule only that condition is left out, so that it denies more. (Istio lets a DENY clause
//! that is only L7 switch the whole rule off.) A value that cannot be read refuses the policy as a whole: as ALLOW it
//! then matches nothing, as DENY everything that it selects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::contract::{ANNOTATION_DRY_RUN, CONDITION_ZTUNNEL_ACCEPTED};
use tulle_api::security::{
    self as api, AuthorizationPolicy, AuthorizationPolicySpec, Operation, Source,
};
use tulle_model::Interner;
use tulle_policy::{Action, Clause, Match, Policy, Rule, Scope, ServiceAccountMatch, StringMatch};

use crate::condition::{Condition, reason};
use crate::labels::Labels;
use crate::limits::{PROBLEMS_SHOWN, SHOWN};

/// What an AuthorizationPolicy means to node proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationFacts {
    /// What they enforce; `None` when it is not for them. Its scope is [`Scope::Namespace`] or [`Scope::Workload`]:
    /// whoever knows the root namespace widens the former.
    pub policy: Option<Policy>,
    /// Which workloads name it; empty selects by scope.
    pub selector: Labels,
    /// What its owner is told.
    pub conditions: Vec<Condition>,
}

/// Translates an AuthorizationPolicy.
pub fn authorization_policy(
    resource: &AuthorizationPolicy,
    texts: &mut Interner,
) -> AuthorizationFacts {
    let spec = &resource.spec;
    let generation = resource.metadata.generation;
    let refuse = |kind, reason, message| AuthorizationFacts {
        policy: None,
        selector: Labels::default(),
        conditions: vec![Condition {
            kind,
            status: false,
            reason,
            message,
            observed_generation: generation,
        }],
    };
    // For waypoints and gateways only: `networking::authorization`.
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        return AuthorizationFacts {
            policy: None,
            selector: Labels::default(),
            conditions: Vec::new(),
        };
    }
    if let Some(action @ (api::Action::Audit | api::Action::Custom)) = spec.action {
        let name = if action == api::Action::Audit {
            "AUDIT"
        } else {
            "CUSTOM"
        };
        let message = format!("ztunnel does not support the {name} action");
        return refuse(
            CONDITION_ZTUNNEL_ACCEPTED,
            reason::UNSUPPORTED_VALUE,
            message,
        );
    }
    let mut findings = Findings::default();
    let policy = policy(&resource.metadata, spec, &mut findings);
    let selector = spec.selector.as_ref();
    AuthorizationFacts {
        selector: selector.map_or_else(Labels::default, |s| Labels::new(&s.match_labels, texts)),
        conditions: vec![findings.condition(&policy, generation)],
        policy: Some(policy),
    }
}

/// What stands in the way of enforcing a policy as it was written.
#[derive(Default)]
struct Findings {
    /// Cannot be understood.
    invalid: Vec<String>,
    /// Understood, but not visible at L4.
    http: Vec<String>,
}

impl Findings {
    fn condition(&self, policy: &Policy, generation: Option<i64>) -> Condition {
        let (status, reason, message) = if !self.invalid.is_empty() {
            let effect = match policy.action {
                Action::Allow => "until it is corrected, it allows nothing",
                Action::Deny => {
                    "until it is corrected, it denies every connection to what it selects"
                }
            };
            (
                false,
                reason::INVALID,
                format!("{}; {effect}", listed(&self.invalid)),
            )
        } else if !self.http.is_empty() {
            let effect = match policy.action {
                Action::Allow => "ALLOW rules with them are left out",
                Action::Deny => "DENY rules are enforced without them",
            };
            let message = format!(
                "ztunnel does not support HTTP attributes (found: {}): {effect}, which is more \
                 restrictive than requested",
                listed(&self.http)
            );
            (true, reason::PARTIALLY_INVALID, message)
        } else {
            (true, reason::ACCEPTED, "attached to ztunnel".to_owned())
        };
        let kind = CONDITION_ZTUNNEL_ACCEPTED;
        Condition {
            kind,
            status,
            reason,
            message,
            observed_generation: generation,
        }
    }

    fn unknown(&mut self, path: &str, unknown: &api::Unknown) {
        for name in unknown.keys() {
            self.invalid
                .push(format!("{path}: unknown field {}", shown(name)));
        }
    }
}

fn listed(items: &[String]) -> String {
    let mut text = items
        .iter()
        .take(PROBLEMS_SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > PROBLEMS_SHOWN {
        text += &format!(" and {} more", items.len() - PROBLEMS_SHOWN);
    }
    text
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn policy(meta: &ObjectMeta, spec: &AuthorizationPolicySpec, findings: &mut Findings) -> Policy {
    let selected = spec
        .selector
        .as_ref()
        .is_some_and(|s| !s.match_labels.is_empty());
    let action = match spec.action.unwrap_or_default() {
        api::Action::Allow => Action::Allow,
        api::Action::Deny => Action::Deny,
        api::Action::Audit | api::Action::Custom | api::Action::Unknown => {
            findings.invalid.push("action: not known".to_owned());
            Action::Deny
        }
    };
    findings.unknown("spec", &spec.unknown);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let translate = RuleTranslation { namespace, action };
    let rules = spec.rules.iter().flatten().enumerate();
    let rules = rules
        .filter_map(|(at, rule)| translate.rule(at, rule, findings))
        .collect();
    findings.http.sort();
    findings.http.dedup();
    let dry_run = meta
        .annotations
        .as_ref()
        .and_then(|a| a.get(ANNOTATION_DRY_RUN));
    Policy {
        rules,
        dry_run: dry_run.is_some_and(|text| truth(text)),
        unenforceable: (!findings.invalid.is_empty()).then(|| listed(&findings.invalid).into()),
        ..Policy::new(
            namespace,
            meta.name.as_deref().unwrap_or_default(),
            if selected {
                Scope::Workload
            } else {
                Scope::Namespace
            },
            action,
        )
    }
}

/// As Go reads a truth value. What cannot be read is enforced.
pub(crate) fn truth(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

struct RuleTranslation<'a> {
    namespace: &'a str,
    action: Action,
}

impl RuleTranslation<'_> {
    /// `None` when the rule is left out.
    fn rule(&self, at: usize, rule: &api::Rule, findings: &mut Findings) -> Option<Rule> {
        let path = format!("spec.rules[{at}]");
        findings.unknown(&path, &rule.unknown);
        let http_before = findings.http.len();
        let mut clauses = Vec::new();
        if !rule.to.is_empty() {
            let matches = rule.to.iter().map(|to| {
                findings.unknown(&path, &to.unknown);
                let empty = Operation::default();
                operation(to.operation.as_ref().unwrap_or(&empty), &path, findings)
            });
            clauses.push(Clause {
                matches: matches.collect(),
            });
        }
        if !rule.from.is_empty() {
            let matches = rule.from.iter().map(|from| {
                findings.unknown(&path, &from.unknown);
                let empty = Source::default();
                self.source(from.source.as_ref().unwrap_or(&empty), &path, findings)
            });
            clauses.push(Clause {
                matches: matches.collect(),
            });
        }
        for when in &rule.when {
            findings.unknown(&path, &when.unknown);
            clauses.push(Clause {
                matches: vec![condition(when, &path, findings)],
            });
        }
        match self.action {
            // Whether the HTTP part holds is not known: assume that it does not.
            Action::Allow if findings.http.len() > http_before => None,
            Action::Allow => Some(Rule { clauses }),
            Action::Deny => {
                // Assume that it does. A match with nothing left then holds for everything, and so does its clause.
                clauses.retain(|clause| clause.matches.iter().all(|m| !m.is_empty()));
                Some(Rule { clauses })
            }
        }
    }

    fn source(&self, source: &Source, path: &str, findings: &mut Findings) -> Match {
        let path = format!("{path}.from.source");
        findings.unknown(&path, &source.unknown);
        for (name, values) in [
            ("remoteIpBlocks", &source.remote_ip_blocks),
            ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
            ("requestPrincipals", &source.request_principals),
            ("notRequestPrincipals", &source.not_request_principals),
        ] {
            if !values.is_empty() {
                findings.http.push(name.to_owned());
            }
        }
        if !source.trust_domains.is_empty() && !source.principals.is_empty() {
            // Both must hold, and one match holds one list of principals.
            findings
                .http
                .push("trustDomains beside principals".to_owned());
        }
        let account = |text: &str| account(text, self.namespace);
        let mut read = Reader {
            path: &path,
            findings,
        };
        let mut principals = read.all("principals", &source.principals, text);
        let domains = read.all("trustDomains", &source.trust_domains, trust_domain);
        if principals.is_empty() {
            principals = domains;
        }
        let mut not_principals = read.all("notPrincipals", &source.not_principals, text);
        not_principals.extend(read.all("notTrustDomains", &source.not_trust_domains, trust_domain));
        Match {
            principals,
            not_principals,
            source_ips: read.all("ipBlocks", &source.ip_blocks, net),
            not_source_ips: read.all("notIpBlocks", &source.not_ip_blocks, net),
            namespaces: read.all("namespaces", &source.namespaces, text),
            not_namespaces: read.all("notNamespaces", &source.not_namespaces, text),
            service_accounts: read.all("serviceAccounts", &source.service_accounts, account),
            not_service_accounts: read.all(
                "notServiceAccounts",
                &source.not_service_accounts,
                account,
            ),
            ..Match::default()
        }
    }
}

fn operation(operation: &Operation, path: &str, findings: &mut Findings) -> Match {
    let path = format!("{path}.to.operation");
    findings.unknown(&path, &operation.unknown);
    for (name, values) in [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ] {
        if !values.is_empty() {
            findings.http.push(name.to_owned());
        }
    }
    let mut read = Reader {
        path: &path,
        findings,
    };
    Match {
        destination_ports: read.all("ports", &operation.ports, port),
        not_destination_ports: read.all("notPorts", &operation.not_ports, port),
        ..Match::default()
    }
}

fn condition(when: &api::Condition, path: &str, findings: &mut Findings) -> Match {
    let path = format!("{path}.when[{}]", shown(&when.key));
    let (values, not_values) = (&when.values, &when.not_values);
    let mut read = Reader {
        path: &path,
        findings,
    };
    let mut m = Match::default();
    match when.key.as_str() {
        "source.ip" => {
            m.source_ips = read.all("values", values, net);
            m.not_source_ips = read.all("notValues", not_values, net);
        }
        "source.namespace" => {
            m.namespaces = read.all("values", values, text);
            m.not_namespaces = read.all("notValues", not_values, text);
        }
        "source.principal" => {
            m.principals = read.all("values", values, text);
            m.not_principals = read.all("notValues", not_values, text);
        }
        "destination.ip" => {
            m.destination_ips = read.all("values", values, net);
            m.not_destination_ips = read.all("notValues", not_values, net);
        }
        "destination.port" => {
            m.destination_ports = read.all("values", values, port);
            m.not_destination_ports = read.all("notValues", not_values, port);
        }
        other => findings.http.push(shown(other)),
    }
    m
}

/// Reads values and notes those that cannot be read.
struct Reader<'a> {
    path: &'a str,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn all<T>(
        &mut self,
        field: &str,
        values: &[String],
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Vec<T> {
        let mut read = Vec::with_capacity(values.len());
        for value in values {
            match parse(value) {
                Ok(value) => read.push(value),
                Err(why) => {
                    let problem = format!("{}.{field}: {:?} {why}", self.path, shown(value));
                    self.findings.invalid.push(problem);
                }
            }
        }
        read
    }
}

fn text(value: &str) -> Result<StringMatch, &'static str> {
    if value.is_empty() {
        return Err("must not be empty");
    }
    Ok(if value == "*" {
        StringMatch::Presence
    } else if let Some(suffix) = value.strip_prefix('*') {
        StringMatch::Suffix(suffix.into())
    } else if let Some(prefix) = value.strip_suffix('*') {
        StringMatch::Prefix(prefix.into())
    } else {
        StringMatch::Exact(value.into())
    })
}

/// A trust domain is how a principal begins.
fn trust_domain(value: &str) -> Result<StringMatch, &'static str> {
    match value.strip_suffix('*') {
        _ if value.is_empty() => Err("must not be empty"),
        _ if value == "*" => Ok(StringMatch::Presence),
        _ if value.starts_with('*') => Err("begins with *, which cannot be checked at layer 4"),
        Some(prefix) => Ok(StringMatch::Prefix(prefix.into())),
        None => Ok(StringMatch::Prefix(format!("{value}/ns/").into())),
    }
}

pub(crate) fn account(
    value: &str,
    own_namespace: &str,
) -> Result<ServiceAccountMatch, &'static str> {
    let (namespace, name) = value.split_once('/').unwrap_or((own_namespace, value));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err("is neither account nor namespace/account");
    }
    Ok(ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: name.into(),
    })
}

pub(crate) fn port(value: &str) -> Result<u16, &'static str> {
    match value.parse() {
        Ok(0) | Err(_) => Err("is no port (1 to 65535)"),
        Ok(port) => Ok(port),
    }
}

/// An address or a range. IPv4 addresses in IPv6 form are taken as IPv4: that is how connections are seen.
pub(crate) fn net(value: &str) -> Result<IpNet, &'static str> {
    let parsed = match value.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => value.parse::<IpNet>(),
    };
    let net = parsed.map_err(|_| "is no IP address or range")?.trunc();
    Ok(match net {
        IpNet::V6(v6) => match (mapped(v6.addr()), v6.prefix_len().checked_sub(96)) {
            (Some(v4), Some(length)) => {
                Ipv4Net::new(v4, length).map_or(net, |v4| IpNet::V4(v4.trunc()))
            }
            _ => net,
        },
        IpNet::V4(_) => net,
    })
}

fn mapped(address: Ipv6Addr) -> Option<Ipv4Addr> {
    address.to_ipv4_mapped()
}

/// Shared name of a policy.
pub(crate) fn key(namespace: &str, name: &str) -> Arc<str> {
    format!("{namespace}/{name}").into()
}
