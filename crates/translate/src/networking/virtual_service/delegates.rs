//! Routes that an object leaves to others, which have no hosts of their own.

use std::sync::Arc;

use tulle_api::networking::{HttpRoute as ApiRoute, VirtualServiceSpec};

use super::matches;
use crate::cluster::Cluster;
use crate::networking::Name;
use crate::networking::findings::Findings;
use crate::networking::names::exported;

/// It has no hosts of its own: others delegate to it.
pub(in crate::networking) fn is_delegate(spec: &VirtualServiceSpec) -> bool {
    spec.hosts.is_empty()
}

/// Names of the objects that this one delegates to.
pub(in crate::networking) fn delegates<'a>(
    spec: &'a VirtualServiceSpec,
    namespace: &'a Arc<str>,
) -> impl Iterator<Item = Name> + 'a {
    spec.http.iter().filter_map(move |route| {
        let delegate = route.delegate.as_ref()?;
        let other = delegate.namespace.as_deref().filter(|n| !n.is_empty());
        Some((
            other.map_or_else(|| namespace.clone(), Arc::from),
            delegate.name.as_deref()?.into(),
        ))
    })
}

impl Cluster {
    /// The routes, with those of delegates in their place: namespace of the writer, index in the root, route.
    pub(super) fn expanded(
        &self,
        name: &Name,
        spec: &VirtualServiceSpec,
        findings: &mut Findings,
    ) -> Vec<(Arc<str>, usize, ApiRoute)> {
        let mut all = Vec::with_capacity(spec.http.len());
        for (at, route) in spec.http.iter().enumerate() {
            let Some(delegate) = route.delegate.as_ref() else {
                all.push((name.0.clone(), at, route.clone()));
                continue;
            };
            let namespace = delegate.namespace.as_deref().filter(|n| !n.is_empty());
            let namespace = namespace.map_or_else(|| name.0.clone(), Arc::from);
            let other: Name = (
                namespace,
                delegate.name.as_deref().unwrap_or_default().into(),
            );
            let found = self.networking.virtual_services.get(&other);
            let usable = found
                .filter(|o| is_delegate(&o.spec) && exported(&o.spec.export_to, &other.0, &name.0));
            let Some(found) = usable else {
                let why = format!(
                    "VirtualService {}/{} is not there, not exported, or has hosts",
                    other.0, other.1
                );
                findings.invalid(format!("spec.http[{at}].delegate"), why);
                continue;
            };
            for below in &found.spec.http {
                match merged(route, below) {
                    Some(route) => all.push((other.0.clone(), at, route)),
                    None => findings.invalid(
                        format!("spec.http[{at}].delegate"),
                        "a route of the delegate contradicts the match of this one and is left out",
                    ),
                }
            }
        }
        all
    }
}

/// A delegate's route below its root's: what the root says counts, the delegate fills in the rest.
fn merged(root: &ApiRoute, delegate: &ApiRoute) -> Option<ApiRoute> {
    let mut matches = Vec::new();
    match (root.matches.is_empty(), delegate.matches.is_empty()) {
        (true, _) => matches.clone_from(&delegate.matches),
        (_, true) => matches.clone_from(&root.matches),
        _ => {
            for above in &root.matches {
                matches.extend(
                    delegate
                        .matches
                        .iter()
                        .filter_map(|below| matches::both(above, below)),
                );
            }
            if matches.is_empty() {
                return None;
            }
        }
    }
    let names: Vec<&str> = [&root.name, &delegate.name]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    Some(ApiRoute {
        name: (!names.is_empty()).then(|| names.join("-")),
        matches,
        rewrite: root.rewrite.clone().or_else(|| delegate.rewrite.clone()),
        timeout: root.timeout.clone().or_else(|| delegate.timeout.clone()),
        retries: root.retries.clone().or_else(|| delegate.retries.clone()),
        fault: root.fault.clone().or_else(|| delegate.fault.clone()),
        mirror: root.mirror.clone().or_else(|| delegate.mirror.clone()),
        mirrors: if root.mirrors.is_empty() {
            delegate.mirrors.clone()
        } else {
            root.mirrors.clone()
        },
        mirror_percent: root.mirror_percent.or(delegate.mirror_percent),
        mirror_percent_snake: root.mirror_percent_snake.or(delegate.mirror_percent_snake),
        mirror_percentage: root
            .mirror_percentage
            .clone()
            .or_else(|| delegate.mirror_percentage.clone()),
        cors_policy: root
            .cors_policy
            .clone()
            .or_else(|| delegate.cors_policy.clone()),
        headers: root.headers.clone().or_else(|| delegate.headers.clone()),
        delegate: None,
        ..delegate.clone()
    })
}
