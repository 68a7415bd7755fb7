//! Does a connection match? No allocation: the principal is compared piece by piece.

use std::net::IpAddr;

use ipnet::IpNet;
use tulle_model::Identity;

use crate::policy::{Match, Policy, Rule, ServiceAccountMatch, StringMatch};

/// What policies look at, addresses in canonical form.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) source: Option<&'a Identity>,
    pub(crate) source_ip: IpAddr,
    pub(crate) destination_ip: IpAddr,
    pub(crate) destination_port: u16,
}

/// Index of the first rule that matches.
pub(crate) fn matching_rule(policy: &Policy, facts: &Facts<'_>) -> Option<usize> {
    policy
        .rules
        .iter()
        .position(|rule| rule_matches(rule, facts))
}

fn rule_matches(rule: &Rule, facts: &Facts<'_>) -> bool {
    rule.clauses.iter().all(|clause| {
        clause.matches.is_empty()
            || clause
                .matches
                .iter()
                .any(|m| !m.is_empty() && match_matches(m, facts))
    })
}

fn match_matches(m: &Match, facts: &Facts<'_>) -> bool {
    let namespace = facts.source.map_or("", |identity| &*identity.namespace);
    let port = |port: &u16| *port == facts.destination_port;
    let source_ip = |net: &IpNet| net.contains(&facts.source_ip);
    let destination_ip = |net: &IpNet| net.contains(&facts.destination_ip);
    let account = |account: &ServiceAccountMatch| account_matches(account, facts.source);
    let principal = |text: &StringMatch| principal_matches(text, facts.source);
    let in_namespace = |text: &StringMatch| text_matches(text, namespace);
    field(&m.destination_ports, &m.not_destination_ports, port)
        && field(&m.source_ips, &m.not_source_ips, source_ip)
        && field(&m.destination_ips, &m.not_destination_ips, destination_ip)
        && field(&m.service_accounts, &m.not_service_accounts, account)
        && field(&m.namespaces, &m.not_namespaces, in_namespace)
        && field(&m.principals, &m.not_principals, principal)
}

fn field<T>(wanted: &[T], unwanted: &[T], holds: impl Fn(&T) -> bool) -> bool {
    (wanted.is_empty() || wanted.iter().any(&holds)) && !unwanted.iter().any(&holds)
}

pub(crate) fn account_matches(account: &ServiceAccountMatch, source: Option<&Identity>) -> bool {
    source.is_some_and(|identity| {
        identity.namespace == account.namespace
            && identity.service_account == account.service_account
    })
}

fn text_matches(text: &StringMatch, value: &str) -> bool {
    match text {
        StringMatch::Exact(exact) => **exact == *value,
        StringMatch::Prefix(prefix) => value.starts_with(&**prefix),
        StringMatch::Suffix(suffix) => value.ends_with(&**suffix),
        StringMatch::Presence => !value.is_empty(),
    }
}

pub(crate) fn principal_matches(text: &StringMatch, source: Option<&Identity>) -> bool {
    let Some(identity) = source else { return false };
    let pieces = [
        &*identity.trust_domain,
        "/ns/",
        &*identity.namespace,
        "/sa/",
        &*identity.service_account,
    ];
    match text {
        StringMatch::Exact(exact) => begins(&pieces, exact) == Some(Covered::Whole),
        StringMatch::Prefix(prefix) => begins(&pieces, prefix).is_some(),
        StringMatch::Suffix(suffix) => ends(&pieces, suffix),
        StringMatch::Presence => true,
    }
}

/// How much of the pieced text a prefix covers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Covered {
    Part,
    Whole,
}

/// Whether the concatenated pieces begin with `prefix`.
fn begins(pieces: &[&str], prefix: &str) -> Option<Covered> {
    let mut left = prefix.as_bytes();
    for piece in pieces {
        let piece = piece.as_bytes();
        if left.len() < piece.len() {
            return piece.starts_with(left).then_some(Covered::Part);
        }
        left = left.strip_prefix(piece)?;
    }
    left.is_empty().then_some(Covered::Whole)
}

/// Whether the concatenated pieces end with `suffix`.
fn ends(pieces: &[&str], suffix: &str) -> bool {
    let mut left = suffix.as_bytes();
    for piece in pieces.iter().rev() {
        let piece = piece.as_bytes();
        if left.len() <= piece.len() {
            return piece.ends_with(left);
        }
        match left.strip_suffix(piece) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    false
}
