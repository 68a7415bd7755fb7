//! Routes of connections in one scope.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use crate::resource::{
    Backend, HostPattern, ObjectKey, Precedence, StreamMatch, StreamRoute, StreamRule,
};

/// A connection as its routes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRequest<'a> {
    /// Server name of the client's TLS, in canonical form ([`crate::canonical::sni`]); `None` without TLS, or without a name in it.
    pub sni: Option<&'a str>,
    /// Address that the client asked for.
    pub destination: Option<IpAddr>,
    /// Port that the client asked for.
    pub port: u16,
    /// Namespace of the client's identity.
    pub source_namespace: Option<&'a str>,
}

/// What the table says about a connection.
#[derive(Clone, Copy, Debug)]
pub enum StreamLookup<'a> {
    /// This rule.
    Routed(StreamFound<'a>),
    /// There are routes, but none for this connection: close it.
    NoMatch,
    /// There are no routes at all: a waypoint sends it to the service itself, a gateway closes it.
    Unrouted,
}

/// The rule that won. Hold the `Arc` for as long as the connection lives.
#[derive(Clone, Copy, Debug)]
pub struct StreamFound<'a> {
    /// The route.
    pub route: &'a Arc<StreamRoute>,
    /// Which of its rules.
    pub index: usize,
}

impl<'a> StreamFound<'a> {
    /// The rule.
    pub fn rule(&self) -> Option<&'a StreamRule> {
        self.route.rules.get(self.index)
    }

    /// Where connections go, by weight.
    pub fn backends(&self) -> &'a [Backend] {
        self.rule().map_or(&[], |rule| &rule.backends)
    }
}

impl<'a> StreamLookup<'a> {
    /// The rule, if there is one.
    pub fn routed(self) -> Option<StreamFound<'a>> {
        match self {
            Self::Routed(found) => Some(found),
            Self::NoMatch | Self::Unrouted => None,
        }
    }
}

impl<'a> From<Candidate<'a>> for StreamLookup<'a> {
    fn from(candidate: Candidate<'a>) -> Self {
        Self::Routed(candidate.found)
    }
}

/// Routes of connections are few: they are walked.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    routes: Vec<(Arc<StreamRoute>, Arc<[HostPattern]>)>,
}

/// A match and how specific it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    found: StreamFound<'a>,
    rank: Rank<'a>,
}

/// Of a host pattern: the lesser is the more specific one.
type NameRank = (u8, Reverse<usize>);

/// The lesser one wins: server name (exact, longest suffix, none), then the longest destination, then order.
type Rank<'a> = (
    NameRank,
    Reverse<u8>,
    u8,
    (i64, &'a ObjectKey),
    usize,
    usize,
);

/// The one that wins.
pub(super) fn better<'a>(
    a: Option<Candidate<'a>>,
    b: Option<Candidate<'a>>,
) -> Option<Candidate<'a>> {
    a.into_iter().chain(b).min_by(|a, b| a.rank.cmp(&b.rank))
}

impl Streams {
    pub(super) fn insert(&mut self, route: &Arc<StreamRoute>, hostnames: &[HostPattern]) {
        self.routes.push((route.clone(), hostnames.into()));
    }

    pub(super) fn remove(&mut self, object: &ObjectKey) {
        self.routes.retain(|(route, _)| route.object != *object);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    pub(super) fn find(&self, request: &StreamRequest<'_>) -> Option<Candidate<'_>> {
        let everything = [StreamMatch::default()];
        let mut best: Option<Candidate<'_>> = None;
        for (route, hostnames) in &self.routes {
            for (index, rule) in route.rules.iter().enumerate() {
                let matches = if rule.matches.is_empty() {
                    &everything[..]
                } else {
                    &rule.matches
                };
                for (alternative, m) in matches.iter().enumerate() {
                    let Some((name, destination)) = matching(m, hostnames, request) else {
                        continue;
                    };
                    let kind = u8::from(route.precedence == Precedence::Specific);
                    let age = (route.created, &route.object);
                    let rank = (name, destination, kind, age, index, alternative);
                    let found = StreamFound { route, index };
                    best = better(best, Some(Candidate { found, rank }));
                }
            }
        }
        best
    }
}

/// How specific the server name and the destination are, if all of it matches.
fn matching(
    m: &StreamMatch,
    hostnames: &[HostPattern],
    request: &StreamRequest<'_>,
) -> Option<(NameRank, Reverse<u8>)> {
    let port = m.port.is_none_or(|port| port == request.port);
    let namespace = m.source_namespace.as_deref();
    if !port || (namespace.is_some() && namespace != request.source_namespace) {
        return None;
    }
    let own = best_name(&m.sni, request.sni)?;
    let parents = best_name(hostnames, request.sni)?;
    let destination = if m.destinations.is_empty() {
        0
    } else {
        let address = request.destination?;
        let containing = m.destinations.iter().filter(|net| net.contains(&address));
        // Even 0.0.0.0/0 is more than nothing.
        containing.map(|net| net.prefix_len() + 1).max()?
    };
    Some((own.min(parents), Reverse(destination)))
}

/// The best of the patterns that match; no patterns match everything.
fn best_name(patterns: &[HostPattern], sni: Option<&str>) -> Option<NameRank> {
    if patterns.is_empty() {
        return Some(HostPattern::any().rank());
    }
    patterns
        .iter()
        .filter(|pattern| match sni {
            Some(sni) => pattern.matches(sni),
            None => pattern.is_any(),
        })
        .map(HostPattern::rank)
        .min()
}
