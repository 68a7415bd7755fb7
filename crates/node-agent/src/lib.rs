//! The node agent: takes the pods of its node into the mesh and out of it.
//!
//! It watches pods and namespaces, answers the CNI plugin for pods that start, tells the node proxies which pods to
//! serve, installs the redirect rules in each pod and keeps them in force, and installs the CNI plugin on the node.
//! Its memory is in the pods themselves: after a restart it finds enrolled pods by their annotation and their rules.
//!
//! To take every pod of the mesh out, set the annotation `tulle.mesh/unenroll` to `true` on the mesh's own namespace:
//! each agent releases its pods and takes no new ones until it is removed. The work is done when no pod carries
//! `ambient.istio.io/redirection` any more.

mod agent;
mod error;
mod installer;
mod life;
mod limits;
mod metrics;
mod node;
mod options;
mod plugin;
mod pod;
mod records;
mod repair;
mod zds;

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};
use tulle_cluster::{Api, Change, Client, Connect, Selection};
use tulle_daemon::admin::{self, Pages};
use tulle_daemon::{Readiness, Signals};
use tulle_telemetry::Registry;

pub use error::{EnrolError, Error, ProxyError};
pub use options::Options;

use agent::Agent;
use installer::Installer;
use life::Means;
use limits::{DEPARTURES_DEADLINE, GOODBYE_DEADLINE, ZDS_ADD_DEADLINE};
use metrics::Metrics;
use node::Node;
use pod::{NamespaceFacts, PodFacts};
use records::{Kubernetes, Records};
use zds::Zds;

/// Runs the node agent until it is asked to end (SIGTERM, SIGINT). Rules and CNI configuration stay, so that an upgrade
/// leaves pods in the mesh and new ones waiting; they go when the DaemonSet is gone.
///
/// # Errors
/// See [`Error`]: what keeps it from starting.
pub async fn run(options: Options) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    let registry = Registry::new();
    registry.build_info("node-agent", env!("CARGO_PKG_VERSION"));
    let readiness = Readiness::new();
    let mut tasks = JoinSet::new();
    serve_pages(&options, &registry, &readiness, &mut tasks)?;

    let client = tulle_cluster::connect(&Connect::default()).await?;
    let records = Arc::new(Kubernetes {
        client: client.clone(),
        node: options.node.clone(),
        system_namespace: options.system_namespace.clone(),
    });
    let metrics = Metrics::new(&registry);
    let (zds, node) = (Zds::new(ZDS_ADD_DEADLINE), Node::new(options.proc.clone())?);
    let means = Means {
        node: node.clone(),
        zds: zds.clone(),
        records: records.clone(),
        metrics: metrics.clone(),
        ipv6: options.ipv6,
        dns: options.dns,
    };
    let agent = Agent::new(
        means,
        options.system_namespace.clone(),
        options.excluded.clone(),
    );
    let installer = Installer::new(
        &options,
        metrics.clone(),
        readiness.condition("CNI plugin installed"),
    );
    let listening = readiness.condition("sockets open");

    let ended = tokio::select! {
        outcome = start(&options, &agent, client, &mut tasks) => outcome,
        signal = signals.next() => {
            info!("{signal}: ending before the start was complete");
            return Ok(());
        }
    };
    ended?;
    listening.set(true);
    count_proxies(&zds, &metrics, &mut tasks);
    tasks.spawn(repair::run(agent.clone()));
    tasks.spawn(installer.clone().run());
    tasks.spawn(tulle_daemon::settle());
    info!(node = options.node, "the node agent is at work");

    let signal = signals.next().await;
    info!("{signal}: ending; pods stay in the mesh");
    if tokio::time::timeout(DEPARTURES_DEADLINE, agent.departures())
        .await
        .is_err()
    {
        warn!("pods were still leaving at the deadline: the next agent removes their rules");
    }
    tasks.shutdown().await;
    say_goodbye(&*records, &installer, &node).await;
    Ok(())
}

