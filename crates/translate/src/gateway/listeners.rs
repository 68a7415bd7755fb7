//! A Gateway as routes and its proxies see it: its own listeners and those of ListenerSets, validated.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_api::contract::{CLASS_ISTIO, CLASS_WAYPOINT, CONTROLLER_GATEWAY, CONTROLLER_MESH};
use tulle_api::contract::{PORT_ADMIN, PORT_HBONE, PORT_METRICS, PORT_READY, PROTOCOL_HBONE};
use tulle_api::gateway as api;
use tulle_route::resource::{HostPattern, Protocol};

use super::addresses::workload_name;
use super::allowed::Allowed;
use super::state::{GatewayFacts, Named, SetFacts};
use super::status::Class;
use super::{Problem, RouteKind};
use crate::cluster::Cluster;
use crate::labels::Labels;

/// Where proxies answer Prometheus; older annotations still name it.
const PORT_PROMETHEUS: u16 = 15090;

/// A Gateway of ours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) class: Class,
    /// Services that the user made, when nothing is to be deployed.
    pub(super) unmanaged: Option<Vec<Arc<str>>>,
    /// Host names of the Services that lead to it.
    pub(super) services: Vec<Arc<str>>,
    /// Addresses that the user asks for.
    pub(super) addresses: Vec<Arc<str>>,
    /// Why it is not accepted at all.
    pub(super) refused: Option<Problem>,
    /// What is wrong with its own references.
    pub(super) references: Option<Problem>,
    /// Presented to backends that speak TLS.
    pub(super) backend_certificate: Option<Arc<str>>,
    /// Clients without a valid certificate are let in somewhere.
    pub(super) insecure_fallback: bool,
    /// By precedence: its own, then those of the ListenerSets.
    pub(super) listeners: Vec<Listening>,
    /// ListenerSets that name it, and why they may not.
    pub(super) sets: BTreeMap<Named, Option<Problem>>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listening {
    /// The ListenerSet; `None` is the Gateway itself.
    pub(super) set: Option<Named>,
    /// As the user calls it.
    pub(super) section: Arc<str>,
    /// Unique in the Gateway.
    pub(super) wire: Arc<str>,
    pub(super) port: u16,
    pub(super) protocol_name: Arc<str>,
    pub(super) hostname: Option<HostPattern>,
    pub(super) kinds: Vec<RouteKind>,
    pub(super) namespaces: Allowed,
    /// What the proxy does; `None` when it is not to listen.
    pub(super) protocol: Option<Protocol>,
    pub(super) unaccepted: Option<Problem>,
    pub(super) conflict: Option<Problem>,
    pub(super) unresolved: Option<Problem>,
    pub(super) unprogrammed: Option<Problem>,
}

impl Listening {
    /// Routes may attach, even while it cannot work for want of a certificate.
    pub(super) fn takes_routes(&self) -> bool {
        self.conflict.is_none() && self.unaccepted.is_none()
    }

    pub(super) fn valid(&self) -> bool {
        self.takes_routes() && self.unprogrammed.is_none() && self.unresolved.is_none()
    }
}

impl View {
    /// Names of certificates that its proxies need.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &Arc<str>> {
        let names = self.listeners.iter().flat_map(|l| match &l.protocol {
            Some(Protocol::Https(end) | Protocol::Tls(end)) => end.certificates.as_slice(),
            _ => &[],
        });
        names.chain(&self.backend_certificate)
    }
}

impl Cluster {
    /// Which of our classes a name stands for. The two of ours need no object.
    pub(super) fn class_of(&self, name: &str) -> Option<Class> {
        match self.gateway.classes.get(name) {
            Some(class) if *class.controller == *CONTROLLER_GATEWAY => Some(Class::Gateway),
            Some(class) if *class.controller == *CONTROLLER_MESH => Some(Class::Waypoint),
            Some(_) => None,
            None if name == CLASS_ISTIO => Some(Class::Gateway),
            None if name == CLASS_WAYPOINT => Some(Class::Waypoint),
            None => None,
        }
    }

    /// Labels of a namespace; none when nothing is known of it.
    pub(super) fn namespace_labels(&self, namespace: &str) -> Labels {
        let state = self.namespaces.get(namespace);
        state
            .map(|state| state.facts.labels.clone())
            .unwrap_or_default()
    }

