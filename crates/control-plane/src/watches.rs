//! What is read from the API server, and how each change reaches the translating thread.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tulle_api::contract;
use tulle_api::k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use tulle_api::k8s_openapi::api::discovery::v1::EndpointSlice;
use tulle_cluster::kube::Resource;
use tulle_cluster::kube::api::DynamicObject;
use tulle_cluster::{Api, Change, Client, Key, Selection};

use crate::mesh::{Input, Source, Translation};
use crate::metrics::Metrics;
use crate::status::{self, Kind};

mod certificates;

/// Starts all watches; they end when the receiver of `inputs` is gone.
pub(crate) fn start(
    client: &Client,
    namespace: &str,
    inputs: &mpsc::Sender<Input>,
    metrics: &Arc<Metrics>,
) -> JoinSet<()> {
    let mut watches = Watches {
        inputs: inputs.clone(),
        metrics: metrics.clone(),
        tasks: JoinSet::new(),
    };
    let all = Selection::default;
    let c = || client.clone();
    watches.follow(Source::Pods, Api::<Pod>::all(c()), all(), Translation::pod);
    watches.follow(
        Source::Services,
        Api::<Service>::all(c()),
        all(),
        Translation::service,
    );
    watches.follow(
        Source::Slices,
        Api::<EndpointSlice>::all(c()),
        all(),
        Translation::slice,
    );
    watches.follow(
        Source::Namespaces,
        Api::<Namespace>::all(c()),
        all(),
        Translation::namespace,
    );
    watches.follow(
        Source::Nodes,
        Api::<Node>::all(c()),
        all(),
        Translation::node,
    );
    let mesh = Selection::fields(&format!("metadata.name={}", contract::CONFIGMAP_MESH));
    let maps = Api::<ConfigMap>::namespaced(c(), namespace);
    watches.follow(Source::MeshConfig, maps, mesh, Translation::mesh_config);
    certificates::watch(&mut watches, client);
    // Istio's kinds and those of the Gateway API are read as they are and typed one by one: one odd object (a newer
    // version's, or one that came before the schema) must not hide all others.
    for (source, kind, apply) in KINDS {
        let changes = tulle_cluster::watch_kind(c(), &kind.resource(), kind.versions);
        watches.take(source, changes, apply);
    }
    watches.tasks
}

type Apply<K> = fn(&mut Translation, Result<K, Key>);

const KINDS: [(Source, Kind, Apply<DynamicObject>); 19] = [
    (
        Source::AuthorizationPolicies,
        status::AUTHORIZATION_POLICY,
        Translation::authorization_policy,
    ),
    (
        Source::PeerAuthentications,
        status::PEER_AUTHENTICATION,
        Translation::peer_authentication,
    ),
    (
        Source::RequestAuthentications,
        status::REQUEST_AUTHENTICATION,
        Translation::request_authentication,
    ),
    (
        Source::ServiceEntries,
        status::SERVICE_ENTRY,
        Translation::service_entry,
    ),
    (
        Source::WorkloadEntries,
        status::WORKLOAD_ENTRY,
        Translation::workload_entry,
    ),
    (
        Source::VirtualServices,
        status::VIRTUAL_SERVICE,
        Translation::virtual_service,
    ),
    (
        Source::DestinationRules,
        status::DESTINATION_RULE,
        Translation::destination_rule,
    ),
    (
        Source::IstioGateways,
        status::ISTIO_GATEWAY,
        Translation::istio_gateway,
    ),
    (
        Source::Telemetries,
        status::TELEMETRY,
        Translation::telemetry,
    ),
    (
        Source::RateLimitPolicies,
        status::RATE_LIMIT_POLICY,
        Translation::rate_limit_policy,
    ),
    (
        Source::GatewayClasses,
        status::GATEWAY_CLASS,
        Translation::gateway_class,
    ),
    (Source::Gateways, status::GATEWAY, Translation::gateway),
    (
        Source::ListenerSets,
        status::LISTENER_SET,
        Translation::listener_set,
    ),
    (
        Source::HttpRoutes,
        status::HTTP_ROUTE,
        Translation::http_route,
    ),
    (
        Source::GrpcRoutes,
        status::GRPC_ROUTE,
        Translation::grpc_route,
    ),
    (Source::TcpRoutes, status::TCP_ROUTE, Translation::tcp_route),
    (Source::TlsRoutes, status::TLS_ROUTE, Translation::tls_route),
    (
        Source::ReferenceGrants,
        status::REFERENCE_GRANT,
        Translation::reference_grant,
    ),
    (
        Source::BackendTlsPolicies,
        status::BACKEND_TLS_POLICY,
        Translation::backend_tls_policy,
    ),
];

struct Watches {
    inputs: mpsc::Sender<Input>,
    metrics: Arc<Metrics>,
    tasks: JoinSet<()>,
}

impl Watches {
    fn follow<K>(&mut self, source: Source, api: Api<K>, selection: Selection, apply: Apply<K>)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Send,
    {
        let changes = tulle_cluster::watch(api, selection);
        self.take(source, changes, apply);
    }

    /// Hands every change over.
    fn take<K>(
        &mut self,
        source: Source,
        mut changes: impl Stream<Item = Change<K>> + Send + Unpin + 'static,
        apply: Apply<K>,
    ) where
        K: Send + 'static,
    {
        let events = match source {
            Source::Pods | Source::Services | Source::Slices | Source::Nodes => {
                &self.metrics.registry_events
            }
            _ => &self.metrics.config_events,
        };
        let updates = events.with(&[source.name(), "update"]);
        let deletes = events.with(&[source.name(), "delete"]);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            while let Some(change) = changes.next().await {
                let input = match change {
                    Change::Upsert(object) => {
                        updates.inc();
                        Input::Change(source, Box::new(move |to| apply(to, Ok(object))))
                    }
                    Change::Remove(key) => {
                        deletes.inc();
                        Input::Change(source, Box::new(move |to| apply(to, Err(key))))
                    }
                    Change::Synced => Input::Synced,
                };
                if inputs.send(input).await.is_err() {
                    return;
                }
            }
        });
    }
}