/// Learns all pods, finds what is already enrolled, then opens the sockets: the first snapshot for a proxy is complete.
async fn start(
    options: &Options,
    agent: &Agent,
    client: Client,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let selection = Selection::fields(&format!("spec.nodeName={}", options.node));
    let mut pods = tulle_cluster::watch(pods, selection);
    let mut namespaces = tulle_cluster::watch(Api::<Namespace>::all(client), Selection::default());
    while let Some(change) = namespaces.next().await {
        match namespace_change(change) {
            Change::Synced => break,
            change => agent.namespace_changed(change),
        }
    }
    while let Some(change) = pods.next().await {
        match pod_change(change) {
            Some(Change::Synced) => break,
            Some(change) => agent.pod_changed(change),
            None => {}
        }
    }
    if let Err(error) = agent.recover().await {
        return Err(Error::Resource(std::io::Error::other(error.to_string())));
    }
    let follower = agent.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                Some(change) = namespaces.next() => follower.namespace_changed(namespace_change(change)),
                Some(change) = pods.next() => if let Some(change) = pod_change(change) {
                    follower.pod_changed(change);
                },
                else => return,
            }
        }
    });
    make_directory(&options.zds_socket)?;
    make_directory(&options.plugin_socket)?;
    let listen_error = |path: &Path, source| Error::Listen {
        place: path.display().to_string(),
        source,
    };
    let zds = &agent.means.zds;
    tasks.spawn(
        zds.serve(&options.zds_socket)
            .map_err(|error| listen_error(&options.zds_socket, error))?,
    );
    let plugins = plugin::listen(&options.plugin_socket)
        .map_err(|error| listen_error(&options.plugin_socket, error))?;
    tasks.spawn(plugin::serve(agent.clone(), plugins));
    Ok(())
}

fn namespace_change(change: Change<Namespace>) -> Change<(Arc<str>, NamespaceFacts)> {
    match change {
        Change::Upsert(namespace) => {
            let name = namespace
                .metadata
                .name
                .as_deref()
                .unwrap_or_default()
                .into();
            Change::Upsert((name, NamespaceFacts::of(&namespace)))
        }
        Change::Remove(key) => Change::Remove(key),
        Change::Synced => Change::Synced,
    }
}

fn pod_change(change: Change<Pod>) -> Option<Change<PodFacts>> {
    Some(match change {
        Change::Upsert(pod) => Change::Upsert(PodFacts::of(&pod)?),
        Change::Remove(key) => Change::Remove(key),
        Change::Synced => Change::Synced,
    })
}

fn serve_pages(
    options: &Options,
    registry: &Registry,
    readiness: &Readiness,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let ready = Pages::new().with_readiness_at("/readyz", readiness);
    let metrics = Pages::new().with_metrics(registry);
    if let Some(port) = options.local {
        let listener = admin::listen_locally(port).map_err(|source| Error::Listen {
            place: format!("port {port} of loopback"),
            source,
        })?;
        tasks.spawn(admin::serve(listener, Pages::new().with_logging()));
    }
    for (port, pages) in [(options.ready, ready), (options.metrics, metrics)] {
        let Some(port) = port else { continue };
        let listener = admin::listen_everywhere(port).map_err(|source| Error::Listen {
            place: format!("port {port}"),
            source,
        })?;
        tasks.spawn(admin::serve(listener, pages));
    }
    Ok(())
}

fn count_proxies(zds: &Zds, metrics: &Metrics, tasks: &mut JoinSet<()>) {
    let (mut proxies, gauge) = (zds.connected(), metrics.proxies.clone());
    tasks.spawn(async move {
        loop {
            let count = *proxies.borrow_and_update();
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            if proxies.changed().await.is_err() {
                return;
            }
        }
    });
}

fn make_directory(socket: &Path) -> Result<(), Error> {
    let Some(directory) = socket.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(directory).map_err(|source| Error::Listen {
        place: directory.display().to_string(),
        source,
    })
}

/// Nothing stays on a node that the mesh leaves; everything stays for the next version of this agent.
async fn say_goodbye(records: &dyn Records, installer: &Installer, node: &Node) {
    match timeout(GOODBYE_DEADLINE, records.uninstalling()).await {
        Ok(Ok(false)) => info!(
            "the DaemonSet remains: the CNI plugin stays, new pods wait for the next node agent"
        ),
        Ok(Ok(true)) => {
            installer.remove();
            if let Err(error) = node.clear_probes().await {
                warn!("probe rules stay on the node: {error}");
            }
            info!("the DaemonSet is gone: CNI plugin and probe rules are removed from this node");
        }
        Ok(Err(error)) => {
            warn!("cannot find out whether this is an upgrade, so the CNI plugin stays: {error}")
        }
        Err(_) => {
            warn!("the API server does not say whether this is an upgrade, so the CNI plugin stays")
        }
    }
}
