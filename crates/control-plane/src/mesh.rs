//! The translating thread: takes changes in batches, and publishes what they mean.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;
use tracing::{error, info, warn};
use tulle_api::contract;
use tulle_api::k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use tulle_api::k8s_openapi::api::discovery::v1::EndpointSlice;
use tulle_api::mesh::MeshConfig;
use tulle_api::networking::{ServiceEntry, WorkloadEntry};
use tulle_cluster::Key;
use tulle_cluster::kube::api::DynamicObject;
use tulle_daemon::Condition;
use tulle_identity::Authority;
use tulle_model::ServiceKey;
use tulle_translate::{Cluster, ObjectKind, ObjectRef, Settings};
use tulle_xds::server::Publisher;

use crate::convergence::Convergence;
use crate::deployer::{Deployments, Report};
use crate::limits::{BATCH, LONGEST_BATCH, QUIET};
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::status::{Statuses, Target};
use crate::{mesh_config, typed};

mod layer7;
mod publish;
mod source;

pub(crate) use source::{SOURCES, Source};

/// One thing for the translating thread to do.
pub(crate) enum Input {
    /// A change, as what it does.
    Change(Source, Box<dyn FnOnce(&mut Translation) + Send>),
    /// Everything of this kind that existed at the start has come.
    Synced,
}

