//! Istio's own Gateway (networking.istio.io): listeners for the pods that its selector means.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::networking::{GatewaySpec, Server, ServerTlsMode};
use tulle_route::resource::{
    Gateway, HostPattern, HttpRoute, Listener, ObjectKey, Parent, Precedence, Protocol, Redirect,
    Role, Rule, RuleAction, Timeouts,
};

use super::findings::{Findings, shown};
use super::names::{covers, intersection};
use super::{Name, Object};
use crate::cluster::{Cluster, Outputs, Value};
use crate::condition::{ObjectKind, reason};
use crate::labels::Labels;
use crate::resource::{Audience, Resource};
use crate::service::Target;

/// A listener of one proxy, as routes see it.
pub(super) struct Bound {
    pub(super) proxy: Name,
    /// Unique in the proxy's resource.
    pub(super) name: Arc<str>,
    pub(super) serves: Serves,
    /// `httpsRedirect`: whatever routes say, requests are sent over to HTTPS.
    pub(super) redirects: bool,
    /// Of the server: `namespace/host`, namespace `*` or `.`, already without the latter.
    host: (Arc<str>, Arc<str>),
}

impl Bound {
    /// Host names of a route in `namespace` that count here; `None` when none does. Names without HTTP and TLS mean nothing.
    pub(super) fn hostnames_for(
        &self,
        namespace: &str,
        hosts: &[Arc<str>],
    ) -> Option<Vec<HostPattern>> {
        let (allowed, pattern) = &self.host;
        if **allowed != *"*" && **allowed != *namespace {
            return None;
        }
        let mut both: Vec<HostPattern> = hosts
            .iter()
            .filter_map(|host| intersection(pattern, host))
            .collect();
        both.sort();
        both.dedup();
        (!both.is_empty()).then_some(both)
    }
}

/// What routes of a listener see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// Requests.
    Requests,
    /// TLS that ends elsewhere.
    Passthrough,
    /// Any bytes.
    Bytes,
}

/// What becomes of a server.
struct Served {
    protocol: Protocol,
    http: bool,
    redirect: bool,
}

impl Cluster {
    /// Listeners that one Gateway gives, for all proxies that it selects.
    pub(super) fn listeners_of(&self, gateway: &Name) -> Vec<Bound> {
        let found = self.networking.gateways.get(gateway);
        let Some(object) = found.filter(|_| self.is_discovered(&gateway.0)) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for proxy in self.proxies_of(object) {
            for (at, server) in object.spec.servers.iter().enumerate() {
                let Some(served) = self.served(&proxy, at, server, &mut Findings::default()) else {
                    continue;
                };
                for (host_at, host) in server.hosts.iter().enumerate() {
                    all.push(Bound {
                        proxy: proxy.clone(),
                        name: listener_name(gateway, at, host_at),
                        serves: match (&served.protocol, served.http) {
                            (_, true) => Serves::Requests,
                            (Protocol::Passthrough, _) => Serves::Passthrough,
                            _ => Serves::Bytes,
                        },
                        redirects: served.redirect,
                        host: host_parts(host, &gateway.0),
                    });
                }
            }
        }
        all
    }

    /// Proxies that a Gateway selects. Those of the Gateway API have their listeners from there.
    pub(super) fn proxies_of(&self, object: &Object<GatewaySpec>) -> Vec<Name> {
        let selector = Labels::from_pairs(&object.spec.selector);
        if selector.is_empty() {
            return Vec::new();
        }
        let selected = self
            .networking
            .proxies
            .iter()
            .filter(|(_, proxy)| !proxy.managed && proxy.is_selected(&selector));
        selected.map(|(name, _)| name.clone()).collect()
    }

