//! Which objects depend on which host names, and on each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_api::networking::VirtualServiceSpec;

use super::{Place, delegates, places};
use crate::cluster::Cluster;
use crate::networking::Name;

/// Which objects mention a host name, and which delegate to which.
#[derive(Debug, Default)]
pub(in crate::networking) struct Mentions {
    by_host: BTreeMap<Arc<str>, BTreeSet<Name>>,
    /// Of each host name, objects of the mesh that route it, by its exact name.
    routed: BTreeMap<Arc<str>, BTreeSet<Name>>,
    /// Objects with wildcards among their hosts.
    wild: BTreeSet<Name>,
    roots: BTreeMap<Name, BTreeSet<Name>>,
}

/// What one object mentions.
#[derive(Debug, Default)]
pub(in crate::networking) struct Mentioned {
    hosts: BTreeSet<Arc<str>>,
    routed: BTreeSet<Arc<str>>,
    wild: bool,
    delegates: BTreeSet<Name>,
}

impl Mentioned {
    /// Objects that it delegates to.
    pub(in crate::networking) fn delegates(&self) -> impl Iterator<Item = &Name> {
        self.delegates.iter()
    }

    /// There are wildcards among its hosts.
    pub(in crate::networking) fn is_wild(&self) -> bool {
        self.wild
    }

    /// All host names, as [`Cluster::qualified`] has them.
    pub(in crate::networking) fn hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.hosts.iter()
    }
}

impl Cluster {
    pub(in crate::networking) fn mentioned(
        &self,
        name: &Name,
        spec: &VirtualServiceSpec,
    ) -> Mentioned {
        let mut mentioned = Mentioned {
            delegates: delegates(spec, &name.0).collect(),
            ..Mentioned::default()
        };
        let mesh = places(spec, &name.0).contains(&Place::Mesh);
        for host in &spec.hosts {
            let host = self.qualified(host, &name.0);
            if host.starts_with('*') {
                mentioned.wild = true;
            } else if mesh {
                mentioned.routed.insert(host.clone());
            }
            mentioned.hosts.insert(host);
        }
        let http = spec.http.iter().flat_map(|route| {
            let mirrors = route.mirrors.iter().map(|mirror| &mirror.destination);
            route
                .route
                .iter()
                .map(|to| &to.destination)
                .chain(&route.mirror)
                .chain(mirrors)
        });
        let tls = spec
            .tls
            .iter()
            .flat_map(|route| route.route.iter().map(|to| &to.destination));
        let tcp = spec
            .tcp
            .iter()
            .flat_map(|route| route.route.iter().map(|to| &to.destination));
        for destination in http.chain(tls).chain(tcp) {
            mentioned
                .hosts
                .insert(self.qualified(&destination.host, &name.0));
        }
        mentioned
    }
}

impl Mentions {
    pub(in crate::networking) fn insert(&mut self, name: &Name, mentioned: &Mentioned) {
        for host in &mentioned.hosts {
            self.by_host
                .entry(host.clone())
                .or_default()
                .insert(name.clone());
        }
        for host in &mentioned.routed {
            self.routed
                .entry(host.clone())
                .or_default()
                .insert(name.clone());
        }
        if mentioned.wild {
            self.wild.insert(name.clone());
        }
        for delegate in &mentioned.delegates {
            self.roots
                .entry(delegate.clone())
                .or_default()
                .insert(name.clone());
        }
    }

    pub(in crate::networking) fn remove(&mut self, name: &Name, mentioned: &Mentioned) {
        for host in &mentioned.hosts {
            take(&mut self.by_host, host, name);
        }
        for host in &mentioned.routed {
            take(&mut self.routed, host, name);
        }
        self.wild.remove(name);
        for delegate in &mentioned.delegates {
            take(&mut self.roots, delegate, name);
        }
    }

    /// Objects whose outputs can depend on a host name.
    pub(in crate::networking) fn of_host<'a>(
        &'a self,
        hostname: &str,
    ) -> impl Iterator<Item = &'a Name> {
        self.by_host
            .get(hostname)
            .into_iter()
            .flatten()
            .chain(&self.wild)
    }

    /// Objects with wildcards among their hosts.
    pub(in crate::networking) fn wild(&self) -> impl Iterator<Item = &Name> {
        self.wild.iter()
    }

    /// Objects that delegate to this one.
    pub(in crate::networking) fn roots<'a>(
        &'a self,
        name: &Name,
    ) -> impl Iterator<Item = &'a Name> {
        self.roots.get(name).into_iter().flatten()
    }

    pub(super) fn is_routed(&self, hostname: &str) -> bool {
        self.routed.contains_key(hostname)
    }

    #[cfg(test)]
    pub(in crate::networking) fn is_empty(&self) -> bool {
        self.by_host.is_empty()
            && self.routed.is_empty()
            && self.wild.is_empty()
            && self.roots.is_empty()
    }
}

fn take<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Name>>, key: &K, name: &Name) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}
