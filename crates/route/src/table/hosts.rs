//! The hosts of one listener, or the one anonymous host of a service.

use std::collections::HashMap;
use std::sync::Arc;

use super::Scope;
use super::index::{Entry, Index};
use crate::compiled::MatchedPath;
use crate::request::RequestHead;
use crate::resource::HostPattern;

/// Matches by host name. The most specific host that a request matches decides alone, as a virtual host does.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Arc<str>, Arc<Index>>,
    /// By `.suffix`.
    wildcards: HashMap<Arc<str>, Arc<Index>>,
    any: Option<Arc<Index>>,
    /// Parents of routes that lead here.
    pub(super) attached: usize,
    /// Those of them that count for the clients of one namespace only.
    consumers: Vec<(Arc<str>, usize)>,
}

impl Hosts {
    /// No host names at all is any host.
    pub(super) fn insert(&mut self, hosts: &[HostPattern], entry: &Entry) {
        each_host(hosts, |host| {
            let index = match host {
                None => self.any.get_or_insert_default(),
                Some(host) => match host.suffix() {
                    Some(suffix) => self.wildcards.entry(suffix.into()).or_default(),
                    None => self.exact.entry(host.0.clone()).or_default(),
                },
            };
            Arc::make_mut(index).insert(entry.clone());
        });
    }

    pub(super) fn remove(&mut self, hosts: &[HostPattern], entry: &Entry) {
        each_host(hosts, |host| {
            let Some(host) = host else {
                if let Some(index) = &mut self.any {
                    Arc::make_mut(index).remove(entry);
                    if index.is_empty() {
                        self.any = None;
                    }
                }
                return;
            };
            let (map, key) = match host.suffix() {
                Some(suffix) => (&mut self.wildcards, suffix),
                None => (&mut self.exact, &*host.0),
            };
            if let Some(index) = map.get_mut(key) {
                Arc::make_mut(index).remove(entry);
                if index.is_empty() {
                    map.remove(key);
                }
            }
        });
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
    ) -> Option<(&Entry, MatchedPath)> {
        let index = match scope {
            Scope::Service { .. } => self.any.as_ref(),
            Scope::Listener { .. } => self.most_specific(request.host),
        };
        index?.find(request)
    }

    fn most_specific(&self, host: &str) -> Option<&Arc<Index>> {
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
