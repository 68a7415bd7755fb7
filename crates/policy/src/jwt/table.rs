//! All RequestAuthentications that a proxy knows, and which tokens of a request are to be verified.

use std::fmt;
use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use super::claims::{Claims, TokenError};
use super::locations::{Carrier, Location};
use super::resource::{Authentication, JwtRule};
use crate::limits::TOKENS_PER_REQUEST;
use crate::target::Target;

/// The table. Cheap to clone: clones share structure.
#[derive(Clone, Debug, Default)]
pub struct Authentications {
    all: HashMap<Arc<str>, Arc<Compiled>>,
    by_target: HashMap<Target, OrdMap<Arc<str>, Arc<Compiled>>>,
    unreadable: OrdMap<Arc<str>, Arc<str>>,
}

#[derive(Debug)]
struct Compiled {
    resource: Authentication,
    rules: Vec<(Arc<JwtRule>, Vec<Location>)>,
}

/// A token, and the rule that its issuer's name leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Whose rule.
    pub policy: Arc<str>,
    /// Which keys verify it, and what becomes of its claims: [`Claims::accept`] checks them.
    pub rule: Arc<JwtRule>,
    /// `header.payload.signature`.
    pub token: Arc<str>,
    /// Its payload, not verified yet.
    pub claims: Claims,
    /// Where it was; taken out of the request unless [`JwtRule::forward`].
    pub location: Location,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// It carries no token that any rule looks for.
    Pass,
    /// The first of these that verifies is the request's; if none does, the request is refused with 401.
    Verify(Vec<Candidate>),
    /// It is refused.
    Refuse(Refusal),
}

/// Why a request is refused before any signature was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its tokens are no use: 401.
    Token {
        /// `namespace/name`.
        policy: Arc<str>,
        /// Why.
        error: TokenError,
    },
    /// A RequestAuthentication cannot be evaluated: 403.
    Unenforceable {
        /// `namespace/name`.
        policy: Arc<str>,
        /// What is not understood.
        why: Arc<str>,
    },
}

impl Refusal {
    /// Of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Token { .. } => 401,
            Self::Unenforceable { .. } => 403,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { policy, error } => {
                write!(f, "denied by request authentication {policy}: {error}")
            }
            Self::Unenforceable { policy, why } => {
                write!(
                    f,
                    "denied by request authentication {policy}, which cannot be evaluated: {why}"
                )
            }
        }
    }
}

impl Authentications {
    /// Adds a resource, or replaces the one of the same name.
    pub fn insert(&mut self, resource: Authentication) {
        let name = resource.name.clone();
        self.remove(&name);
        let rules = resource
            .rules
            .iter()
            .map(|rule| (Arc::new(rule.clone()), Location::of(rule)));
        let compiled = Arc::new(Compiled {
            rules: rules.collect(),
            resource,
        });
        for target in &compiled.resource.targets {
            self.by_target
                .entry(target.clone())
                .or_default()
                .insert(name.clone(), compiled.clone());
        }
        self.all.insert(name, compiled);
    }

    /// Notes a resource of which not even the targets can be read: until it is replaced or removed, everything is refused.
    pub fn insert_unreadable(&mut self, name: &str, why: impl Into<Arc<str>>) {
        self.remove(name);
        self.unreadable.insert(name.into(), why.into());
    }

    /// Removes a resource by `namespace/name`; false when it was not there.
    pub fn remove(&mut self, name: &str) -> bool {
        let unreadable = self.unreadable.remove(name).is_some();
        let Some(old) = self.all.remove(name) else {
            return unreadable;
        };
        for target in &old.resource.targets {
            if let Some(resources) = self.by_target.get_mut(target) {
                resources.remove(name);
                if resources.is_empty() {
                    self.by_target.remove(target);
                }
            }
        }
        true
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.unreadable.is_empty()
    }

    /// All rules, to fetch and prepare keys.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<JwtRule>> {
        self.all
            .values()
            .flat_map(|compiled| compiled.rules.iter().map(|(rule, _)| rule))
    }

    /// Headers that only this proxy may set: taken out of every request to these targets first.
    pub fn own_headers<'a>(&'a self, targets: &'a [Target]) -> impl Iterator<Item = &'a Arc<str>> {
        self.concerning(targets).flat_map(|compiled| {
            compiled.resource.rules.iter().flat_map(|rule| {
                rule.payload_header
                    .iter()
                    .chain(rule.claim_headers.iter().map(|claim| &claim.header))
            })
        })
    }

    /// Which tokens are to be verified. `decode` turns base64url (without padding) into bytes.
    pub fn plan(
        &self,
        targets: &[Target],
        request: &dyn Carrier,
        decode: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Plan {
        if let Some((policy, why)) = self.unreadable.get_min() {
            return Plan::Refuse(Refusal::Unenforceable {
                policy: policy.clone(),
                why: why.clone(),
            });
        }
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut problem = None;
        for compiled in self.concerning(targets) {
            let policy = &compiled.resource.name;
            if let Some(why) = &compiled.resource.unenforceable {
                return Plan::Refuse(Refusal::Unenforceable {
                    policy: policy.clone(),
                    why: why.clone(),
                });
            }
            for (rule, locations) in &compiled.rules {
                let found = locations
                    .iter()
                    .flat_map(|l| l.tokens(request).into_iter().map(move |token| (l, token)));
                for (location, token) in found.take(TOKENS_PER_REQUEST) {
                    match unverified(&token, &decode) {
                        Err(error) => problem = problem.or(Some((policy, error))),
                        Ok(claims) if claims.issuer() != Some(&*rule.issuer) => {
                            problem = problem.or(Some((policy, TokenError::UnknownIssuer)));
                        }
                        Ok(claims) if candidates.len() < TOKENS_PER_REQUEST => {
                            candidates.push(Candidate {
                                policy: policy.clone(),
                                rule: rule.clone(),
                                token: token.as_ref().into(),
                                claims,
                                location: location.clone(),
                            })
                        }
                        Ok(_) => {}
                    }
                }
            }
        }
        match problem {
            _ if !candidates.is_empty() => Plan::Verify(candidates),
            Some((policy, error)) => Plan::Refuse(Refusal::Token {
                policy: policy.clone(),
                error,
            }),
            None => Plan::Pass,
        }
    }

    fn concerning<'a>(&'a self, targets: &'a [Target]) -> impl Iterator<Item = &'a Arc<Compiled>> {
        targets.iter().enumerate().flat_map(move |(at, target)| {
            let earlier = targets.get(..at).unwrap_or_default();
            let resources = self
                .by_target
                .get(target)
                .into_iter()
                .flat_map(OrdMap::values);
            resources.filter(move |compiled| {
                !compiled
                    .resource
                    .targets
                    .iter()
                    .any(|t| earlier.contains(t))
            })
        })
    }
}

/// The claims of a token, to see who is said to have issued it.
fn unverified(token: &str, decode: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Claims, TokenError> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed);
    };
    Claims::parse(&decode(payload).ok_or(TokenError::Malformed)?)
}
