//! Host names as users write them, and which services they mean.

use std::sync::Arc;

use tulle_route::resource::HostPattern;

use crate::cluster::Cluster;
use crate::service::{ServiceFacts, ServiceSource};

impl Cluster {
    /// The full name of a host as an object of `namespace` writes it: a name without dots is a service of that namespace.
    pub(crate) fn qualified(&self, host: &str, namespace: &str) -> Arc<str> {
        let host = host.to_ascii_lowercase();
        if host.contains(['.', '*']) || host.is_empty() {
            host.into()
        } else {
            self.hostname(&host, namespace)
        }
    }

    /// All services of a host name, one for each namespace that has it.
    pub(crate) fn services_of_host<'a>(
        &'a self,
        hostname: &str,
    ) -> impl Iterator<Item = &'a ServiceFacts> {
        let claims = self.hostnames.get(hostname).into_iter().flatten();
        claims
            .filter(move |(namespace, id)| self.wins(namespace, id))
            .filter_map(move |(namespace, id)| self.namespace(namespace)?.services.get(id))
    }

    /// The service that a host name means to somebody in `namespace`: a Kubernetes Service, else one of their own namespace,
    /// else the oldest.
    pub(crate) fn service_of_host(&self, hostname: &str, namespace: &str) -> Option<&ServiceFacts> {
        let rank = |service: &&ServiceFacts| {
            let foreign = service.key.namespace() != namespace;
            let entry = service.id.source == ServiceSource::Entry;
            (entry, foreign, service.created, service.key.clone())
        };
        self.services_of_host(hostname).min_by_key(rank)
    }
}

/// Whether an object of namespace `own` with this `exportTo` counts in a namespace.
pub(super) fn exported(export_to: &[String], own: &str, to: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|target| match target.as_str() {
            "*" => true,
            "." => own == to,
            "~" => false,
            namespace => namespace == to,
        })
}

/// Whether a host pattern (`*`, `*.suffix` or exact) covers another host or pattern.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.strip_prefix('*') {
        // A wildcard covers narrower wildcards, and names with something in its place.
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix) || host == pattern,
        None => pattern == host,
    }
}

/// What both patterns allow.
pub(super) fn intersection(a: &str, b: &str) -> Option<HostPattern> {
    if covers(a, b) {
        Some(HostPattern(b.into()))
    } else if covers(b, a) {
        Some(HostPattern(a.into()))
    } else {
        None
    }
}

/// How specific a pattern is: exact names first, then by length.
pub(super) fn specificity(pattern: &str) -> (bool, usize) {
    (!pattern.starts_with('*'), pattern.len())
}

/// A time span as Kubernetes and protobuf write it: `1h`, `1.5s`, `500ms`, `1m30s`.
pub(crate) fn duration(text: &str) -> Option<std::time::Duration> {
    let mut left = text.trim();
    if left.is_empty() {
        return None;
    }
    let mut seconds = 0f64;
    while !left.is_empty() {
        let digits = left.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = left.get(..digits)?.parse().ok()?;
        let rest = left.get(digits..)?;
        let unit_length = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let factor = match rest.get(..unit_length)? {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * factor;
        left = rest.get(unit_length..)?;
    }
    std::time::Duration::try_from_secs_f64(seconds).ok()
}
