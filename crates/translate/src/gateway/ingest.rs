//! Objects of the Gateway API in: facts are stored, and what may depend on them is marked.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::contract::LABEL_WAYPOINT_FOR;
use tulle_api::gateway as api;

use super::backends::backend_keys;
use super::parents::parent_key;
use super::secret::{config_map_facts, secret_facts};
use super::state::{
    BackendTlsFacts, ClassFacts, GatewayFacts, Meta, Named, ParentKey, RouteFacts, RouteRules,
    SetFacts, State,
};
use super::status::StatusAddress;
use super::told::set_gateway;
use super::{RouteId, RouteKind, Source};
use crate::cluster::{Cluster, Source as AnySource};
use crate::service::created;

impl Cluster {
    /// A Gateway that was added or changed.
    pub fn upsert_gateway(&mut self, gateway: &api::Gateway) {
        let Some(named) = self.names(&gateway.metadata) else {
            return;
        };
        let uid = gateway.metadata.uid.as_deref().unwrap_or_default();
        let reported = gateway.status.iter().flat_map(|status| &status.addresses);
        let facts = GatewayFacts {
            meta: meta(&gateway.metadata),
            uid: uid.into(),
            labels: self.shared(gateway.metadata.labels.as_ref()),
            annotations: self.shared(gateway.metadata.annotations.as_ref()),
            spec: gateway.spec.clone(),
            reported: reported.filter_map(reported_address).collect(),
        };
        if self.gateway.gateways.get(&named) != Some(&facts) {
            self.gateway.gateways.insert(named.clone(), facts);
            self.gateway.stale.insert(named);
        }
    }

    /// A Gateway that is gone.
    pub fn remove_gateway(&mut self, namespace: &str, name: &str) {
        let named = self.named(namespace, name);
        if self.gateway.gateways.remove(&named).is_some() {
            self.gateway.undeployed.remove(&named);
            let source = Source::GatewayStatus(named.0.clone(), named.1.clone());
            self.forget_conditions(&AnySource::Gateway(source));
            self.gateway.stale.insert(named);
        }
    }

    /// A GatewayClass that was added or changed.
    pub fn upsert_gateway_class(&mut self, class: &api::GatewayClass) {
        let Some(name) = class.metadata.name.as_deref() else {
            return;
        };
        let labels = class.metadata.labels.as_ref();
        let waypoint_for = labels.and_then(|labels| labels.get(LABEL_WAYPOINT_FOR));
        let facts = ClassFacts {
            generation: class.metadata.generation,
            controller: class.spec.controller_name.as_str().into(),
            waypoint_for: waypoint_for.map(|text| text.as_str().into()),
        };
        if self.gateway.classes.insert(name.into(), facts.clone()) != Some(facts) {
            self.mark_class(name);
        }
    }

    /// A GatewayClass that is gone.
    pub fn remove_gateway_class(&mut self, name: &str) {
        if self.gateway.classes.remove(name).is_some() {
            self.forget_conditions(&AnySource::Gateway(Source::Class(name.into())));
            self.mark_class(name);
        }
    }

    fn mark_class(&mut self, name: &str) {
        let gateways = self.gateway.gateways.iter();
        let of_class = gateways.filter(|(_, facts)| facts.spec.gateway_class_name == *name);
        let named: Vec<Named> = of_class.map(|(named, _)| named.clone()).collect();
        self.gateway.stale.extend(named);
        self.mark_gateway_source(Source::Class(name.into()));
    }

    /// A ListenerSet that was added or changed.
    pub fn upsert_listener_set(&mut self, set: &api::ListenerSet) {
        let Some(named) = self.names(&set.metadata) else {
            return;
        };
        let facts = SetFacts {
            meta: meta(&set.metadata),
            spec: set.spec.clone(),
        };
        self.set_listener_set(named, Some(facts));
    }

    /// A ListenerSet that is gone.
    pub fn remove_listener_set(&mut self, namespace: &str, name: &str) {
        let named = self.named(namespace, name);
        let source = Source::ListenerSet(named.0.clone(), named.1.clone());
        self.forget_conditions(&AnySource::Gateway(source));
        self.set_listener_set(named, None);
    }

