//! The pods of this node: from the node agent's word to listeners that are being served.

mod kept;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tulle_api::contract::{PORT_HBONE, PORT_INBOUND_PLAIN, PORT_OUTBOUND};
use tulle_daemon::Condition;
use tulle_daemon::keeper::{Client, Restored};
use tulle_linux::{NetNs, socket};
use tulle_model::Identity;
use tulle_telemetry::{Counter, Gauge, Registry};

use crate::dns::DnsSockets;
use crate::limits::PODS;
use crate::pod::{Pod, PodInfo};
use crate::worker::{Command, Shared};

/// The listeners of one pod for one worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) outbound: TcpListener,
    pub(crate) plain: TcpListener,
    pub(crate) hbone: TcpListener,
}

impl Sockets {
    fn open(netns: &NetNs) -> io::Result<Self> {
        let listen = |port| {
            let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            socket::listen(netns, any)
        };
        let sockets = Self {
            outbound: listen(PORT_OUTBOUND)?,
            plain: listen(PORT_INBOUND_PLAIN)?,
            hbone: listen(PORT_HBONE)?,
        };
        // What is accepted inherits it. Tunnels have their own sign of life.
        socket::set_keepalive(&sockets.outbound)?;
        socket::set_keepalive(&sockets.plain)?;
        Ok(sockets)
    }
}

/// Why a pod is not served. Goes to the node agent and to the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    #[error(
        "cannot listen in the pod's network namespace: {0}; does the application use port 15001, 15006, 15008 or 15053?"
    )]
    Listen(#[source] io::Error),
    #[error("{PODS} pods are served already")]
    Full,
    #[error("a worker thread is gone")]
    Worker,
}

/// How a pod stands, for admin pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodState {
    pub(crate) info: PodInfo,
    pub(crate) trust_domain: Arc<str>,
    pub(crate) up: bool,
}

struct Entry {
    pod: Arc<Pod>,
    identity: Identity,
    up: bool,
}

/// All pods of the node. Lives on the main thread.
pub(crate) struct Pods {
    shared: Arc<Shared>,
    workers: Vec<mpsc::Sender<Command>>,
    keeper: Option<Client>,
    entries: BTreeMap<String, Entry>,
    shown: watch::Sender<BTreeMap<String, PodState>>,
    metrics: Metrics,
    condition: Condition,
    /// The node agent has told all, and is there.
    told: bool,
}

struct Metrics {
    active: Gauge,
    pending: Gauge,
    started: Counter,
    stopped: Counter,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        Self {
            active: registry
                .gauge(
                    "workload_manager_active_proxy_count",
                    "Pods that are served",
                    &[],
                )
                .get(),
            pending: registry
                .gauge(
                    "workload_manager_pending_proxy_count",
                    "Pods that cannot be served yet",
                    &[],
                )
                .get(),
            started: registry
                .counter(
                    "workload_manager_proxies_started",
                    "Pods that began to be served",
                    &[],
                )
                .get(),
            stopped: registry
                .counter(
                    "workload_manager_proxies_stopped",
                    "Pods that ended to be served",
                    &[],
                )
                .get(),
        }
    }
}

impl Pods {
    pub(crate) fn new(
        shared: Arc<Shared>,
        workers: Vec<mpsc::Sender<Command>>,
        keeper: Option<Client>,
        registry: &Registry,
        condition: Condition,
    ) -> Self {
        Self {
            shared,
            workers,
            keeper,
            entries: BTreeMap::new(),
            shown: watch::Sender::default(),
            metrics: Metrics::new(registry),
            condition,
            told: false,
        }
    }

    /// How all pods stand, as it changes.
    pub(crate) fn shown(&self) -> watch::Receiver<BTreeMap<String, PodState>> {
        self.shown.subscribe()
    }

    /// Serves the pods of a predecessor on its own sockets; returns how many.
    pub(crate) async fn restore(&mut self, restored: &mut Restored) -> usize {
        let kept = kept::take(restored, self.workers.len());
        for pod in kept {
            let netns = pod.netns;
            let outcome = self.start(&pod.uid, pod.info, netns, pod.sockets).await;
            if let Err(error) = outcome {
                tracing::warn!(uid = pod.uid, %error, "cannot go on serving a pod; the node agent will say it again");
            }
        }
        self.entries.len()
    }

    /// A pod is enrolled. Idempotent by network namespace; the same uid with another namespace is a replacement.
    pub(crate) async fn add(
        &mut self,
        uid: &str,
        info: PodInfo,
        netns: NetNs,
    ) -> Result<(), PodError> {
        if let Some(entry) = self.entries.get(uid) {
            if entry.up && entry.pod.netns.id() == netns.id() && entry.pod.info == info {
                return Ok(());
            }
            self.remove(uid).await;
        }
        if self.entries.len() >= PODS {
            return Err(PodError::Full);
        }
        self.start(uid, info, netns, Vec::new()).await
    }

    /// A pod left. Nothing happens when it is not known.
    pub(crate) async fn remove(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else {
            return;
        };
        tracing::info!(uid, pod = %entry.pod.name(), "pod removed");
        for worker in &self.workers {
            // A worker that is gone ends the process anyway.
            let _ = worker.send(Command::Remove(entry.pod.clone())).await;
        }
        self.forget_at_keeper(&entry.pod).await;
        self.metrics.stopped.inc();
        self.forget_identity(entry.identity);
        self.publish();
    }