    /// The condition of one Gateway.
    pub(super) fn istio_gateway(&self, name: &Name) -> Option<Outputs> {
        self.is_discovered(&name.0).then_some(())?;
        let object = self.networking.gateways.get(name)?;
        let mut findings = Findings::default();
        let proxies = self.proxies_of(object);
        let first = proxies.first().cloned().unwrap_or_else(|| name.clone());
        for (at, server) in object.spec.servers.iter().enumerate() {
            self.served(&first, at, server, &mut findings);
        }
        let attached: Vec<String> = proxies
            .iter()
            .map(|(ns, name)| format!("{ns}/{name}"))
            .collect();
        let otherwise = || {
            let managed = self.networking.proxies.iter();
            let selector = Labels::from_pairs(&object.spec.selector);
            let managed = managed
                .filter(|(_, proxy)| proxy.managed && proxy.is_selected(&selector))
                .count();
            let why = if selector.is_empty() {
                "an empty selector selects no pods here: name the labels of the gateway's pods"
            } else if managed > 0 {
                "the pods that it selects belong to a Gateway of gateway.networking.k8s.io, which has listeners of its own"
            } else {
                "it selects no gateway pods"
            };
            (reason::ANCESTOR_NOT_BOUND, why.to_owned())
        };
        let condition = findings.condition(&attached, otherwise, object.generation);
        Some(vec![super::conditions(
            ObjectKind::IstioGateway,
            name,
            vec![condition],
        )])
    }

    /// What one proxy that a user made listens on, from all Gateways that select it.
    pub(super) fn proxy(&self, proxy: &Name) -> Option<Outputs> {
        if self.networking.proxies.get(proxy)?.managed {
            return None;
        }
        let key: Arc<str> = format!("{}/{}", proxy.0, proxy.1).into();
        let audience = || Audience::Gateways(BTreeSet::from([key.clone()]));
        let mut listeners = Vec::new();
        let mut redirects = Vec::new();
        let mut gateways: Vec<(&Name, &Object<GatewaySpec>)> =
            self.networking.gateways.iter().collect();
        gateways.sort_by_key(|(name, object)| (object.created, (*name).clone()));
        for (gateway, object) in gateways {
            if !self.is_discovered(&gateway.0) || !self.proxies_of(object).contains(proxy) {
                continue;
            }
            for (at, server) in object.spec.servers.iter().enumerate() {
                let Some(served) = self.served(proxy, at, server, &mut Findings::default()) else {
                    continue;
                };
                let Ok(service_port) = u16::try_from(server.port.number) else {
                    continue;
                };
                let port = self.proxy_port(proxy, service_port);
                for (host_at, host) in server.hosts.iter().enumerate() {
                    let (_, pattern) = host_parts(host, &gateway.0);
                    let name = listener_name(gateway, at, host_at);
                    if served.redirect {
                        redirects.push((name.clone(), pattern.clone()));
                    }
                    listeners.push(Listener {
                        name,
                        port,
                        service_port,
                        hostname: (&*pattern != "*").then_some(HostPattern(pattern)),
                        protocol: served.protocol.clone(),
                    });
                }
            }
        }
        let resource = Gateway {
            namespace: proxy.0.clone(),
            name: proxy.1.clone(),
            role: Role::Gateway,
            listeners,
            backend_certificate: None,
            client_identity: false,
        };
        let mut outputs = vec![Value::resource(
            audience(),
            Resource::Gateway(Box::new(resource)),
        )];
        if !redirects.is_empty() {
            let route = to_https(proxy, &key, redirects);
            outputs.push(Value::resource(
                audience(),
                Resource::HttpRoute(Box::new(route)),
            ));
        }
        Some(outputs)
    }

    /// Where the proxy listens for a port of its Service.
    fn proxy_port(&self, proxy: &Name, port: u16) -> u16 {
        let Some(state) = self.namespace(&proxy.0) else {
            return port;
        };
        let Some(found) = self.networking.proxies.get(proxy) else {
            return port;
        };
        let services = found
            .labels()
            .flat_map(|labels| state.service_selectors.selecting(labels));
        let mut targets = services
            .filter_map(|id| state.services.get(id))
            .flat_map(|service| &service.ports)
            .filter(|p| p.number == port)
            .filter_map(|p| match &p.target {
                Target::Number(number) => Some(*number),
                Target::Name(name) => self.named_port(proxy, name),
            });
        targets.next().unwrap_or(port)
    }

    fn named_port(&self, proxy: &Name, name: &str) -> Option<u16> {
        let state = self.namespace(&proxy.0)?;
        let found = self.networking.proxies.get(proxy)?;
        found
            .pod_names()
            .find_map(|pod| state.pods.get(pod)?.port(name))
    }