    fn set_listener_set(&mut self, named: Named, new: Option<SetFacts>) {
        let old = self.gateway.sets.get(&named);
        if old == new.as_ref() {
            return;
        }
        let gateway =
            |facts: Option<&SetFacts>| facts.and_then(|facts| set_gateway(&named, &facts.spec));
        let (before, after) = (gateway(old), gateway(new.as_ref()));
        for (gateway, there) in [(before, false), (after, true)] {
            if let Some(gateway) = gateway {
                let table = &mut self.gateway.sets_by_gateway;
                State::relate(table, gateway.clone(), named.clone(), there);
                self.gateway.stale.insert(gateway);
            }
        }
        self.mark_gateway_source(Source::ListenerSet(named.0.clone(), named.1.clone()));
        let parent = ParentKey::ListenerSet(named.clone());
        match new {
            Some(new) => self.gateway.sets.insert(named, new),
            None => self.gateway.sets.remove(&named),
        };
        let routes = self.gateway.routes_by_parent.get(&parent).cloned();
        for id in routes.into_iter().flatten() {
            self.mark_route(&id);
        }
    }

    /// An HTTPRoute that was added or changed.
    pub fn upsert_http_route(&mut self, route: &api::HttpRoute) {
        let spec = &route.spec;
        let rules = RouteRules::Http(spec.rules.clone());
        self.set_route(
            RouteKind::Http,
            &route.metadata,
            &spec.parent_refs,
            &spec.hostnames,
            rules,
        );
    }

    /// A GRPCRoute that was added or changed.
    pub fn upsert_grpc_route(&mut self, route: &api::GrpcRoute) {
        let spec = &route.spec;
        let rules = RouteRules::Grpc(spec.rules.clone());
        self.set_route(
            RouteKind::Grpc,
            &route.metadata,
            &spec.parent_refs,
            &spec.hostnames,
            rules,
        );
    }

    /// A TLSRoute that was added or changed.
    pub fn upsert_tls_route(&mut self, route: &api::TlsRoute) {
        let spec = &route.spec;
        let rules = RouteRules::Stream(spec.rules.clone());
        self.set_route(
            RouteKind::Tls,
            &route.metadata,
            &spec.parent_refs,
            &spec.hostnames,
            rules,
        );
    }

    /// A TCPRoute that was added or changed.
    pub fn upsert_tcp_route(&mut self, route: &api::TcpRoute) {
        let spec = &route.spec;
        let rules = RouteRules::Stream(spec.rules.clone());
        self.set_route(
            RouteKind::Tcp,
            &route.metadata,
            &spec.parent_refs,
            &[],
            rules,
        );
    }

    /// An HTTPRoute that is gone.
    pub fn remove_http_route(&mut self, namespace: &str, name: &str) {
        self.remove_route(RouteKind::Http, namespace, name);
    }

    /// A GRPCRoute that is gone.
    pub fn remove_grpc_route(&mut self, namespace: &str, name: &str) {
        self.remove_route(RouteKind::Grpc, namespace, name);
    }

    /// A TLSRoute that is gone.
    pub fn remove_tls_route(&mut self, namespace: &str, name: &str) {
        self.remove_route(RouteKind::Tls, namespace, name);
    }

    /// A TCPRoute that is gone.
    pub fn remove_tcp_route(&mut self, namespace: &str, name: &str) {
        self.remove_route(RouteKind::Tcp, namespace, name);
    }

    fn set_route(
        &mut self,
        kind: RouteKind,
        metadata: &ObjectMeta,
        parents: &[api::ParentReference],
        hostnames: &[String],
        rules: RouteRules,
    ) {
        let Some((namespace, name)) = self.names(metadata) else {
            return;
        };
        let hostnames = hostnames
            .iter()
            .map(|host| host.to_ascii_lowercase().into());
        let facts = RouteFacts {
            meta: meta(metadata),
            parents: parents.to_vec(),
            hostnames: hostnames.collect(),
            rules,
        };
        let id = RouteId {
            kind,
            namespace,
            name,
        };
        self.replace_route(id, Some(facts));
    }

