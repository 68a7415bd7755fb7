//! Istio's own Gateway (networking.istio.io): listeners for the pods that its selector means.

use std::collections::BTreeSet;
use std::sync::Arc;

use tulle_api::networking::{GatewaySpec, Server, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use tulle_route::resource::{
    ClientValidation, Gateway, HostPattern, HttpRoute, Listener, ObjectKey, Parent, Precedence,
    Protocol, Redirect, Role, Rule, RuleAction, Termination, Timeouts, TlsVersion,
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
    /// Requests are seen; otherwise connections.
    pub(super) http: bool,
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

/// What becomes of a server.
struct Served {
    protocol: Protocol,
    http: bool,
    redirect: bool,
}

impl Cluster {
    /// Listeners that one Gateway gives, for all proxies that it selects.
    pub(super) fn listeners_of(&self, gateway: &Name) -> Vec<Bound> {
        let Some(object) = self.networking.gateways.get(gateway) else {
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
                        http: served.http,
                        host: host_parts(host, &gateway.0),
                    });
                }
            }
        }
        all
    }

    /// Proxies that a Gateway selects. Those of the Gateway API have their listeners from there.
    fn proxies_of(&self, object: &Object<GatewaySpec>) -> Vec<Name> {
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
        self.namespace(&name.0)?;
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
            if !self.proxies_of(object).contains(proxy) {
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
                        hostname: (&*pattern != "*").then(|| HostPattern(pattern)),
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

    fn termination(
        &self,
        proxy: &Name,
        path: &str,
        tls: Option<&ServerTlsSettings>,
        findings: &mut Findings,
    ) -> Option<Termination> {
        let path = format!("{path}.tls");
        let Some(tls) = tls else {
            findings.invalid(
                &path,
                "must be there for this protocol, the server is left out",
            );
            return None;
        };
        let mode = tls.mode.unwrap_or(ServerTlsMode::Simple);
        if matches!(
            mode,
            ServerTlsMode::AutoPassthrough | ServerTlsMode::IstioMutual | ServerTlsMode::Unknown
        ) {
            findings.unsupported(
                format!("{path}.mode"),
                "this mode has no effect in ambient mode, the server is left out",
            );
            return None;
        }
        let names = tls.credential_names.iter().flat_map(|names| &names.0);
        let credentials: Vec<&String> = tls
            .credential_name
            .iter()
            .chain(names)
            .filter(|name| !name.is_empty())
            .collect();
        if credentials.is_empty() {
            findings.unsupported(
                &path,
                "certificates come from Secrets only: set credentialName; the server is left out",
            );
            return None;
        }
        for (field, set) in [
            ("cipherSuites", !tls.cipher_suites.is_empty()),
            (
                "verifyCertificateSpki",
                !tls.verify_certificate_spki.is_empty(),
            ),
            (
                "verifyCertificateHash",
                !tls.verify_certificate_hash.is_empty(),
            ),
            ("caCrl", tls.ca_crl.is_some()),
        ] {
            if set {
                findings.unsupported(format!("{path}.{field}"), "has no effect");
            }
        }
        let certificates: Vec<Arc<str>> = credentials
            .iter()
            .map(|name| credential(name, &proxy.0))
            .collect();
        let client = self.server_clients(proxy, &path, tls, mode, &certificates, findings)?;
        let version = |protocol: Option<TlsProtocol>, default| match protocol {
            Some(TlsProtocol::V13) => TlsVersion::V1_3,
            Some(TlsProtocol::V12) => TlsVersion::V1_2,
            _ => default,
        };
        Some(Termination {
            certificates,
            client,
            minimum: version(tls.min_protocol_version, TlsVersion::V1_2),
            maximum: version(tls.max_protocol_version, TlsVersion::V1_3),
        })
    }

    fn server_clients(
        &self,
        proxy: &Name,
        path: &str,
        tls: &ServerTlsSettings,
        mode: ServerTlsMode,
        certificates: &[Arc<str>],
        findings: &mut Findings,
    ) -> Option<ClientValidation> {
        let required = match mode {
            ServerTlsMode::Mutual => true,
            ServerTlsMode::OptionalMutual => false,
            _ => return Some(ClientValidation::None),
        };
        let own = tls
            .ca_cert_credential_name
            .as_deref()
            .filter(|name| !name.is_empty());
        let secrets = match own {
            Some(name) => vec![credential(name, &proxy.0)],
            None => {
                let beside = certificates
                    .iter()
                    .map(|name| Arc::from(format!("{name}-cacert")));
                certificates.iter().cloned().chain(beside).collect()
            }
        };
        let Some(roots) = secrets.iter().find_map(|secret| self.secret_roots(secret)) else {
            findings.invalid(
                format!("{path}.credentialName"),
                "no Secret of that name with ca.crt, which mutual TLS needs: the server is left out",
            );
            return None;
        };
        let names = tls
            .subject_alt_names
            .iter()
            .map(|name| Arc::from(name.as_str()))
            .collect();
        Some(if required {
            ClientValidation::Required { roots, names }
        } else {
            ClientValidation::Optional { roots }
        })
    }

    /// Roots in a Secret (`namespace/name`).
    pub(super) fn secret_roots(&self, secret: &str) -> Option<Arc<str>> {
        let (namespace, name) = secret.split_once('/')?;
        self.gateway
            .secrets
            .get(&(namespace.into(), name.into()))?
            .roots
            .clone()
    }

    /// Proxies that need the certificate in a Secret.
    pub(crate) fn networking_certificate_users(&self, secret: &Name) -> BTreeSet<Arc<str>> {
        let name = format!("{}/{}", secret.0, secret.1);
        let named = self
            .networking_certificates()
            .into_iter()
            .filter(|(secret, _)| **secret == *name);
        let destinations = self
            .destination_certificates()
            .into_iter()
            .filter(|(secret, _)| **secret == *name);
        named.chain(destinations).map(|(_, proxy)| proxy).collect()
    }

    /// The certificate in a Secret may have other receivers, and listeners other roots.
    pub(super) fn mark_certificate(&mut self, secret: &str) {
        if let Some((namespace, name)) = secret.split_once('/') {
            let source = crate::gateway::Source::Certificate(namespace.into(), name.into());
            self.dirty.insert(crate::cluster::Source::Gateway(source));
        }
    }

    /// Certificates that proxies made by users need: name of the Secret, and whose it is.
    pub(super) fn networking_certificates(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut all = Vec::new();
        for object in self.networking.gateways.values() {
            for proxy in self.proxies_of(object) {
                let tls = object
                    .spec
                    .servers
                    .iter()
                    .filter_map(|server| server.tls.as_ref());
                for tls in tls {
                    let names = tls.credential_names.iter().flat_map(|names| &names.0);
                    for name in tls.credential_name.iter().chain(names) {
                        all.push((
                            credential(name, &proxy.0),
                            format!("{}/{}", proxy.0, proxy.1).into(),
                        ));
                    }
                }
            }
        }
        all
    }
}

/// `namespace/name` of a Secret that a proxy of `namespace` may use: its own namespace's, whatever is written before.
pub(super) fn credential(name: &str, namespace: &str) -> Arc<str> {
    let name = name.strip_prefix("kubernetes://").unwrap_or(name);
    let name = name.rsplit('/').next().unwrap_or(name);
    format!("{namespace}/{name}").into()
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

/// `httpsRedirect`: before every route of a user.
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
        object: ObjectKey {
            kind: "IstioGateway".into(),
            namespace: proxy.0.clone(),
            name: proxy.1.clone(),
        },
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