    /// The node agent has told of all pods: the others are gone.
    pub(crate) async fn keep_only(&mut self, listed: &HashSet<String>) {
        let gone: Vec<String> = self
            .entries
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.remove(&uid).await;
        }
        self.told = true;
        self.publish();
    }

    /// The node agent cannot be heard: what is served is served, but nothing new comes.
    pub(crate) fn agent_lost(&mut self) {
        self.told = false;
        self.publish();
    }

    /// Tries again what failed.
    pub(crate) async fn retry(&mut self) {
        let failed = self.entries.iter().filter(|(_, entry)| !entry.up);
        let failed: Vec<(String, Arc<Pod>)> = failed
            .map(|(uid, entry)| (uid.clone(), entry.pod.clone()))
            .collect();
        for (uid, pod) in failed {
            let started = self
                .start(&uid, pod.info.clone(), pod.netns.clone(), Vec::new())
                .await;
            if let Err(error) = started {
                tracing::warn!(pod = %pod.name(), %error, "still cannot serve the pod");
            }
        }
    }

    /// Serves a pod on what is there of `sockets`, and on new ones for the other workers.
    async fn start(
        &mut self,
        uid: &str,
        info: PodInfo,
        netns: NetNs,
        sockets: Vec<Sockets>,
    ) -> Result<(), PodError> {
        let options = &self.shared.options;
        let network = options.network.as_str().into();
        let pod = Arc::new(Pod::new(uid, info, netns, &options.cluster_id, network));
        let snapshot = self.shared.state.load();
        let identity = pod.expected_identity(&snapshot, &options.trust_domain);
        let complete = complete(&pod.netns, sockets, self.workers.len()).and_then(|sockets| {
            let dns = options.dns.then(|| DnsSockets::open(&pod.netns));
            Ok((sockets, dns.transpose()?))
        });
        let entry = Entry {
            pod: pod.clone(),
            identity: identity.clone(),
            up: complete.is_ok(),
        };
        self.entries.insert(uid.to_owned(), entry);
        self.publish();
        let (sockets, mut dns) = complete.map_err(PodError::Listen)?;
        self.keep(&pod, &sockets).await;
        // One worker answers a pod's queries: they are few, and four more descriptors per worker are many.
        let chosen = self.entries.len() % self.workers.len().max(1);
        for (index, (worker, sockets)) in self.workers.iter().zip(sockets).enumerate() {
            let dns = dns.take_if(|_| index == chosen);
            let sent = worker.send(Command::Add(pod.clone(), sockets, dns)).await;
            sent.map_err(|_| PodError::Worker)?;
        }
        self.shared.certificates.prefetch(&identity);
        self.metrics.started.inc();
        tracing::info!(uid, pod = %pod.name(), %identity, "pod served");
        Ok(())
    }

    async fn keep(&self, pod: &Pod, sockets: &[Sockets]) {
        let Some(keeper) = &self.keeper else { return };
        if let Err(error) = kept::put(keeper, pod, sockets).await {
            tracing::warn!(%error, "the pod's sockets are not kept for a successor");
        }
    }

    async fn forget_at_keeper(&self, pod: &Pod) {
        let Some(keeper) = &self.keeper else { return };
        if let Err(error) = kept::delete(keeper, pod, self.workers.len()).await {
            tracing::warn!(%error, "the keeper does not forget the pod's sockets");
        }
    }

    /// Drops the certificate with its last pod, once that pod's connections have ended too.
    fn forget_identity(&self, identity: Identity) {
        if self
            .entries
            .values()
            .any(|entry| entry.identity == identity)
        {
            return;
        }
        let (shared, mut shown) = (self.shared.clone(), self.shown());
        tokio::spawn(async move {
            tokio::time::sleep(2 * crate::limits::POD_LINGER).await;
            let back = |state: &PodState| {
                state.trust_domain == identity.trust_domain
                    && *state.info.namespace == *identity.namespace
                    && *state.info.service_account == *identity.service_account
            };
            if !shown.borrow_and_update().values().any(back) {
                shared.certificates.forget(&identity);
            }
        });
    }

    fn publish(&self) {
        let up = self.entries.values().filter(|entry| entry.up).count();
        let pending = self.entries.len() - up;
        self.metrics
            .active
            .set(i64::try_from(up).unwrap_or(i64::MAX));
        self.metrics
            .pending
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.condition.set(self.told && pending == 0);
        let state = |entry: &Entry| PodState {
            info: entry.pod.info.clone(),
            trust_domain: entry.identity.trust_domain.clone(),
            up: entry.up,
        };
        let all = self
            .entries
            .iter()
            .map(|(uid, entry)| (uid.clone(), state(entry)));
        self.shown.send_replace(all.collect());
    }
}

/// One set of listeners per worker: those that are there, and new ones.
fn complete(netns: &NetNs, mut sockets: Vec<Sockets>, workers: usize) -> io::Result<Vec<Sockets>> {
    sockets.truncate(workers);
    // In and out of the namespace once, not once per socket.
    netns.enter(|| {
        while sockets.len() < workers {
            sockets.push(Sockets::open(netns)?);
        }
        Ok(sockets)
    })?
}

/// A pod as the keeper held it.
struct Kept {
    uid: String,
    info: PodInfo,
    netns: NetNs,
    sockets: Vec<Sockets>,
}

#[cfg(test)]
mod tests;
