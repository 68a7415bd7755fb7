//! In-mesh names: a pure look-up.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use tulle_model::{Health, HealthPolicy, IpFamilies, Mesh, NetworkAddress, Service, Workload};

use crate::limits::WILDCARDS;
use crate::message::Family;

/// What every pod's names have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// DNS suffix of the cluster, without dots at its ends.
    pub cluster_domain: Arc<str>,
    /// IPv6 addresses may be given out.
    pub ipv6: bool,
    /// `PREFERED_SERVICE_NAMESPACE`: whose services win a name that several have, when neither the client's namespace has one nor
    /// any is canonical.
    pub preferred_namespace: Option<Arc<str>>,
}

/// A name that the mesh knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The name that the addresses belong to, if it is not the one that was asked for.
    pub(crate) alias: Option<String>,
    /// In no order.
    pub(crate) addresses: Vec<IpAddr>,
}

/// One way to read a name.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    host: String,
    /// The name without the search domain that it came with.
    stripped: Option<String>,
}

impl Zone {
    /// What the mesh knows of a name, for a client; `None` if the question is to be forwarded.
    pub(crate) fn find(
        &self,
        mesh: &Mesh,
        client: &Workload,
        name: &str,
        family: Family,
    ) -> Option<Known> {
        for reading in self.readings(name, &client.namespace) {
            for host in with_wildcards(&reading.host) {
                let Some(service) = self.service(mesh, client, &host) else {
                    continue;
                };
                let wildcard = host.starts_with("*.");
                return Some(Known {
                    alias: reading.stripped.filter(|_| !wildcard),
                    addresses: self.addresses(mesh, client, service, family),
                });
            }
        }
        None
    }

    /// Readings of a name, the literal one first: short Kubernetes forms made whole, search domains taken off.
    fn readings(&self, name: &str, namespace: &str) -> Vec<Reading> {
        let mut readings = Vec::new();
        let mut seen = HashSet::new();
        let mut add = |host: String, stripped: Option<&str>| {
            if seen.insert(host.clone()) {
                let stripped = stripped.map(str::to_owned);
                readings.push(Reading { host, stripped });
            }
        };
        add(name.to_owned(), None);
        for whole in self.made_whole(name, namespace) {
            add(whole, None);
        }
        let domain = &self.cluster_domain;
        // What kubelet writes into a pod's resolv.conf.
        let search = [
            format!(".{namespace}.svc.{domain}"),
            format!(".svc.{domain}"),
            format!(".{domain}"),
        ];
        for suffix in &search {
            let Some(stripped) = name.strip_suffix(suffix.as_str()).filter(|s| !s.is_empty())
            else {
                continue;
            };
            add(stripped.to_owned(), Some(stripped));
            for whole in self.made_whole(stripped, namespace) {
                add(whole, Some(stripped));
            }
        }
        readings
    }

    /// Kubernetes names that a short name can stand for: `service`, `service.namespace`, `service.namespace.svc`, and those of a
    /// pod with a subdomain.
    fn made_whole(&self, name: &str, namespace: &str) -> Vec<String> {
        let domain = &self.cluster_domain;
        let own = || format!("{name}.{namespace}.svc.{domain}");
        let any = || format!("{name}.svc.{domain}");
        let with_svc = || format!("{name}.{domain}");
        let ends_in_svc = name.ends_with(".svc");
        match name.split('.').count() {
            1 => vec![own()],
            2 => vec![any(), own()],
            3 if ends_in_svc => vec![with_svc(), any()],
            3 => vec![any()],
            4 if ends_in_svc => vec![with_svc()],
            _ => Vec::new(),
        }
    }

    fn service<'a>(
        &self,
        mesh: &'a Mesh,
        client: &Workload,
        host: &str,
    ) -> Option<&'a Arc<Service>> {
        // Without an address of its own only a Kubernetes service has names here: the headless one.
        let kubernetes = host
            .strip_suffix(&*self.cluster_domain)
            .is_some_and(|rest| rest.ends_with(".svc."));
        let usable = |s: &Service| kubernetes || hosts(s).next().is_some();
        let found = mesh.service_at_host(host, &client.namespace, usable)?;
        let decided = found.canonical || found.namespace == client.namespace;
        match &self.preferred_namespace {
            Some(preferred) if !decided => {
                let theirs = |s: &Service| usable(s) && s.namespace == *preferred;
                mesh.service_at_host(host, &client.namespace, theirs)
                    .or(Some(found))
            }
            _ => Some(found),
        }
    }

    /// Addresses of one family that a client may use.
    fn addresses(
        &self,
        mesh: &Mesh,
        client: &Workload,
        service: &Service,
        family: Family,
    ) -> Vec<IpAddr> {
        let allowed = match (family, service.families) {
            (Family::V6, _) if !self.ipv6 => false,
            (Family::V6, IpFamilies::V4) | (Family::V4, IpFamilies::V6) => false,
            _ => true,
        };
        if !allowed {
            return Vec::new();
        }
        if hosts(service).next().is_none() {
            let all = service.load_balancing.health == HealthPolicy::AllowAll;
            return mesh
                .endpoints(&service.key())
                .filter(|w| all || w.health == Health::Healthy)
                .filter_map(|w| w.addresses.iter().find(|a| family.has(a)).copied())
                .collect();
        }
        hosts(service)
            .filter(|address| address.network == client.network)
            .map(|address| address.range.addr())
            .filter(|address| family.has(address))
            .collect()
    }
}

/// Virtual addresses that can be dialled: ranges cannot.
fn hosts(service: &Service) -> impl Iterator<Item = &NetworkAddress> {
    let all = service.addresses.iter();
    all.filter(|address| address.range.prefix_len() == address.range.max_prefix_len())
}

/// A name, then the wildcards that cover it, the narrowest first.
fn with_wildcards(name: &str) -> impl Iterator<Item = String> {
    let dots = name.match_indices('.').map(|(at, _)| at).take(WILDCARDS);
    let wildcards = dots.map(|at| format!("*{}", &name[at..]));
    std::iter::once(name.to_owned()).chain(wildcards)
}

#[cfg(test)]
mod tests;
