//! What is read from the API server, and how each change reaches the translating thread.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tulle_api::contract;
use tulle_api::k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use tulle_api::k8s_openapi::api::discovery::v1::EndpointSlice;
use tulle_cluster::kube::Resource;
use tulle_cluster::kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use tulle_cluster::{Api, Change, Client, Key, Selection};

use crate::mesh::{Input, Source, Translation};
use crate::metrics::Metrics;

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
    // Istio's kinds are read as they are and typed one by one: one odd object (a newer version's,
    // or one that came before the schema) must not hide all others.
    for (source, group, kind, plural, apply) in ISTIO_KINDS {
        let kind = GroupVersionKind::gvk(group, "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = Api::all_with(c(), &resource);
        watches.follow(source, api, Selection::optional(), apply);
    }
    watches.tasks
}

type Apply<K> = fn(&mut Translation, Result<K, Key>);

const ISTIO_KINDS: [(Source, &str, &str, &str, Apply<DynamicObject>); 4] = [
    (
        Source::AuthorizationPolicies,
        "security.istio.io",
        "AuthorizationPolicy",
        "authorizationpolicies",
        Translation::authorization_policy,
    ),
    (
        Source::PeerAuthentications,
        "security.istio.io",
        "PeerAuthentication",
        "peerauthentications",
        Translation::peer_authentication,
    ),
    (
        Source::ServiceEntries,
        "networking.istio.io",
        "ServiceEntry",
        "serviceentries",
        Translation::service_entry,
    ),
    (
        Source::WorkloadEntries,
        "networking.istio.io",
        "WorkloadEntry",
        "workloadentries",
        Translation::workload_entry,
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
        let mut changes = tulle_cluster::watch(api, selection);
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