/// Runs `translation` on a thread of its own. The receiver is answered when it is over, which
/// is when nobody sends any more.
pub(crate) fn start(
    translation: Translation,
    inputs: mpsc::Receiver<Input>,
    synced: Condition,
) -> io::Result<oneshot::Receiver<()>> {
    let (over, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("mesh".to_owned())
        .spawn(move || {
            runtime.block_on(translate(translation, inputs, synced));
            // Nobody may be listening at the end of the process.
            let _ = over.send(());
        })?;
    Ok(ended)
}

async fn translate(mut to: Translation, mut inputs: mpsc::Receiver<Input>, synced: Condition) {
    let started = Instant::now();
    let mut missing = SOURCES;
    while let Some(first) = inputs.recv().await {
        let begun = tokio::time::Instant::now();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(input) = next.take() {
            match input {
                Input::Change(source, change) => {
                    to.metrics.inbound_updates.with(&[source.name()]).inc();
                    change(&mut to);
                }
                Input::Synced => missing = missing.saturating_sub(1),
            }
            taken += 1;
            if taken < BATCH {
                let quiet = (tokio::time::Instant::now() + QUIET).min(begun + LONGEST_BATCH);
                next = timeout_at(quiet, inputs.recv()).await.ok().flatten();
            }
        }
        to.metrics
            .debounce_time
            .observe(begun.elapsed().as_secs_f64());
        if missing > 0 {
            continue;
        }
        to.publish(begun.into_std());
        if !to.released {
            to.released = true;
            to.publisher.release();
            synced.set(true);
            info!(after = ?started.elapsed(), "synced with the API server");
        }
    }
}

/// What became of objects for Gateways is for their statuses.
pub(crate) async fn hear(mut reports: mpsc::Receiver<Report>, inputs: mpsc::Sender<Input>) {
    while let Some(((namespace, name), problem)) = reports.recv().await {
        let change = move |to: &mut Translation| {
            to.cluster.set_deployment(&namespace, &name, problem);
        };
        let input = Input::Change(Source::Gateways, Box::new(change));
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Everything that is known, and where it goes.
pub(crate) struct Translation {
    cluster: Cluster,
    base: Settings,
    mesh: MeshConfig,
    pods: Pods,
    statuses: Statuses,
    deployments: Deployments,
    publisher: Publisher,
    authority: Arc<ArcSwap<Authority>>,
    metrics: Arc<Metrics>,
    convergence: Convergence,
    /// Published services, to count them.
    services: HashSet<ServiceKey>,
    released: bool,
}

impl Translation {
    #[expect(
        clippy::too_many_arguments,
        reason = "what it stands between, each once"
    )]
    pub(crate) fn new(
        base: Settings,
        mesh: &MeshConfig,
        pods: Pods,
        statuses: Statuses,
        deployments: Deployments,
        publisher: Publisher,
        authority: Arc<ArcSwap<Authority>>,
        metrics: Arc<Metrics>,
        convergence: Convergence,
    ) -> Self {
        Self {
            cluster: Cluster::new(base.with_mesh(mesh)),
            base,
            mesh: mesh.clone(),
            pods,
            statuses,
            deployments,
            publisher,
            authority,
            metrics,
            convergence,
            services: HashSet::new(),
            released: false,
        }
    }

    pub(crate) fn pod(&mut self, change: Result<Pod, Key>) {
        match change {
            Ok(pod) => {
                self.pods.upsert(&pod);
                self.cluster.upsert_pod(&pod);
            }
            Err(key) => {
                self.pods.remove(&key);
                self.cluster.remove_pod(&key.namespace, &key.name);
            }
        }
    }

    pub(crate) fn service(&mut self, change: Result<Service, Key>) {
        match change {
            Ok(service) => {
                let target = target(ObjectKind::Service, &Key::of(&service));
                let status = service.status.as_ref();
                self.statuses
                    .seen(&target, || serde_json::to_value(status).unwrap_or_default());
                self.cluster.upsert_service(&service);
            }
            Err(key) => {
                self.cluster.remove_service(&key.namespace, &key.name);
                self.forget(ObjectKind::Service, key);
            }
        }
    }

    pub(crate) fn slice(&mut self, change: Result<EndpointSlice, Key>) {
        match change {
            Ok(slice) => self.cluster.upsert_endpoint_slice(&slice),
            Err(key) => self
                .cluster
                .remove_endpoint_slice(&key.namespace, &key.name),
        }
    }

    pub(crate) fn namespace(&mut self, change: Result<Namespace, Key>) {
        match change {
            Ok(namespace) => self.cluster.upsert_namespace(&namespace),
            Err(key) => self.cluster.remove_namespace(&key.name),
        }
    }

    pub(crate) fn node(&mut self, change: Result<Node, Key>) {
        match change {
            Ok(node) => self.cluster.upsert_node(&node),
            Err(key) => self.cluster.remove_node(&key.name),
        }
    }

    pub(crate) fn authorization_policy(&mut self, change: Result<DynamicObject, Key>) {
        match change {
            Ok(object) => {
                let kind = ObjectKind::AuthorizationPolicy;
                self.seen(kind, &Key::of(&object), &object);
                let policy = typed::authorization_policy(object);
                self.cluster.upsert_authorization_policy(&policy);
            }
            Err(key) => {
                self.cluster
                    .remove_authorization_policy(&key.namespace, &key.name);
                self.forget(ObjectKind::AuthorizationPolicy, key);
            }
        }
    }

    pub(crate) fn peer_authentication(&mut self, change: Result<DynamicObject, Key>) {
        match change {
            Ok(object) => {
                self.cluster
                    .upsert_peer_authentication(&typed::peer_authentication(object));
            }
            Err(key) => {
                self.cluster
                    .remove_peer_authentication(&key.namespace, &key.name);
                self.forget(ObjectKind::PeerAuthentication, key);
            }
        }
    }

    pub(crate) fn service_entry(&mut self, change: Result<DynamicObject, Key>) {
        let gone = match change {
            Ok(object) => {
                self.seen(ObjectKind::ServiceEntry, &Key::of(&object), &object);
                match self.readable::<ServiceEntry>(Source::ServiceEntries, object) {
                    Ok(entry) => return self.cluster.upsert_service_entry(&entry),
                    Err(key) => key,
                }
            }
            Err(key) => key,
        };
        self.cluster
            .remove_service_entry(&gone.namespace, &gone.name);
        self.forget(ObjectKind::ServiceEntry, gone);
    }

    pub(crate) fn workload_entry(&mut self, change: Result<DynamicObject, Key>) {
        let gone = match change {
            Ok(object) => {
                self.seen(ObjectKind::WorkloadEntry, &Key::of(&object), &object);
                match self.readable::<WorkloadEntry>(Source::WorkloadEntries, object) {
                    Ok(entry) => return self.cluster.upsert_workload_entry(&entry),
                    Err(key) => key,
                }
            }
            Err(key) => key,
        };
        self.cluster
            .remove_workload_entry(&gone.namespace, &gone.name);
        self.forget(ObjectKind::WorkloadEntry, gone);
    }

    /// What is gone needs no status.
    fn forget(&self, kind: ObjectKind, key: Key) {
        self.statuses.forget(&target(kind, &key));
    }

    /// A status that somebody wiped is written again.
    fn seen(&self, kind: ObjectKind, key: &Key, object: &DynamicObject) {
        let shown = || object.data.get("status").cloned().unwrap_or_default();
        self.statuses.seen(&target(kind, key), shown);
    }

    /// An entry that cannot be read adds nothing to the mesh: as if it were not there, and told.
    fn readable<K: serde::de::DeserializeOwned>(
        &self,
        source: Source,
        object: DynamicObject,
    ) -> Result<K, Key> {
        let key = Key::of(&object);
        // Addresses that were found for an entry's hosts are in its status. One that cannot be read does not hide the entry.
        let with_status = typed::with_status(object.clone());
        with_status
            .or_else(|_| typed::typed(object))
            .map_err(|why| {
                self.metrics.rejected_configs.with(&[source.name()]).inc();
                warn!(kind = source.name(), object = %key, "not usable, left out: {why}");
                key
            })
    }

    pub(crate) fn mesh_config(&mut self, change: Result<ConfigMap, Key>) {
        let system = self.base.system_namespace.clone();
        let text = match change {
            Ok(map) => map
                .data
                .and_then(|mut data| data.remove(contract::MESH_KEY)),
            Err(_) => None,
        };
        let mesh = match mesh_config::parse(&text.unwrap_or_default(), &system) {
            Ok(mesh) => mesh,
            Err(why) => {
                self.metrics
                    .rejected_configs
                    .with(&[Source::MeshConfig.name()])
                    .inc();
                error!("{why}");
                return;
            }
        };
        if mesh == self.mesh {
            return;
        }
        info!(
            trust_domain = mesh.trust_domain,
            root_namespace = mesh.root_namespace,
            "mesh configuration changed"
        );
        if mesh.trust_domain != self.mesh.trust_domain && !self.sign_for(&mesh.trust_domain) {
            return;
        }
        self.deployments.trust_domain(&mesh.trust_domain);
        self.cluster.set_settings(self.base.with_mesh(&mesh));
        self.mesh = mesh;
    }

    /// The same key and certificate, for another trust domain.
    fn sign_for(&self, trust_domain: &str) -> bool {
        let files = self.authority.load().files().clone();
        match Authority::from_files(trust_domain, files) {
            Ok(authority) => {
                self.authority.store(Arc::new(authority));
                true
            }
            Err(why) => {
                error!(
                    trust_domain,
                    "the CA cannot sign for this trust domain, the settings before stay in force: {why}"
                );
                false
            }
        }
    }
}

fn target(kind: ObjectKind, key: &Key) -> Target {
    let object = ObjectRef {
        kind,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    };
    object.into()
}

#[cfg(test)]
mod tests;
