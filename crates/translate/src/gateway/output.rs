//! What the proxies of a Gateway are told, and what is deployed for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_api::contract::{
    ANNOTATION_CLIENT_IDENTITY, ANNOTATION_GATEWAY_CONTROLLER_VERSION,
    ANNOTATION_GATEWAY_SERVICE_ACCOUNT, ANNOTATION_SERVICE_TYPE, DATAPLANE_MODE_AMBIENT,
    LABEL_DATAPLANE_MODE, LABEL_REV, PORT_HBONE,
};
use tulle_route::resource::{Certificate, Gateway, Listener, Protocol, Role};

use super::addresses::workload_name;
use super::listeners::{Listening, View};
use super::state::{GatewayFacts, Named};
use super::{Class, Deployable, DeployedPort};
use crate::cluster::{Cluster, Key, Outputs, Value};
use crate::resource::{Audience, Resource};
use crate::service::{ServiceFacts, Target};

impl Cluster {
    /// The Gateway resource, and what is deployed.
    pub(super) fn gateway_outputs(&self, named: &Named) -> Option<Outputs> {
        let facts = self.gateway.gateways.get(named)?;
        let view = self.gateway.views.get(named)?;
        if view.refused.is_some() {
            return None;
        }
        let gateway = Gateway {
            namespace: named.0.clone(),
            name: named.1.clone(),
            role: self.role(facts, view),
            listeners: self.proxy_listeners(view),
            backend_certificate: view.backend_certificate.clone(),
            client_identity: view.class == Class::Waypoint && client_identity(facts),
        };
        let audience = Audience::Gateways(BTreeSet::from([key(named)]));
        let mut outputs = vec![Value::resource(
            audience,
            Resource::Gateway(Box::new(gateway)),
        )];
        if view.unmanaged.is_none() {
            let deployable = deployable(named, facts, view);
            outputs.push((
                Key::Deployable(named.0.clone(), named.1.clone()),
                Value::Deployable(Box::new(deployable)),
            ));
        }
        Some(outputs)
    }

    fn role(&self, facts: &GatewayFacts, view: &View) -> Role {
        if view.class == Class::Gateway {
            return Role::Gateway;
        }
        let (services, workloads) = self.serves(facts);
        Role::Waypoint {
            services,
            workloads,
        }
    }

    fn proxy_listeners(&self, view: &View) -> Vec<Listener> {
        let mut listeners: Vec<Listener> = view
            .listeners
            .iter()
            .filter_map(|listening| self.proxy_listener(view, listening))
            .collect();
        // A waypoint listens even if its specification does not say so: there is nothing else that it could do.
        if view.class == Class::Waypoint && listeners.is_empty() {
            listeners.push(Listener {
                name: "mesh".into(),
                port: PORT_HBONE,
                service_port: PORT_HBONE,
                hostname: None,
                protocol: Protocol::Hbone,
            });
        }
        listeners
    }

    fn proxy_listener(&self, view: &View, listening: &Listening) -> Option<Listener> {
        Some(Listener {
            name: listening.wire.clone(),
            port: self.target_port(view, listening.port),
            service_port: listening.port,
            hostname: listening.hostname.clone(),
            protocol: listening.protocol.clone()?,
        })
    }

    /// Where the proxy listens: what we deploy uses the same port, a Service of the user's may lead elsewhere.
    fn target_port(&self, view: &View, port: u16) -> u16 {
        let services = view.unmanaged.iter().flatten();
        let mut targets = services.filter_map(|hostname| {
            let mut claims = self.hostnames.get(hostname)?.iter();
            claims.find_map(|(namespace, id)| {
                let state = self.namespace(namespace)?;
                let service = state.services.get(id)?;
                let facts = service.ports.iter().find(|p| p.number == port)?;
                match &facts.target {
                    Target::Number(target) => Some(*target),
                    Target::Name(name) => named_port(state, service, name),
                }
            })
        });
        targets.next().unwrap_or(port)
    }

    /// Gateways (`namespace/name`) whose proxies a pod is: by its label, or because a Service that a Gateway names selects it.
    pub fn gateways_of(&self, namespace: &str, pod: &str) -> BTreeSet<Arc<str>> {
        let mut gateways = BTreeSet::new();
        let Some(state) = self.namespaces.get(namespace) else {
            return gateways;
        };
        let Some(facts) = state.pods.get(pod) else {
            return gateways;
        };
        gateways.extend(self.networking_gateway_of(namespace, pod));
        if let Some(name) = facts.labels.get(tulle_api::contract::LABEL_GATEWAY_NAME) {
            gateways.insert(format!("{namespace}/{name}").into());
        }
        let selecting: Vec<&Arc<str>> = state
            .service_selectors
            .selecting(&facts.labels)
            .map(|id| &id.hostname)
            .collect();
        for (named, view) in self
            .gateway
            .views
            .iter()
            .filter(|(named, _)| *named.0 == *namespace)
        {
            let mut services = view.unmanaged.iter().flatten();
            if services.any(|service| selecting.contains(&service)) {
                gateways.insert(key(named));
            }
        }
        gateways.extend(self.networking_gateway_of(namespace, pod));
        gateways
    }

