//! Policies from the wire. What is understood only in part fails closed.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use prost::Message;
use tulle_policy::{Action, Clause, Match, Policy, Rule, Scope, ServiceAccountMatch, StringMatch};

use crate::error::DecodeError;
use crate::scan;
use crate::security as wire;

/// Decodes the value of one Authorization resource.
///
/// An error means that the bytes are no policy at all, or one without a name. Anything else that this version does not
/// understand gives a [`Policy`] that says so in `unenforceable` and fails closed: an unknown field or extension, an
/// unknown action (taken as DENY), an unknown scope (taken as the whole mesh), a value out of range.
pub fn decode_authorization(bytes: &[u8]) -> Result<Policy, DecodeError> {
    let malformed = |why: String| DecodeError::Malformed {
        message: "istio.security.Authorization",
        why,
    };
    let message = wire::Authorization::decode(bytes).map_err(|e| malformed(e.to_string()))?;
    let unknown = scan::unknown_field(bytes).map_err(malformed)?;
    let mut policy = Policy::try_from(message)?;
    if let Some(path) = unknown {
        let why = format!("field {path} is unknown to this proxy; is the control plane newer?");
        policy.unenforceable = Some(why.into());
    }
    Ok(policy)
}

impl TryFrom<wire::Authorization> for Policy {
    type Error = DecodeError;

    /// Sees no unknown fields: [`decode_authorization`] is for bytes from the wire.
    fn try_from(message: wire::Authorization) -> Result<Self, DecodeError> {
        let object = format!("policy {}/{}", message.namespace, message.name);
        if message.name.is_empty() {
            return Err(DecodeError::field(&object, "name", "", "must not be empty"));
        }
        if message.namespace.is_empty() {
            return Err(DecodeError::field(
                &object,
                "namespace",
                "",
                "must not be empty",
            ));
        }
        let mut doubts = Doubts::default();
        if !message.extensions.is_empty() {
            doubts.note(|| "extensions are not supported".to_owned());
        }
        let scope = match wire::Scope::try_from(message.scope) {
            Ok(wire::Scope::Global) => Scope::Global,
            Ok(wire::Scope::Namespace) => Scope::Namespace,
            Ok(wire::Scope::WorkloadSelector) => Scope::Workload,
            Err(_) => {
                doubts.note(|| format!("scope {} is unknown", message.scope));
                Scope::Global
            }
        };
        let action = match wire::Action::try_from(message.action) {
            Ok(wire::Action::Allow) => Action::Allow,
            Ok(wire::Action::Deny) => Action::Deny,
            Err(_) => {
                doubts.note(|| format!("action {} is unknown", message.action));
                Action::Deny
            }
        };
        let rules = message
            .rules
            .into_iter()
            .map(|rule| rule_from(rule, &mut doubts))
            .collect();
        Ok(Self {
            name: message.name.into(),
            namespace: message.namespace.into(),
            scope,
            action,
            rules,
            dry_run: message.dry_run,
            unenforceable: doubts.first,
        })
    }
}

/// The first thing that is not understood.
#[derive(Default)]
struct Doubts {
    first: Option<Arc<str>>,
}

impl Doubts {
    fn note(&mut self, why: impl FnOnce() -> String) {
        self.first.get_or_insert_with(|| why().into());
    }
}

fn rule_from(rule: wire::Rule, doubts: &mut Doubts) -> Rule {
    let clause = |clause: wire::Clause, doubts: &mut Doubts| Clause {
        matches: clause
            .matches
            .into_iter()
            .map(|m| match_from(m, doubts))
            .collect(),
    };
    Rule {
        clauses: rule
            .clauses
            .into_iter()
            .map(|c| clause(c, doubts))
            .collect(),
    }
}

fn match_from(m: wire::Match, doubts: &mut Doubts) -> Match {
    if !m.extensions.is_empty() {
        doubts.note(|| "extensions are not supported".to_owned());
    }
    Match {
        namespaces: all(m.namespaces, doubts, text_from),
        not_namespaces: all(m.not_namespaces, doubts, text_from),
        service_accounts: all(m.service_accounts, doubts, account_from),
        not_service_accounts: all(m.not_service_accounts, doubts, account_from),
        principals: all(m.principals, doubts, text_from),
        not_principals: all(m.not_principals, doubts, text_from),
        source_ips: all(m.source_ips, doubts, net_from),
        not_source_ips: all(m.not_source_ips, doubts, net_from),
        destination_ips: all(m.destination_ips, doubts, net_from),
        not_destination_ips: all(m.not_destination_ips, doubts, net_from),
        destination_ports: all(m.destination_ports, doubts, port_from),
        not_destination_ports: all(m.not_destination_ports, doubts, port_from),
    }
}

fn all<A, B>(
    values: Vec<A>,
    doubts: &mut Doubts,
    convert: impl Fn(A) -> Result<B, String>,
) -> Vec<B> {
    let mut converted = Vec::with_capacity(values.len());
    for value in values {
        match convert(value) {
            Ok(value) => converted.push(value),
            Err(why) => doubts.note(|| why),
        }
    }
    converted
}

fn text_from(text: wire::StringMatch) -> Result<StringMatch, String> {
    use wire::string_match::MatchType;
    match text.match_type {
        Some(MatchType::Exact(exact)) => Ok(StringMatch::Exact(exact.into())),
        Some(MatchType::Prefix(prefix)) => Ok(StringMatch::Prefix(prefix.into())),
        Some(MatchType::Suffix(suffix)) => Ok(StringMatch::Suffix(suffix.into())),
        Some(MatchType::Presence(())) => Ok(StringMatch::Presence),
        None => Err("a text match of an unknown kind".to_owned()),
    }
}

fn account_from(account: wire::ServiceAccountMatch) -> Result<ServiceAccountMatch, String> {
    if account.namespace.is_empty() || account.service_account.is_empty() {
        return Err("a service account without namespace or name".to_owned());
    }
    Ok(ServiceAccountMatch {
        namespace: account.namespace.into(),
        service_account: account.service_account.into(),
    })
}

fn net_from(address: wire::Address) -> Result<IpNet, String> {
    let ip = match address.address.len() {
        4 => <[u8; 4]>::try_from(&address.address[..]).map(IpAddr::from),
        _ => <[u8; 16]>::try_from(&address.address[..]).map(IpAddr::from),
    };
    let ip = ip.map_err(|_| format!("an address of {} bytes", address.address.len()))?;
    u8::try_from(address.length)
        .ok()
        .and_then(|length| IpNet::new(ip, length).ok())
        .ok_or_else(|| format!("prefix length {} of {ip}", address.length))
}

fn port_from(port: u32) -> Result<u16, String> {
    u16::try_from(port).map_err(|_| format!("port {port}"))
}
