//! Who refers to a grant, a Secret or a ConfigMap that changed.

use std::sync::Arc;

use tulle_api::gateway as api;

use super::backends::backend_namespaces;
use super::state::Named;
use super::{RouteId, Source};
use crate::cluster::{Cluster, Source as AnySource};

impl Cluster {
    /// Grants of a namespace changed: routes and Gateways elsewhere that refer to it.
    pub(super) fn mark_grants(&mut self, namespace: &Arc<str>) {
        let routes: Vec<RouteId> = self
            .gateway
            .routes
            .iter()
            .filter(|(id, facts)| {
                id.namespace != *namespace && backend_namespaces(facts).any(|to| *to == **namespace)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in routes {
            self.mark_route(&id);
        }
        self.mark_referring(|reference, _| reference.namespace.as_deref() == Some(&**namespace));
    }

    /// A Secret or ConfigMap changed: Gateways that refer to it.
    pub(super) fn mark_referring_to(&mut self, (namespace, name): &Named) {
        self.mark_referring(|reference, owner| {
            reference.name == **name
                && reference.namespace.as_deref().unwrap_or(owner) == &**namespace
        });
        for (namespace, name) in self.tls_policies_in(namespace) {
            self.mark_gateway_source(Source::BackendTls(namespace.clone(), name.clone()));
            let targets = self.tls_targets(&(namespace, name));
            for service in targets {
                self.dirty.insert(AnySource::Destination(service));
            }
        }
    }

    fn mark_referring(&mut self, refers: impl Fn(&api::ObjectRefTo, &str) -> bool) {
        let mut stale = Vec::new();
        for (named, facts) in &self.gateway.gateways {
            if gateway_refs(&facts.spec).any(|reference| refers(&reference, &named.0)) {
                stale.push(named.clone());
            }
        }
        for (named, set) in &self.gateway.sets {
            let mut refs = listener_refs(&set.spec.listeners);
            if refs.any(|reference| refers(reference, &named.0)) {
                stale.extend(super::told::set_gateway(named, &set.spec));
            }
        }
        self.gateway.stale.extend(stale);
    }
}

fn listener_refs(listeners: &[api::Listener]) -> impl Iterator<Item = &api::ObjectRefTo> {
    let tls = listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref());
    tls.flat_map(|tls| &tls.certificate_refs)
}

/// Everything that a Gateway refers to, parameters included.
fn gateway_refs(spec: &api::GatewaySpec) -> impl Iterator<Item = api::ObjectRefTo> + '_ {
    let tls = spec.tls.as_ref();
    let backend = tls.and_then(|tls| tls.backend.as_ref()?.client_certificate_ref.as_ref());
    let frontend = tls.and_then(|tls| tls.frontend.as_ref());
    let per_port = frontend
        .into_iter()
        .flat_map(|f| f.per_port.iter().map(|port| &port.tls));
    let configs = frontend.into_iter().map(|f| &f.default).chain(per_port);
    let roots = configs
        .filter_map(|config| config.validation.as_ref())
        .flat_map(|validation| &validation.ca_certificate_refs);
    let parameters = spec
        .infrastructure
        .as_ref()
        .and_then(|i| i.parameters_ref.as_ref());
    let parameters = parameters.map(|p| api::ObjectRefTo {
        name: p.name.clone(),
        ..api::ObjectRefTo::default()
    });
    let refs = listener_refs(&spec.listeners).chain(backend).chain(roots);
    refs.cloned().chain(parameters)
}
