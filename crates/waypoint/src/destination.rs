//! Destinations: the endpoints of a port of a service (or of a subset), how one is chosen, and how it is spoken to.
//!
//! Prepared once for all workers and kept until what it was made of has changed; what is known of endpoints (requests under
//! way, ejections) outlives that.

mod limited;
mod policy;
mod through;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tulle_api::contract::PORT_HBONE;
use tulle_http::upstream::Limits;
use tulle_identity::backend::ClientTls;
use tulle_model::{
    AppProtocol, Health, HealthPolicy, Identity, Mode, Service, ServiceKey, Tunnel, Workload,
};
use tulle_route::balance::{Balancer, Breaker, Member, Place, State};
use tulle_route::resource::{BackendProtocol, DestinationPolicy, HostPattern, TrafficPolicy};

use crate::limits::DESTINATIONS;
use crate::state::Snapshot;
use policy::{merged, policy, tls};
use through::Through;

/// Which destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DestinationKey {
    pub(crate) service: ServiceKey,
    pub(crate) port: u16,
    pub(crate) subset: Option<Arc<str>>,
}

impl DestinationKey {
    /// As logs call it: `outbound|80|v1|reviews.default.svc.cluster.local`.
    pub(crate) fn cluster(&self) -> Arc<str> {
        let subset = self.subset.as_deref().unwrap_or_default();
        let host = self.service.hostname();
        format!("outbound|{}|{subset}|{host}", self.port).into()
    }
}

/// Why there is no such destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoDestination {
    #[error("the service {0} does not exist")]
    Service(ServiceKey),
    #[error("the service {0} has no port {1}")]
    Port(ServiceKey, u16),
    #[error("the service {0} has no subset {1}; is there a DestinationRule that defines it?")]
    Subset(ServiceKey, Arc<str>),
}

/// A destination, ready to be used.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) key: DestinationKey,
    pub(crate) cluster: Arc<str>,
    pub(crate) service: Arc<Service>,
    pub(crate) policy: TrafficPolicy,
    pub(crate) balancer: Balancer,
    /// As the balancer counts them.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) breaker: Arc<Breaker>,
    /// The breaker, where connections are limited.
    pub(crate) limits: Option<Arc<dyn Limits>>,
    /// TLS of ours, if there is to be any.
    pub(crate) tls: Option<Result<Tls, Arc<str>>>,
    /// Distinguishes one preparation from the next.
    pub(crate) serial: u64,
    /// Stays as long as connections of one preparation may be used by the next.
    pub(crate) connections: u64,
    made_of: MadeOf,
    /// The snapshot that it was last found to be good for.
    checked: AtomicU64,
}

/// TLS to endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// By what is offered.
    pub(crate) http1: ClientTls,
    pub(crate) http2: ClientTls,
    pub(crate) bytes: ClientTls,
    /// Sent as SNI; `None`: the request's host.
    pub(crate) name: Option<Arc<str>>,
}

/// One place where connections may go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    /// Who is there, when the mesh knows.
    pub(crate) workload: Option<Arc<Workload>>,
    pub(crate) port: u16,
    pub(crate) hop: Hop,
}

/// How an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hop {
    /// Plain TCP.
    Plain(SocketAddr),
    /// A name is resolved first.
    Name(Arc<str>, u16),
    /// HBONE.
    Tunnel {
        to: SocketAddr,
        authority: SocketAddr,
        expected: Arc<[Identity]>,
    },
}

impl Hop {
    /// The endpoint's own address, when it is known.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(address)
            | Self::Tunnel {
                authority: address, ..
            } => Some(*address),
            Self::Name(..) => None,
        }
    }
}

/// What a destination was made of, by address: as long as it is held, nothing else comes to its addresses.
#[derive(Debug, PartialEq)]
struct MadeOf {
    service: Arc<Service>,
    policy: Option<Arc<DestinationPolicy>>,
    workloads: Vec<Arc<Workload>>,
    /// Name of the certificate that is presented.
    wanted: Option<Arc<str>>,
    certificate: Option<Arc<tulle_route::resource::Certificate>>,
    through: Option<Through>,
}

impl MadeOf {
    fn is(&self, other: &Self) -> bool {
        let same =
            |a: &Option<Arc<DestinationPolicy>>, b: &Option<Arc<DestinationPolicy>>| match (a, b) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            };
        let through = match (&self.through, &other.through) {
            (Some(a), Some(b)) => a.is(b),
            (None, None) => true,
            _ => false,
        };
        let pairs = || self.workloads.iter().zip(&other.workloads);
        through
            && Arc::ptr_eq(&self.service, &other.service)
            && same(&self.policy, &other.policy)
            && self.presents_as(other)
            && self.workloads.len() == other.workloads.len()
            && pairs().all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The same certificate is presented.
    fn presents_as(&self, other: &Self) -> bool {
        let same = match (&self.certificate, &other.certificate) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same && self.wanted == other.wanted
    }
}