    fn remove_route(&mut self, kind: RouteKind, namespace: &str, name: &str) {
        let (namespace, name) = self.named(namespace, name);
        let id = RouteId {
            kind,
            namespace,
            name,
        };
        if self.gateway.routes.contains_key(&id) {
            self.forget_conditions(&AnySource::Gateway(Source::Route(id.clone())));
            self.replace_route(id, None);
        }
    }

    fn replace_route(&mut self, id: RouteId, new: Option<RouteFacts>) {
        if self.gateway.routes.get(&id) == new.as_ref() {
            return;
        }
        let old = self.gateway.routes.remove(&id);
        for (facts, there) in [(&old, false), (&new, true)] {
            if let Some(facts) = facts {
                self.relate_route(&id, facts, there);
                self.mark_parents(facts, &id.namespace);
            }
        }
        self.mark_gateway_source(Source::Route(id.clone()));
        if let Some(new) = new {
            self.gateway.routes.insert(id, new);
        }
    }

    fn relate_route(&mut self, id: &RouteId, facts: &RouteFacts, there: bool) {
        for parent in &facts.parents {
            if let Some(key) = parent_key(parent, &id.namespace) {
                let table = &mut self.gateway.routes_by_parent;
                State::relate(table, key, id.clone(), there);
            }
        }
        let backends = backend_keys(facts, &id.namespace, &self.settings.domain);
        for key in &backends {
            let table = &mut self.gateway.routes_by_backend;
            State::relate(table, key.clone(), id.clone(), there);
        }
        self.mark_backends(backends);
    }

    /// A ReferenceGrant that was added or changed.
    pub fn upsert_reference_grant(&mut self, grant: &api::ReferenceGrant) {
        let Some(named) = self.names(&grant.metadata) else {
            return;
        };
        let namespace = named.0.clone();
        if self
            .gateway
            .grants
            .insert(named, grant.spec.clone())
            .as_ref()
            != Some(&grant.spec)
        {
            self.mark_grants(&namespace);
        }
    }

    /// A ReferenceGrant that is gone.
    pub fn remove_reference_grant(&mut self, namespace: &str, name: &str) {
        let named = self.named(namespace, name);
        if self.gateway.grants.remove(&named).is_some() {
            self.mark_grants(&named.0);
        }
    }

    /// A BackendTLSPolicy that was added or changed.
    pub fn upsert_backend_tls_policy(&mut self, policy: &api::BackendTlsPolicy) {
        let Some(named) = self.names(&policy.metadata) else {
            return;
        };
        let facts = BackendTlsFacts {
            meta: meta(&policy.metadata),
            spec: policy.spec.clone(),
        };
        if self.gateway.backend_tls.get(&named) != Some(&facts) {
            self.mark_tls_policy(&named);
            self.gateway.backend_tls.insert(named.clone(), facts);
            self.mark_tls_policy(&named);
        }
    }

    /// A BackendTLSPolicy that is gone.
    pub fn remove_backend_tls_policy(&mut self, namespace: &str, name: &str) {
        let named = self.named(namespace, name);
        if self.gateway.backend_tls.contains_key(&named) {
            let source = Source::BackendTls(named.0.clone(), named.1.clone());
            self.forget_conditions(&AnySource::Gateway(source));
            self.mark_tls_policy(&named);
            self.gateway.backend_tls.remove(&named);
        }
    }

    fn mark_tls_policy(&mut self, named: &Named) {
        self.mark_gateway_source(Source::BackendTls(named.0.clone(), named.1.clone()));
        for service in self.tls_targets(named) {
            self.mark_destination(&service);
        }
    }

