//! VirtualService to routes of waypoints and gateways.
//!
//! A waypoint heeds the objects of its own namespace and of the service's, as Istio's does; the first rule that matches wins,
//! older objects first. What a rule asks for and cannot be had is left out and told in the condition; a match that cannot be
//! checked never matches.

mod delegates;
mod filters;
mod matches;
mod mentions;
mod retries;
mod rules;
mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::networking::{HttpRoute as ApiRoute, VirtualServiceSpec};
use tulle_model::ServiceKey;
use tulle_route::resource::{HttpRoute, ObjectKey, Parent, Precedence, Rule, StreamRoute};

use super::findings::Findings;
use super::gateway::Serves;
use super::names::{covers, exported};
use super::{Name, Object};
use crate::cluster::{Cluster, Outputs, Value};
use crate::condition::{ObjectKind, reason};
use crate::resource::{Audience, Resource};
pub(super) use delegates::{delegates, is_delegate};
pub(super) use matches::compiles;
pub(super) use mentions::{Mentioned, Mentions};
use rules::Context;

/// Name of everything that is no gateway, among `gateways`.
pub(super) const MESH: &str = "mesh";

/// Where routes count; matches can name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Waypoints.
    Mesh,
    /// An Istio Gateway.
    Gateway(Name),
}

impl Place {
    /// Whether a list of gateways, as an object of `namespace` writes it, names this place. An empty list leaves it open.
    fn is_named(&self, gateways: &[String], namespace: &str) -> bool {
        gateways.is_empty()
            || gateways
                .iter()
                .any(|text| *self == Self::parse(text, namespace))
    }

    fn parse(text: &str, namespace: &str) -> Self {
        match text.split_once('/') {
            _ if text == MESH => Self::Mesh,
            Some((namespace, name)) => Self::Gateway((namespace.into(), name.into())),
            None => Self::Gateway((namespace.into(), text.into())),
        }
    }
}

/// Where the routes of one place are attached, and who gets them.
#[derive(Default)]
struct Attached {
    http: Vec<Parent>,
    streams: Vec<Parent>,
    /// Listeners of TLS that ends elsewhere.
    passthrough: Vec<Parent>,
    /// Listeners of any bytes.
    tcp: Vec<Parent>,
    audience: BTreeSet<Arc<str>>,
}

/// Places that an object asks for.
pub(super) fn places(spec: &VirtualServiceSpec, namespace: &str) -> BTreeSet<Place> {
    if spec.gateways.is_empty() {
        return BTreeSet::from([Place::Mesh]);
    }
    spec.gateways
        .iter()
        .map(|text| Place::parse(text, namespace))
        .collect()
}

impl Cluster {
    /// Routes and the condition of one object.
    pub(super) fn virtual_service(&self, name: &Name) -> Option<Outputs> {
        self.is_discovered(&name.0).then_some(())?;
        let object = self.networking.virtual_services.get(name)?;
        let mut findings = Findings::default();
        let mut outputs = Outputs::new();
        let mut attached = Vec::new();
        if is_delegate(&object.spec) {
            attached.extend(
                self.roots_of(name)
                    .map(|(ns, root)| format!("VirtualService {ns}/{root}")),
            );
        } else {
            let rules = self.expanded(name, &object.spec, &mut findings);
            for place in places(&object.spec, &name.0) {
                let at = self.attached(name, object, &place, &mut findings);
                attached.extend(at.audience.iter().map(ToString::to_string));
                outputs.extend(self.routes_at(name, object, &place, &rules, at, &mut findings));
            }
        }
        attached.sort();
        attached.dedup();
        let otherwise = || {
            (
                reason::ANCESTOR_NOT_BOUND,
                self.why_not_attached(name, object),
            )
        };
        let condition = findings.condition(&attached, otherwise, object.generation);
        outputs.push(super::conditions(
            ObjectKind::VirtualService,
            name,
            vec![condition],
        ));
        Some(outputs)
    }