/// All destinations of the process.
#[derive(Debug)]
pub(crate) struct Destinations {
    began: Instant,
    network: Arc<str>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    ready: HashMap<DestinationKey, Arc<Destination>>,
    /// What is remembered of endpoints, and since when they are known.
    states: HashMap<(DestinationKey, Arc<str>), (Arc<State>, Duration)>,
    serial: u64,
}

impl Destinations {
    pub(crate) fn new(network: Arc<str>) -> Self {
        Self {
            began: Instant::now(),
            network,
            table: Mutex::default(),
        }
    }

    /// The clock of balancers.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The destination as `snapshot` has it.
    pub(crate) fn get(
        &self,
        snapshot: &Snapshot,
        key: &DestinationKey,
    ) -> Result<Arc<Destination>, NoDestination> {
        {
            let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            let ready = table.ready.get(key);
            let known = ready.filter(|r| r.checked.load(Relaxed) >= snapshot.generation);
            if let Some(ready) = known {
                return Ok(ready.clone());
            }
        }
        let made_of = made_of(snapshot, key)?;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = table.ready.get(key) {
            if ready.made_of.is(&made_of) {
                ready.checked.fetch_max(snapshot.generation, Relaxed);
                return Ok(ready.clone());
            }
        } else if table.ready.len() >= DESTINATIONS {
            table.sweep(snapshot);
        }
        let made = Arc::new(self.prepare(&mut table, snapshot, key, made_of)?);
        table.ready.insert(key.clone(), made.clone());
        Ok(made)
    }

    fn prepare(
        &self,
        table: &mut Table,
        snapshot: &Snapshot,
        key: &DestinationKey,
        made_of: MadeOf,
    ) -> Result<Destination, NoDestination> {
        let (policy, only) = policy(&made_of, key)?;
        let service = made_of.service.clone();
        let (endpoints, weights): (Vec<Endpoint>, Vec<u32>) = match &made_of.through {
            // Subsets are the waypoint's business.
            Some(through) => through.endpoints(key.port).unzip(),
            None => made_of
                .workloads
                .iter()
                .filter(|w| only.as_ref().is_none_or(|uids| uids.contains(&w.uid)))
                .filter_map(|w| {
                    let endpoint = endpoint(w, &service, key.port, &self.network)?;
                    Some((endpoint, w.capacity))
                })
                .unzip(),
        };
        let now = self.began.elapsed();
        let members = endpoints.iter().zip(weights).map(|(endpoint, weight)| {
            let workload = endpoint.workload.as_deref();
            let id = workload.map(|w| w.uid.clone()).unwrap_or_default();
            let (state, since) = table
                .states
                .entry((key.clone(), id.clone()))
                .or_insert_with(|| (Arc::default(), now))
                .clone();
            Member {
                id,
                weight,
                place: workload.map(Place::of).unwrap_or_default(),
                since,
                state,
            }
        });
        let members: Vec<Member> = members.collect();
        let known: BTreeSet<&Arc<str>> = members.iter().map(|m| &m.id).collect();
        table
            .states
            .retain(|(of, id), _| of != key || known.contains(id));
        drop(known);
        let own = snapshot.own.workload.as_deref();
        let place = own.map(Place::of).unwrap_or_default();
        let old = table.ready.get(key);
        // Whoever is under way holds permits of the old one.
        let breaker = match old.filter(|old| old.policy.breaker == policy.breaker) {
            Some(old) => old.breaker.clone(),
            None => Breaker::new(policy.breaker.unwrap_or_default()),
        };
        let like = old.filter(|old| old.policy == policy && old.made_of.presents_as(&made_of));
        let connections = like.map_or(table.serial + 1, |old| old.connections);
        table.serial += 1;
        Ok(Destination {
            balancer: Balancer::new(&policy, &service.load_balancing, &place, members),
            // Behind a waypoint, TLS to endpoints is its business.
            tls: match made_of.through {
                Some(_) => None,
                None => policy.tls.as_ref().map(|_| tls(&policy, &made_of)),
            },
            cluster: key.cluster(),
            key: key.clone(),
            serial: table.serial,
            connections,
            limits: limited::limits(&breaker, policy.breaker),
            checked: AtomicU64::new(snapshot.generation),
            service,
            policy,
            endpoints,
            breaker,
            made_of,
        })
    }
}

impl Table {
    /// Lets go of what the mesh no longer has.
    fn sweep(&mut self, snapshot: &Snapshot) {
        self.ready
            .retain(|key, _| snapshot.mesh.service(&key.service).is_some());
        let ready = &self.ready;
        self.states.retain(|(key, _), _| ready.contains_key(key));
        if self.ready.len() >= DESTINATIONS {
            self.ready.clear();
        }
    }
}

impl Destination {
    /// Where connections go that were addressed to `address`, if the service is not balanced (ServiceEntry with resolution NONE).
    pub(crate) fn original(
        &self,
        snapshot: &Snapshot,
        network: &Arc<str>,
        address: SocketAddr,
    ) -> Option<Endpoint> {
        if self.service.load_balancing.mode != Mode::Passthrough || !self.endpoints.is_empty() {
            return None;
        }
        let known = snapshot.mesh.workload_at(network, address.ip());
        let hop = known.and_then(|w| hop(w, None, Some(address.ip()), address.port()));
        Some(Endpoint {
            workload: known.cloned(),
            port: address.port(),
            hop: hop.unwrap_or(Hop::Plain(address)),
        })
    }