    /// A Gateway as it should be seen now; `None` when it is not ours.
    pub(super) fn view(&self, named: &Named) -> Option<View> {
        if !self.is_discovered(&named.0) {
            return None;
        }
        let facts = self.gateway.gateways.get(named)?;
        let class = self.class_of(&facts.spec.gateway_class_name)?;
        let (unmanaged, addresses, mut refused) = self.addresses(named, facts);
        if let Some(problem) = self.parameters_problem(named, facts) {
            refused = Some(problem);
        }
        let mut view = View {
            class,
            services: match &unmanaged {
                Some(services) => services.clone(),
                None => vec![self.hostname(&workload_name(named, facts, class), &named.0)],
            },
            unmanaged,
            addresses,
            refused,
            references: None,
            backend_certificate: None,
            insecure_fallback: insecure_fallback(&facts.spec),
            listeners: Vec::new(),
            sets: BTreeMap::new(),
        };
        match self.backend_certificate(named, &facts.spec) {
            Ok(certificate) => view.backend_certificate = certificate,
            Err(problem) => view.references = Some(problem),
        }
        let own = facts.spec.listeners.iter();
        view.listeners = own
            .map(|l| self.listening(class, named, None, facts, l))
            .collect();
        conflicts_within(&mut view.listeners);
        self.add_sets(&mut view, named, facts);
        Some(view)
    }

    /// ListenerSets, the oldest first: what conflicts with something before it is refused.
    fn add_sets(&self, view: &mut View, named: &Named, facts: &GatewayFacts) {
        let names = self
            .gateway
            .sets_by_gateway
            .get(named)
            .into_iter()
            .flatten();
        let mut sets: Vec<(&Named, &SetFacts)> = names
            .filter_map(|name| Some((name, self.gateway.sets.get(name)?)))
            .filter(|(name, _)| self.is_discovered(&name.0))
            .collect();
        sets.sort_by_key(|(name, set)| (set.meta.created, *name));
        let namespaces = facts.spec.allowed_listeners.as_ref();
        let allowed = Allowed::of(
            namespaces.and_then(|a| a.namespaces.as_ref()),
            Allowed::None,
        );
        for (name, set) in sets {
            let labels = self.namespace_labels(&name.0);
            let problem = if view.class == Class::Waypoint {
                Some(Problem::new(
                    "NotAllowed",
                    "a waypoint takes no ListenerSets",
                ))
            } else if !allowed.allows(&named.0, &name.0, &labels) {
                Some(Problem::new(
                    "NotAllowed",
                    format!(
                        "allowedListeners of Gateway {}/{} does not allow ListenerSets of namespace {}",
                        named.0, named.1, name.0
                    ),
                ))
            } else if view.refused.is_some() {
                Some(Problem::new(
                    "ParentNotAccepted",
                    "the Gateway is not accepted",
                ))
            } else {
                None
            };
            if problem.is_none() {
                for listener in &set.spec.listeners {
                    let mut new = self.listening(view.class, named, Some(name), facts, listener);
                    let before = view.listeners.iter().filter(|l| l.takes_routes());
                    let conflict = before.filter_map(|before| conflict(before, &new)).next();
                    set_conflict(&mut new, conflict);
                    view.listeners.push(new);
                }
            }
            view.sets.insert(name.clone(), problem);
        }
    }

    fn listening(
        &self,
        class: Class,
        gateway: &Named,
        set: Option<&Named>,
        facts: &GatewayFacts,
        listener: &api::Listener,
    ) -> Listening {
        let owner = set.unwrap_or(gateway);
        let section: Arc<str> = listener.name.as_str().into();
        let wire = match set {
            None => section.clone(),
            Some((namespace, name)) => format!("{namespace}/{name}/{section}").into(),
        };
        let routes = listener.allowed_routes.as_ref();
        let (kinds, kinds_valid) = supported_kinds(listener);
        let hostname = listener.hostname.as_deref().filter(|host| !host.is_empty());
        let mut listening = Listening {
            set: set.cloned(),
            section,
            wire,
            port: u16::try_from(listener.port).unwrap_or_default(),
            protocol_name: listener.protocol.as_str().into(),
            hostname: hostname.map(|host| HostPattern(host.to_ascii_lowercase().into())),
            kinds,
            namespaces: Allowed::of(routes.and_then(|r| r.namespaces.as_ref()), Allowed::Same),
            protocol: None,
            unaccepted: unaccepted(class, listener),
            conflict: None,
            unresolved: None,
            unprogrammed: None,
        };
        let kind = if set.is_some() {
            "ListenerSet"
        } else {
            "Gateway"
        };
        let protocol = match listener.protocol.as_str() {
            PROTOCOL_HBONE => Some(Protocol::Hbone),
            "HTTP" => Some(Protocol::Http),
            "TCP" => Some(Protocol::Tcp),
            "HTTPS" | "TLS" if listening.unaccepted.is_none() => {
                let tls = self.listener_tls(kind, owner, gateway, facts, listener);
                listening.unresolved = tls.unresolved;
                listening.unaccepted = tls.unaccepted;
                if tls.protocol.is_none() {
                    listening.unprogrammed = Some(Problem::new("Invalid", "Bad TLS configuration"));
                }
                tls.protocol
            }
            _ => None,
        };
        if !kinds_valid {
            listening.unresolved = Some(Problem::new(
                "InvalidRouteKinds",
                "allowedRoutes.kinds lists kinds that this protocol cannot serve",
            ));
        }
        if let Some(problem) = &listening.unaccepted {
            listening
                .unprogrammed
                .get_or_insert_with(|| Problem::new("Invalid", problem.message.clone()));
        } else {
            listening.protocol = protocol;
        }
        listening
    }
}