    /// `None` when the server cannot be served.
    fn served(
        &self,
        proxy: &Name,
        at: usize,
        server: &Server,
        findings: &mut Findings,
    ) -> Option<Served> {
        let path = format!("spec.servers[{at}]");
        if !u16::try_from(server.port.number).is_ok_and(|port| port > 0) {
            findings.invalid(
                format!("{path}.port.number"),
                "is no port, the server is left out",
            );
            return None;
        }
        if server.hosts.is_empty() {
            findings.invalid(
                format!("{path}.hosts"),
                "must not be empty, the server is left out",
            );
            return None;
        }
        for (field, set) in [
            ("bind", server.bind.is_some()),
            ("defaultEndpoint", server.default_endpoint.is_some()),
        ] {
            if set {
                findings.unsupported(format!("{path}.{field}"), "has no effect");
            }
        }
        let tls = server.tls.as_ref();
        let redirect = tls.is_some_and(|tls| tls.https_redirect == Some(true));
        let mode = tls.and_then(|tls| tls.mode);
        let passthrough = matches!(mode, Some(ServerTlsMode::Passthrough));
        let clear = |protocol, http| {
            Some(Served {
                protocol,
                http,
                redirect: redirect && http,
            })
        };
        match server.port.protocol.to_ascii_uppercase().as_str() {
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => clear(Protocol::Http, true),
            "HTTPS" | "TLS" if passthrough => clear(Protocol::Passthrough, false),
            "HTTPS" => {
                let end = self.termination(proxy, &path, tls, findings)?;
                Some(Served {
                    protocol: Protocol::Https(end),
                    http: true,
                    redirect: false,
                })
            }
            "TLS" => {
                let end = self.termination(proxy, &path, tls, findings)?;
                Some(Served {
                    protocol: Protocol::Tls(end),
                    http: false,
                    redirect: false,
                })
            }
            "TCP" | "MONGO" | "MYSQL" | "REDIS" if tls.is_some_and(|tls| tls.mode.is_some()) => {
                let end = self.termination(proxy, &path, tls, findings)?;
                Some(Served {
                    protocol: Protocol::Tls(end),
                    http: false,
                    redirect: false,
                })
            }
            "TCP" | "MONGO" | "MYSQL" | "REDIS" => clear(Protocol::Tcp, false),
            other => {
                let why = format!("{:?} is not known, the server is left out", shown(other));
                findings.invalid(format!("{path}.port.protocol"), why);
                None
            }
        }
    }
}

fn listener_name(gateway: &Name, server: usize, host: usize) -> Arc<str> {
    format!("{}.{}.{server}.{host}", gateway.0, gateway.1).into()
}

/// `namespace/host` of a server; `.` is the Gateway's own namespace.
fn host_parts(text: &str, own: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
    let namespace = if namespace == "." {
        own.clone()
    } else {
        namespace.into()
    };
    (namespace, host.to_ascii_lowercase().into())
}

/// `httpsRedirect`: instead of every route of a user, whose host may be more specific than the server's.
fn to_https(proxy: &Name, key: &Arc<str>, listeners: Vec<(Arc<str>, Arc<str>)>) -> HttpRoute {
    let parents = listeners
        .into_iter()
        .map(|(listener, host)| Parent::Listener {
            gateway: key.clone(),
            listener,
            hostnames: if covers(&host, "*") {
                Vec::new()
            } else {
                vec![HostPattern(host)]
            },
        });
    let redirect = Redirect {
        status: 301,
        scheme: Some("https".into()),
        host: None,
        port: None,
        port_of_scheme: true,
        path: None,
    };
    HttpRoute {
        object: ObjectKey::new("IstioGateway", &proxy.0, &proxy.1),
        parents: parents.collect(),
        created: i64::MIN,
        precedence: Precedence::InOrder,
        rules: vec![Rule {
            name: Some("httpsRedirect".into()),
            matches: Vec::new(),
            filters: Vec::new(),
            action: RuleAction::Redirect(redirect),
            timeouts: Timeouts::default(),
            retry: None,
        }],
    }
}
