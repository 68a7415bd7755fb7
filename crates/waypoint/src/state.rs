//! What the proxy knows: immutable snapshots, published whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use imbl::{HashMap, OrdMap};
use tokio::sync::watch;
use tulle_model::{GatewayAddress, GatewayDestination, Mesh, Service, ServiceKey, Workload};
use tulle_policy::expression::Expression;
use tulle_policy::http::HttpPolicies;
use tulle_policy::jwt::Authentications;
use tulle_policy::observe::Telemetry;
use tulle_policy::settings::ProxySettings;
use tulle_route::Table;
use tulle_route::rate::Limits;
use tulle_route::resource::{Certificate, DestinationPolicy, Gateway, Role};

use crate::observe::Logs;

/// Everything known at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) mesh: Mesh,
    pub(crate) policies: HttpPolicies,
    pub(crate) authentications: Authentications,
    pub(crate) routes: Table,
    pub(crate) limits: Limits,
    pub(crate) destinations: HashMap<ServiceKey, Arc<DestinationPolicy>>,
    pub(crate) certificates: HashMap<Arc<str>, Arc<Certificate>>,
    pub(crate) telemetry: HashMap<Arc<str>, Arc<Telemetry>>,
    /// Of Telemetry resources, by their text.
    pub(crate) expressions: HashMap<Arc<str>, Arc<Expression>>,
    /// Our own ones, by `namespace/name`; more than one when several Istio Gateways select this proxy.
    pub(crate) gateways: OrdMap<Arc<str>, Arc<Gateway>>,
    pub(crate) settings: Arc<ProxySettings>,
    /// Of the settings.
    pub(crate) logs: Arc<Logs>,
    pub(crate) own: Own,
    /// Counts publications.
    pub(crate) generation: u64,
}

/// Who we are in the mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    /// Our pod.
    pub(crate) workload: Option<Arc<Workload>>,
    /// Services that lead to our pod: by these, others name their waypoint.
    pub(crate) services: Arc<[Arc<Service>]>,
}

impl Own {
    /// Finds ourselves by the pod's name.
    pub(crate) fn find(mesh: &Mesh, namespace: &str, pod: &str) -> Self {
        let me = |w: &&Arc<Workload>| *w.name == *pod && *w.namespace == *namespace;
        let workload = mesh.workloads().find(me).cloned();
        let services = workload.iter().flat_map(|w| w.services.iter());
        let services: Vec<Arc<Service>> = services
            .filter_map(|(key, _)| mesh.service(key).cloned())
            .collect();
        Self {
            services: services.into(),
            workload,
        }
    }

    /// Whether a waypoint that somebody names is us.
    pub(crate) fn is(&self, waypoint: &GatewayAddress) -> bool {
        match &waypoint.destination {
            GatewayDestination::Service(key) => self.services.iter().any(|s| s.key() == *key),
            GatewayDestination::Address(address) => {
                let by_service = |s: &Arc<Service>| s.addresses.contains(address);
                let by_workload = |w: &Arc<Workload>| {
                    w.network == address.network
                        && w.addresses.iter().any(|ip| address.range.contains(ip))
                };
                self.services.iter().any(by_service) || self.workload.iter().any(by_workload)
            }
        }
    }
}

impl Snapshot {
    /// Our Gateway as a waypoint: its key, and whether services and workloads are served.
    pub(crate) fn waypoint(&self) -> Option<(&Arc<str>, bool, bool)> {
        self.gateways
            .iter()
            .find_map(|(key, gateway)| match gateway.role {
                Role::Waypoint {
                    services,
                    workloads,
                } => Some((key, services, workloads)),
                Role::Gateway => None,
            })
    }

    /// Name of the certificate that we, as a gateway, present to backends.
    pub(crate) fn backend_certificate(&self) -> Option<&Arc<str>> {
        self.gateways
            .values()
            .find_map(|gateway| gateway.backend_certificate.as_ref())
    }

    /// The telemetry of one of our Gateways.
    pub(crate) fn telemetry(&self, gateway: &str) -> Option<&Arc<Telemetry>> {
        self.telemetry.get(gateway)
    }
}

/// The snapshot in force. One writer, any number of readers that never wait.
#[derive(Debug)]
pub(crate) struct State {
    current: ArcSwap<Snapshot>,
    published: watch::Sender<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            published: watch::Sender::new(0),
        }
    }
}

impl State {
    /// The snapshot in force.
    pub(crate) fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Changes generations as they are published.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Publishes the outcome of `change`. Only the discovery task calls this.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.current.load());
        next.generation += 1;
        change(&mut next);
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.published.send_replace(generation);
    }
}
