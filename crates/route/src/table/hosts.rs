//! The hosts of one listener, or the one anonymous host of a service.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::Scope;
use super::index::Index;
use crate::compiled::{CompiledRule, MatchedPath};
use crate::request::RequestHead;
use crate::resource::HostPattern;

/// Matches by host name. The most specific host that a request matches decides alone, as a virtual host does.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Arc<str>, Index>,
    /// By `.suffix`.
    wildcards: HashMap<Arc<str>, Index>,
    any: Option<Index>,
    /// Parents of routes that lead here.
    pub(super) attached: usize,
    /// Those of them that count for the clients of one namespace only.
    consumers: Vec<(Arc<str>, usize)>,
}

impl Hosts {
    /// No host names at all is any host.
    pub(super) fn insert(&mut self, hosts: &[HostPattern], entry: &CompiledRule) {
        each_host(hosts, |host| {
            let Some(host) = host else {
                match &mut self.any {
                    Some(index) => index.insert(entry.clone()),
                    none => *none = Some(Index::new(entry.clone())),
                }
                return;
            };
            let (map, key) = match host.suffix() {
                Some(suffix) => (&mut self.wildcards, suffix.into()),
                None => (&mut self.exact, host.0.clone()),
            };
            match map.entry(key) {
                Entry::Occupied(index) => index.into_mut().insert(entry.clone()),
                Entry::Vacant(place) => {
                    place.insert(Index::new(entry.clone()));
                }
            }
        });
    }

    pub(super) fn remove(&mut self, hosts: &[HostPattern], entry: &CompiledRule) {
        each_host(hosts, |host| {
            let Some(host) = host else {
                self.any.take_if(|index| !index.remove(entry));
                return;
            };
            let (map, key) = match host.suffix() {
                Some(suffix) => (&mut self.wildcards, suffix),
                None => (&mut self.exact, &*host.0),
            };
            if map.get_mut(key).is_some_and(|index| !index.remove(entry)) {
                map.remove(key);
            }
        });
    }

    /// The text of a host that some route has already.
    pub(super) fn text(&self, host: &str) -> Option<&Arc<str>> {
        Some(self.exact.get_key_value(host)?.0)
    }

    /// Counts a route that leads here; `consumer` is the namespace for whose clients alone it does.
    pub(super) fn attach(&mut self, consumer: Option<&Arc<str>>) {
        self.attached += 1;
        let Some(namespace) = consumer else { return };
        match self.consumers.iter_mut().find(|(of, _)| of == namespace) {
            Some((_, count)) => *count += 1,
            None => self.consumers.push((namespace.clone(), 1)),
        }
    }

    /// Undoes [`Self::attach`].
    pub(super) fn detach(&mut self, consumer: Option<&Arc<str>>) {
        self.attached -= 1;
        if let Some((_, count)) = self
            .consumers
            .iter_mut()
            .find(|(of, _)| Some(of) == consumer)
        {
            *count -= 1;
        }
        self.consumers.retain(|(_, count)| *count > 0);
    }

    /// Some route here is for this client.
    pub(super) fn counts_for(&self, request: &RequestHead<'_>) -> bool {
        let consumers: usize = self.consumers.iter().map(|(_, count)| count).sum();
        let mut namespaces = self.consumers.iter().map(|(namespace, _)| &**namespace);
        consumers < self.attached || namespaces.any(|of| Some(of) == request.source_namespace)
    }

    pub(super) fn find(
        &self,
        scope: Scope<'_>,
        request: &RequestHead<'_>,
    ) -> Option<(&CompiledRule, MatchedPath)> {
        let index = match scope {
            Scope::Service { .. } => self.any.as_ref(),
            Scope::Listener { .. } => self.most_specific(request.host),
        };
        index?.find(request)
    }

    fn most_specific(&self, host: &str) -> Option<&Index> {
        if let Some(index) = self.exact.get(host) {
            return Some(index);
        }
        if !self.wildcards.is_empty() {
            // Longest suffix first; a host has few dots.
            let dots = host.match_indices('.').filter(|(at, _)| *at > 0);
            let found = dots
                .filter_map(|(at, _)| host.get(at..))
                .find_map(|suffix| self.wildcards.get(suffix));
            if found.is_some() {
                return found;
            }
        }
        self.any.as_ref()
    }
}

/// `None` is any host. A host that is named twice counts once.
fn each_host(hosts: &[HostPattern], mut visit: impl FnMut(Option<&HostPattern>)) {
    if hosts.is_empty() || hosts.iter().any(HostPattern::is_any) {
        visit(None);
    }
    for (at, host) in hosts.iter().enumerate() {
        let again = hosts.iter().take(at).any(|other| other == host);
        if !host.is_any() && !again {
            visit(Some(host));
        }
    }
}