    /// An endpoint whose name is a wildcard is whatever host is asked for, if the wildcard covers it.
    pub(crate) fn named<'e>(
        &self,
        endpoint: &'e Endpoint,
        host: Option<&str>,
    ) -> Option<Cow<'e, Endpoint>> {
        let Hop::Name(name, port) = &endpoint.hop else {
            return Some(Cow::Borrowed(endpoint));
        };
        if !name.starts_with('*') {
            return Some(Cow::Borrowed(endpoint));
        }
        let host = host.filter(|host| HostPattern(name.clone()).matches(host))?;
        Some(Cow::Owned(Endpoint {
            hop: Hop::Name(host.into(), *port),
            ..endpoint.clone()
        }))
    }

    /// What its endpoints speak: by DestinationRule, else as the port says.
    pub(crate) fn protocol(&self) -> Option<BackendProtocol> {
        let declared = self.service.ports.iter();
        let mut declared = declared.filter(|p| p.service_port == self.key.port);
        let by_port = || BackendProtocol::of(declared.next()?.protocol);
        self.policy.protocol.or_else(by_port)
    }
}

fn made_of(snapshot: &Snapshot, key: &DestinationKey) -> Result<MadeOf, NoDestination> {
    let service = snapshot.mesh.service(&key.service);
    let service = service.ok_or_else(|| NoDestination::Service(key.service.clone()))?;
    if !service.ports.iter().any(|p| p.service_port == key.port) {
        return Err(NoDestination::Port(key.service.clone(), key.port));
    }
    let all = service.load_balancing.health == HealthPolicy::AllowAll;
    let through = Through::find(snapshot, service);
    let workloads = snapshot.mesh.endpoints(&key.service);
    let policy = snapshot.destinations.get(&key.service).cloned();
    let wanted = policy.as_ref().and_then(|policy| {
        let tls = merged(policy, key.port, key.subset.as_deref())?.tls?;
        match tls.gateway_certificate {
            true => snapshot.backend_certificate().cloned(),
            false => tls.certificate,
        }
    });
    let certificate = wanted
        .as_ref()
        .and_then(|name| snapshot.certificates.get(name));
    Ok(MadeOf {
        service: service.clone(),
        workloads: workloads
            .filter(|_| through.is_none())
            .filter(|w| all || w.health == Health::Healthy)
            .cloned()
            .collect(),
        certificate: certificate.cloned(),
        wanted,
        policy,
        through,
    })
}

/// Any endpoint of a service, for calls of our own.
pub(crate) fn endpoint_of(
    workload: &Arc<Workload>,
    service: &Service,
    port: u16,
) -> Option<Endpoint> {
    let network = workload.network.clone();
    let fits = workload.health == Health::Healthy;
    endpoint(workload, service, port, &network).filter(|_| fits)
}

fn endpoint(
    workload: &Arc<Workload>,
    service: &Service,
    port: u16,
    network: &Arc<str>,
) -> Option<Endpoint> {
    if workload.network != *network {
        return None;
    }
    let key = service.key();
    let (_, ports) = workload.services.iter().find(|(k, _)| *k == key)?;
    let found = ports.iter().find(|p| p.service_port == port)?;
    let port = found.target_port;
    if port == 0 {
        return None;
    }
    let hop = hop(
        workload,
        Some(service),
        workload.addresses.first().copied(),
        port,
    )?;
    Some(Endpoint {
        workload: Some(workload.clone()),
        port,
        hop,
    })
}

/// The way to a port of a workload.
pub(crate) fn hop(
    workload: &Workload,
    service: Option<&Service>,
    ip: Option<IpAddr>,
    port: u16,
) -> Option<Hop> {
    let Some(ip) = ip else {
        let name = workload.hostname.clone();
        return (!name.is_empty()).then_some(Hop::Name(name, port));
    };
    let target = SocketAddr::new(ip, port);
    Some(match workload.tunnel {
        Tunnel::None => Hop::Plain(target),
        Tunnel::Hbone => {
            let further = service.map_or(&[][..], |s| &s.subject_alt_names);
            Hop::Tunnel {
                to: SocketAddr::new(ip, PORT_HBONE),
                authority: target,
                expected: std::iter::once(workload.identity())
                    .chain(further.iter().filter_map(|name| name.parse().ok()))
                    .collect(),
            }
        }
    })
}

/// Whether requests are spoken on a port.
pub(crate) fn is_http(protocol: AppProtocol) -> Option<bool> {
    match protocol {
        AppProtocol::Http11 | AppProtocol::Http2 | AppProtocol::Grpc => Some(true),
        AppProtocol::Tcp | AppProtocol::Tls => Some(false),
        AppProtocol::Unknown => None,
    }
}

#[cfg(test)]
mod tests;