    fn routes_at(
        &self,
        name: &Name,
        object: &Object<VirtualServiceSpec>,
        place: &Place,
        rules: &[(Arc<str>, usize, ApiRoute)],
        at: Attached,
        findings: &mut Findings,
    ) -> Outputs {
        let mut outputs = Outputs::new();
        let key = |name: &Name| {
            let own = match place {
                Place::Mesh => name.1.to_string(),
                Place::Gateway((namespace, gateway)) => {
                    format!("{}@{namespace}.{gateway}", name.1)
                }
            };
            ObjectKey::new("VirtualService", &name.0, &own)
        };
        let audience = || Audience::Gateways(at.audience.clone());
        if !at.http.is_empty() && !rules.is_empty() {
            let route = HttpRoute {
                object: key(name),
                parents: at.http,
                created: object.created,
                precedence: Precedence::InOrder,
                rules: self.rules_in_order(rules, place, findings),
            };
            outputs.push(Value::resource(
                audience(),
                Resource::HttpRoute(Box::new(route)),
            ));
        }
        // A listener of connections takes one of the two kinds of routes, a service both.
        let spec = &object.spec;
        let passed = (at.passthrough, &spec.tls[..], &[][..]);
        let bytes = (at.tcp, &[][..], &spec.tcp[..]);
        let both = (at.streams, &spec.tls[..], &spec.tcp[..]);
        for (parents, tls, tcp) in [both, passed, bytes] {
            if parents.is_empty() || (tls.is_empty() && tcp.is_empty()) {
                continue;
            }
            let mut context = Context {
                cluster: self,
                namespace: &name.0,
                findings,
            };
            let mut object_key = key(name);
            if tls.is_empty() && *place != Place::Mesh {
                let own = format!("{}.tcp", object_key.name());
                object_key = ObjectKey::new(object_key.kind(), object_key.namespace(), &own);
            }
            let route = StreamRoute {
                object: object_key,
                parents,
                created: object.created,
                precedence: Precedence::InOrder,
                rules: context.streams(tls, tcp, place),
            };
            outputs.push(Value::resource(
                audience(),
                Resource::StreamRoute(Box::new(route)),
            ));
        }
        outputs
    }

    /// The rules for one place. What stands behind a rule that takes everything is left out: it would be asked first, because rules
    /// that take everything come last where several objects are about one host.
    fn rules_in_order(
        &self,
        rules: &[(Arc<str>, usize, ApiRoute)],
        place: &Place,
        findings: &mut Findings,
    ) -> Vec<Rule> {
        let mut all = Vec::with_capacity(rules.len());
        for (namespace, index, route) in rules {
            let mut context = Context {
                cluster: self,
                namespace,
                findings,
            };
            let Some(rule) = context.rule(*index, route, place) else {
                continue;
            };
            let last = matches::take_everything(&rule.matches);
            all.push(rule);
            if last {
                break;
            }
        }
        all
    }

    fn attached(
        &self,
        name: &Name,
        object: &Object<VirtualServiceSpec>,
        place: &Place,
        findings: &mut Findings,
    ) -> Attached {
        match place {
            Place::Mesh => self.attached_to_services(name, object),
            Place::Gateway(gateway) => self.attached_to_gateway(name, object, gateway, findings),
        }
    }

    fn attached_to_services(&self, name: &Name, object: &Object<VirtualServiceSpec>) -> Attached {
        let mut attached = Attached::default();
        let mut services: BTreeSet<ServiceKey> = BTreeSet::new();
        for host in &object.spec.hosts {
            let host = self.qualified(host, &name.0);
            if host.starts_with('*') {
                let wild = self.hostnames.keys().filter(|name| covers(&host, name));
                let free = wild.filter(|hostname| !self.networking.mentions.is_routed(hostname));
                services.extend(
                    free.flat_map(|hostname| self.services_of_host(hostname))
                        .map(|s| s.key.clone()),
                );
            } else {
                services.extend(
                    self.services_of_host(&host)
                        .map(|service| service.key.clone()),
                );
            }
        }
        for service in services {
            let waypoints = self.heeding(&name.0, &object.spec.export_to, &service);
            if waypoints.is_empty() {
                continue;
            }
            attached.audience.extend(waypoints);
            let parent = Parent::Service {
                service,
                port: None,
            };
            attached.http.push(parent.clone());
            attached.streams.push(parent);
        }
        attached
    }