/// Why a listener cannot be accepted, whatever it refers to.
fn unaccepted(class: Class, listener: &api::Listener) -> Option<Problem> {
    let protocol = listener.protocol.as_str();
    if class == Class::Waypoint {
        let expected = protocol == PROTOCOL_HBONE && listener.port == i64::from(PORT_HBONE);
        return (!expected).then(|| {
            Problem::new(
                "UnsupportedProtocol",
                "Expected a single listener on port 15008 with protocol \"HBONE\"",
            )
        });
    }
    if !matches!(protocol, "HTTP" | "HTTPS" | "TLS" | "TCP") {
        return Some(Problem::new(
            "UnsupportedProtocol",
            format!("protocol {protocol:?} is unsupported; HTTP, HTTPS, TLS and TCP are supported"),
        ));
    }
    match u16::try_from(listener.port) {
        Err(_) | Ok(0) => Some(Problem::new(
            "PortUnavailable",
            "the port must be 1 to 65535",
        )),
        Ok(PORT_ADMIN | PORT_METRICS | PORT_READY | PORT_PROMETHEUS) => Some(Problem::new(
            "PortUnavailable",
            format!(
                "port {} is the proxy's own; choose another one",
                listener.port
            ),
        )),
        Ok(_) => None,
    }
}

/// Kinds of routes that a listener takes, and whether all that it asks for are possible.
fn supported_kinds(listener: &api::Listener) -> (Vec<RouteKind>, bool) {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_deref());
    let possible: &[RouteKind] = match listener.protocol.as_str() {
        "HTTP" | "HTTPS" => &[RouteKind::Http, RouteKind::Grpc],
        "TCP" => &[RouteKind::Tcp],
        "TLS" if mode == Some("Passthrough") => &[RouteKind::Tls],
        "TLS" => &[RouteKind::Tls, RouteKind::Tcp],
        _ => &[],
    };
    let asked = listener
        .allowed_routes
        .as_ref()
        .map(|routes| routes.kinds.as_slice());
    let Some(asked) = asked.filter(|kinds| !kinds.is_empty()) else {
        return (possible.to_vec(), true);
    };
    let is = |kind: &RouteKind, asked: &api::RouteKind| {
        asked.kind == kind.as_str() && asked.group.as_deref().is_none_or(|g| g == api::GROUP)
    };
    let kinds = possible
        .iter()
        .filter(|kind| asked.iter().any(|a| is(kind, a)));
    let valid = asked
        .iter()
        .all(|a| possible.iter().any(|kind| is(kind, a)));
    (kinds.copied().collect(), valid)
}

fn insecure_fallback(spec: &api::GatewaySpec) -> bool {
    let Some(frontend) = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else {
        return false;
    };
    let per_port = frontend.per_port.iter().map(|port| &port.tls);
    let mut all = per_port.chain([&frontend.default]);
    all.any(|config| {
        let validation = config.validation.as_ref();
        validation.is_some_and(|v| v.mode.as_deref() == Some("AllowInsecureFallback"))
    })
}

/// In one Gateway, no listener wins over another one.
fn conflicts_within(listeners: &mut [Listening]) {
    let usable = |l: &Listening| l.unaccepted.is_none();
    let found: Vec<Option<&'static str>> = listeners
        .iter()
        .enumerate()
        .map(|(at, listener)| {
            let others = listeners
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at);
            let mut others = others.filter(|(_, other)| usable(other) && usable(listener));
            others.find_map(|(_, other)| conflict(other, listener))
        })
        .collect();
    for (listener, conflict) in listeners.iter_mut().zip(found) {
        set_conflict(listener, conflict);
    }
}

fn set_conflict(listener: &mut Listening, reason: Option<&'static str>) {
    if let Some(reason) = reason {
        listener.conflict = Some(Problem::new(
            reason,
            "Listener has a conflict with another listener attached to the same Gateway",
        ));
        listener.protocol = None;
    }
}

/// Why two listeners cannot be told apart on their port.
fn conflict(a: &Listening, b: &Listening) -> Option<&'static str> {
    let group = |listener: &Listening| match &*listener.protocol_name {
        "HTTPS" | "TLS" => "TLS",
        "HTTP" => "HTTP",
        "TCP" => "TCP",
        _ => "other",
    };
    if a.port != b.port {
        None
    } else if group(a) != group(b) {
        Some("ProtocolConflict")
    } else if a.hostname != b.hostname {
        None
    } else if a.protocol_name != b.protocol_name {
        Some("ProtocolConflict")
    } else {
        Some("HostnameConflict")
    }
}