    /// A Secret, for those whose listeners name it.
    pub(super) fn certificate_output(&self, named: &Named) -> Option<Outputs> {
        let secret = self.gateway.secrets.get(named)?;
        let (chain, private) = secret.pair.as_ref().ok()?;
        let name = key(named);
        let views = self.gateway.views.iter();
        let mut audience: BTreeSet<Arc<str>> = views
            .filter(|(_, view)| view.refused.is_none() && view.certificates().any(|c| *c == name))
            .map(|(gateway, _)| key(gateway))
            .collect();
        audience.extend(self.networking_certificate_users(named));
        if audience.is_empty() {
            return None;
        }
        let certificate = Certificate {
            name,
            chain: chain.clone(),
            key: private.clone(),
            roots: secret.roots.clone(),
        };
        let resource = Resource::Certificate(Box::new(certificate));
        Some(vec![Value::resource(
            Audience::Gateways(audience),
            resource,
        )])
    }
}

/// Said on the Gateway itself, or for all that is made for it.
fn client_identity(facts: &GatewayFacts) -> bool {
    let infrastructure = facts.spec.infrastructure.as_ref();
    let below = infrastructure.and_then(|i| i.annotations.get(ANNOTATION_CLIENT_IDENTITY));
    let own = facts.annotations.get(ANNOTATION_CLIENT_IDENTITY);
    let own = own.map(|value| &**value).or(below.map(String::as_str));
    own.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// `namespace/name`.
pub(super) fn key((namespace, name): &Named) -> Arc<str> {
    format!("{namespace}/{name}").into()
}

/// A named port on the first pod, by name, that has it.
fn named_port(
    state: &crate::cluster::state::Namespace,
    service: &ServiceFacts,
    name: &str,
) -> Option<u16> {
    if service.selector.is_empty() {
        return None;
    }
    let selected = state
        .pods
        .iter()
        .filter(|(_, pod)| service.selector.selects(&pod.labels));
    let ports = selected.filter_map(|(pod, facts)| Some((pod, facts.port(name)?)));
    ports.min().map(|(_, port)| port)
}

fn deployable(named: &Named, facts: &GatewayFacts, view: &View) -> Deployable {
    let workload_name = workload_name(named, facts, view.class);
    let annotation = |key: &str| facts.annotations.get(key).cloned();
    let infrastructure = facts.spec.infrastructure.as_ref();
    let shared = |texts: &BTreeMap<String, String>| -> BTreeMap<Arc<str>, Arc<str>> {
        texts
            .iter()
            .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
            .collect()
    };
    // With `infrastructure`, the Gateway's own are not copied.
    let (labels, annotations) = match infrastructure {
        Some(infrastructure) => (
            shared(&infrastructure.labels),
            shared(&infrastructure.annotations),
        ),
        None => (facts.labels.clone(), own_annotations(facts)),
    };
    let service_account = annotation(ANNOTATION_GATEWAY_SERVICE_ACCOUNT);
    let captured = facts.labels.get(LABEL_DATAPLANE_MODE);
    Deployable {
        namespace: named.0.clone(),
        name: named.1.clone(),
        uid: facts.uid.clone(),
        class_name: facts.spec.gateway_class_name.as_str().into(),
        class: view.class,
        service_account: service_account.unwrap_or_else(|| workload_name.clone()),
        workload_name,
        service_type: annotation(ANNOTATION_SERVICE_TYPE),
        ports: ports(view),
        addresses: view.addresses.clone(),
        labels,
        annotations,
        parameters: infrastructure
            .and_then(|i| i.parameters_ref.as_ref())
            .map(|parameters| parameters.name.as_str().into()),
        revision: facts.labels.get(LABEL_REV).cloned(),
        controller_version: annotation(ANNOTATION_GATEWAY_CONTROLLER_VERSION),
        captured: captured.is_some_and(|mode| **mode == *DATAPLANE_MODE_AMBIENT),
    }
}

/// Without those that are about the Gateway object itself.
fn own_annotations(facts: &GatewayFacts) -> BTreeMap<Arc<str>, Arc<str>> {
    let about_itself = |key: &str| {
        key.starts_with("kubectl.kubernetes.io/")
            || key.starts_with("gateway.istio.io/")
            || key == ANNOTATION_SERVICE_TYPE
    };
    let annotations = facts
        .annotations
        .iter()
        .filter(|(key, _)| !about_itself(key));
    annotations.map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Ports of the Service, those of listeners that still wait for a certificate included: it would be odd if the Service changed
/// when one comes.
fn ports(view: &View) -> Vec<DeployedPort> {
    let mut ports: BTreeMap<u16, DeployedPort> = BTreeMap::new();
    for listening in view
        .listeners
        .iter()
        .filter(|l| l.takes_routes() && l.port != 0)
    {
        let protocol = listening.protocol_name.to_ascii_lowercase();
        ports.entry(listening.port).or_insert_with(|| DeployedPort {
            port: listening.port,
            name: port_name(&listening.section, listening.port),
            app_protocol: match protocol.as_str() {
                "http" => "http",
                "https" => "https",
                "tls" => "tls",
                "hbone" => "hbone",
                _ => "tcp",
            },
        });
    }
    if view.class == Class::Waypoint && ports.is_empty() {
        ports.insert(
            PORT_HBONE,
            DeployedPort {
                port: PORT_HBONE,
                name: "mesh".into(),
                app_protocol: "hbone",
            },
        );
    }
    ports.into_values().collect()
}

/// Names of a Service's ports are labels; those of listeners may be longer and hold dots.
fn port_name(section: &str, port: u16) -> Arc<str> {
    let fits = section.len() <= 15
        && section
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let fits = fits && section.bytes().any(|b| b.is_ascii_lowercase());
    if fits {
        section.into()
    } else {
        format!("port-{port}").into()
    }
}