    /// Waypoints of a service that heed objects of this namespace: its own, or the service's.
    pub(super) fn heeding(
        &self,
        namespace: &str,
        export_to: &[String],
        service: &ServiceKey,
    ) -> BTreeSet<Arc<str>> {
        let of_waypoint = |waypoint: &str| {
            waypoint
                .split_once('/')
                .is_some_and(|(ns, _)| ns == namespace)
        };
        let seen = |waypoint: &str| {
            let (other, _) = waypoint.split_once('/').unwrap_or_default();
            exported(export_to, namespace, other)
                || exported(export_to, namespace, service.namespace())
        };
        let waypoints = self.waypoints_of(service).into_iter();
        waypoints
            .filter(|w| service.namespace() == namespace || of_waypoint(w))
            .filter(|w| seen(w))
            .collect()
    }

    fn attached_to_gateway(
        &self,
        name: &Name,
        object: &Object<VirtualServiceSpec>,
        gateway: &Name,
        findings: &mut Findings,
    ) -> Attached {
        let mut attached = Attached::default();
        if !self.networking.gateways.contains_key(gateway) {
            findings.invalid(
                "spec.gateways",
                format!("there is no Gateway {}/{}", gateway.0, gateway.1),
            );
            return attached;
        }
        let hosts: Vec<Arc<str>> = object
            .spec
            .hosts
            .iter()
            .map(|host| self.qualified(host, &name.0))
            .collect();
        for listener in self.listeners_of(gateway) {
            if !exported(&object.spec.export_to, &name.0, &listener.proxy.0) {
                continue;
            }
            let Some(hostnames) = listener.hostnames_for(&name.0, &hosts) else {
                continue;
            };
            let key: Arc<str> = format!("{}/{}", listener.proxy.0, listener.proxy.1).into();
            let parent = Parent::Listener {
                gateway: key.clone(),
                listener: listener.name.clone(),
                hostnames,
            };
            attached.audience.insert(key);
            match listener.serves {
                Serves::Requests if listener.redirects => {}
                Serves::Requests => attached.http.push(parent),
                Serves::Passthrough => attached.passthrough.push(parent),
                Serves::Bytes => attached.tcp.push(parent),
            }
        }
        attached
    }

    fn why_not_attached(&self, name: &Name, object: &Object<VirtualServiceSpec>) -> String {
        if is_delegate(&object.spec) {
            return "it has no hosts, and no VirtualService delegates to it".to_owned();
        }
        if !places(&object.spec, &name.0).contains(&Place::Mesh) {
            return "no gateway pod is selected by its gateways, or none of their hosts is one of its hosts".to_owned();
        }
        let hosts: Vec<Arc<str>> = object
            .spec
            .hosts
            .iter()
            .map(|host| self.qualified(host, &name.0))
            .collect();
        let known: Vec<ServiceKey> = hosts
            .iter()
            .flat_map(|host| self.services_of_host(host))
            .map(|s| s.key.clone())
            .collect();
        match known.first() {
            None => format!("no service has one of its hosts ({})", hosts.join(", ")),
            Some(service) if self.waypoints_of(service).is_empty() => format!(
                "no waypoint serves {service}: label the Service or its namespace with istio.io/use-waypoint"
            ),
            Some(service) if !self.heeding(&name.0, &[], service).is_empty() => format!(
                "spec.exportTo names neither the namespace of {service} nor that of its waypoint"
            ),
            Some(service) => format!(
                "waypoints heed the namespaces of the service and of the waypoint only, and {} is neither for {service}",
                name.0
            ),
        }
    }

    /// Proxies (`namespace/name` of their Gateways) that routes of this object are sent to.
    pub(super) fn attachments(&self, name: &Name) -> BTreeSet<Arc<str>> {
        let Some(object) = self.networking.virtual_services.get(name) else {
            return BTreeSet::new();
        };
        if is_delegate(&object.spec) {
            let roots: Vec<Name> = self.roots_of(name).cloned().collect();
            let roots = roots.iter().filter(|root| *root != name);
            return roots
                .flat_map(|root| self.attachments_of_root(root))
                .collect();
        }
        self.attachments_of_root(name)
    }

    fn attachments_of_root(&self, name: &Name) -> BTreeSet<Arc<str>> {
        let Some(object) = self
            .networking
            .virtual_services
            .get(name)
            .filter(|o| !is_delegate(&o.spec))
        else {
            return BTreeSet::new();
        };
        let places = places(&object.spec, &name.0).into_iter();
        places
            .flat_map(|place| {
                self.attached(name, object, &place, &mut Findings::default())
                    .audience
            })
            .collect()
    }

    fn roots_of<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a Name> {
        self.networking.mentions.roots(name)
    }
}