    /// A Secret that was added or changed. Only those with certificates are kept.
    pub fn upsert_secret(&mut self, secret: &core::Secret) {
        let Some(named) = self.names(&secret.metadata) else {
            return;
        };
        match secret_facts(secret) {
            Some(facts) if self.gateway.secrets.get(&named) == Some(&facts) => {}
            Some(facts) => {
                self.gateway.secrets.insert(named.clone(), facts);
                self.secret_changed(&named);
            }
            None => self.remove_secret(&named.0, &named.1),
        }
    }

    /// A Secret that is gone.
    pub fn remove_secret(&mut self, namespace: &str, name: &str) {
        let named = self.named(namespace, name);
        if self.gateway.secrets.remove(&named).is_some() {
            self.secret_changed(&named);
        }
    }

    fn secret_changed(&mut self, named: &Named) {
        self.mark_secret(named);
        self.mark_networking_of_secret(named);
        self.mark_referring_to(named);
    }

    /// Who may have a certificate may have changed.
    pub(crate) fn mark_secret(&mut self, (namespace, name): &Named) {
        self.mark_gateway_source(Source::Certificate(namespace.clone(), name.clone()));
    }

    /// A ConfigMap that was added or changed.
    pub fn upsert_config_map(&mut self, map: &core::ConfigMap) {
        let Some(named) = self.names(&map.metadata) else {
            return;
        };
        let mut facts = config_map_facts(map);
        // The cluster's own roots are the same in every namespace.
        facts.roots = facts.roots.map(|roots| self.texts.intern(&roots));
        if self
            .gateway
            .config_maps
            .insert(named.clone(), facts.clone())
            != Some(facts)
        {
            self.mark_referring_to(&named);
        }
    }

    /// A ConfigMap that is gone.
    pub fn remove_config_map(&mut self, namespace: &str, name: &str) {
        let named = self.named(namespace, name);
        if self.gateway.config_maps.remove(&named).is_some() {
            self.mark_referring_to(&named);
        }
    }

    /// Addresses that a load balancer gave to a Service; `None` for Services without load balancer.
    pub(crate) fn set_load_balancer(&mut self, named: &Named, service: Option<&core::Service>) {
        let balanced = service.filter(|service| {
            let spec = service.spec.as_ref();
            spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
        });
        let given = balanced.map(|service| {
            let ingress = service
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref());
            let ingress = ingress
                .and_then(|balancer| balancer.ingress.as_ref())
                .into_iter()
                .flatten();
            let address = |i: &core::LoadBalancerIngress| {
                let ip = i.ip.as_ref().map(|ip| ("IPAddress", ip));
                let (kind, value) = ip.or(i.hostname.as_ref().map(|host| ("Hostname", host)))?;
                Some(StatusAddress {
                    kind,
                    value: value.as_str().into(),
                })
            };
            ingress.filter_map(address).collect::<Vec<_>>()
        });
        let table = &mut self.gateway.load_balancers;
        let changed = match given {
            Some(given) => table.insert(named.clone(), given.clone()) != Some(given),
            None => table.remove(named).is_some(),
        };
        if changed {
            let hostname = self.hostname(&named.1, &named.0);
            let gateways = self.gateway.gateways_by_service.get(&hostname).cloned();
            self.gateway.stale.extend(gateways.into_iter().flatten());
        }
    }

    pub(super) fn named(&mut self, namespace: &str, name: &str) -> Named {
        (self.texts.intern(namespace), self.texts.intern(name))
    }

    fn shared(&mut self, texts: Option<&BTreeMap<String, String>>) -> BTreeMap<Arc<str>, Arc<str>> {
        let pairs = texts.into_iter().flatten();
        pairs
            .map(|(key, value)| (self.texts.intern(key), value.as_str().into()))
            .collect()
    }
}

fn meta(metadata: &ObjectMeta) -> Meta {
    Meta {
        generation: metadata.generation,
        created: created(metadata),
    }
}

fn reported_address(address: &api::Address) -> Option<StatusAddress> {
    let kind = match address.type_.as_deref() {
        None | Some("IPAddress") => "IPAddress",
        Some("Hostname") => "Hostname",
        Some(_) => return None,
    };
    Some(StatusAddress {
        kind,
        value: address.value.as_str().into(),
    })
}
