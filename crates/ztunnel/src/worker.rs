//! One worker thread: accepts on its own listeners, owns its connections, tunnels and buffers.

mod accept;
mod tunnels;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};
use tulle_daemon::Drain;
use tulle_dns::{Lookup, OwnNetwork};
use tulle_hbone::{Pool, StopReason};
use tulle_identity::Certificates;
use tulle_linux::NetNsId;
use tulle_model::Identity;
use tulle_telemetry::Shard;
use tulle_telemetry::limits::SERIES_SWEEP;

use crate::bypass::BypassMetric;
use crate::connections::{Connections, Shown};
use crate::dns::{DnsSockets, LookupMetric};
use crate::limits::{BYTES_INTERVAL, LAST_TURN, POD_LINGER};
use crate::options::Options;
use crate::pod::{Pod, PodSerial};
use crate::pods::Sockets;
use crate::state::State;
use accept::Loops;
use tunnels::Tunnels;

/// What all threads share: immutable, or safe to share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) state: Arc<State>,
    pub(crate) certificates: Certificates,
    pub(crate) connections: tulle_telemetry::ConnectionMetrics,
    pub(crate) bypass: BypassMetric,
    pub(crate) dns: tulle_dns::Metrics,
    pub(crate) lookups: LookupMetric,
    pub(crate) drain: Drain,
}

/// What the main thread asks of a worker.
pub(crate) enum Command {
    /// Serve a pod.
    Add(Arc<Pod>, Sockets, Option<DnsSockets>),
    /// The pod left the mesh or the node.
    Remove(Arc<Pod>),
    /// A certificate was renewed: no new connections in tunnels of the old one.
    Renewed(Identity),
    /// Show the connections.
    Show(oneshot::Sender<Vec<Shown>>),
}

/// Whose tunnel it is, and to whom. Never shared between pods: the server sees the client pod's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TunnelKey {
    pub(crate) pod: NetNsId,
    pub(crate) source: Identity,
    pub(crate) to: std::net::SocketAddr,
    pub(crate) expected: Arc<[Identity]>,
}

/// What a worker owns.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) shard: Shard,
    pub(crate) pool: Pool<TunnelKey>,
    /// Addresses of workloads that have only a name.
    pub(crate) lookup: Lookup<OwnNetwork>,
    pub(crate) connections: Connections,
    pub(crate) tunnels: Tunnels,
    pods: RefCell<HashMap<PodSerial, Loops>>,
    /// Listeners that are being accepted from.
    pub(crate) accepting: Rc<Cell<usize>>,
    /// Connections and tunnels that are being served, from accept on.
    pub(crate) active: Rc<Cell<usize>>,
    /// Told when one of the two went down.
    pub(crate) quiet: Rc<Notify>,
}

/// Counts itself for as long as it lives.
pub(crate) struct Active {
    count: Rc<Cell<usize>>,
    quiet: Rc<Notify>,
}

impl Active {
    pub(crate) fn count(count: &Rc<Cell<usize>>, quiet: &Rc<Notify>) -> Self {
        count.set(count.get() + 1);
        Self {
            count: count.clone(),
            quiet: quiet.clone(),
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        if self.count.get() == 0 {
            self.quiet.notify_waiters();
        }
    }
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shard: shared.connections.shard(),
            pool: Pool::new(shared.options.hbone.clone()),
            lookup: Lookup::new(
                shared.options.resolvers.clone(),
                OwnNetwork,
                shared.options.zone.ipv6,
            ),
            connections: Connections::default(),
            tunnels: Tunnels::default(),
            pods: RefCell::default(),
            accepting: Rc::default(),
            active: Rc::default(),
            quiet: Rc::default(),
            shared,
        }
    }

    /// The source address to use towards an application: the client's, where that is possible and wanted.
    pub(crate) fn original_source(&self, client: IpAddr, own: IpAddr) -> Option<IpAddr> {
        let usable = client != own && client.is_ipv4() == own.is_ipv4() && !client.is_loopback();
        (usable && self.shared.options.original_source).then_some(client)
    }

    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Add(pod, sockets, dns) => match Loops::start(self, &pod, sockets, dns) {
                Ok(loops) => {
                    self.pods.borrow_mut().insert(pod.serial, loops);
                }
                Err(error) => {
                    tracing::error!(pod = %pod.name(), %error, "a worker cannot use the pod's listeners");
                }
            },
            Command::Remove(pod) => {
                tokio::task::spawn_local(remove(self.clone(), pod));
            }
            Command::Renewed(identity) => self.pool.retire_where(|key| key.source == identity),
            Command::Show(to) => {
                // The admin client may be gone.
                let _ = to.send(self.connections.show());
            }
        }
    }

    async fn wait_for_none(&self, count: &Cell<usize>) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            // From here on no notification is missed.
            quiet.as_mut().enable();
            if count.get() == 0 {
                return;
            }
            quiet.await;
        }
    }
}

/// Runs a worker until its drain is over.
pub(crate) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let worker = Rc::new(Worker::new(shared));
    tokio::task::spawn_local(keep_checking(worker.clone()));
    tokio::task::spawn_local(keep_counting(worker.clone()));
    let drain = worker.shared.drain.clone();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => worker.obey(command),
                None => return,
            },
            _ = drain.begun() => break,
        }
    }
    for loops in worker.pods.borrow().values() {
        loops.close_captured();
        loops.close_rest();
    }
    worker.wait_for_none(&worker.accepting).await;
    worker.tunnels.drain();
    let active = worker.active.clone();
    tokio::select! {
        () = worker.wait_for_none(&active) => {}
        () = drain.expired() => {
            worker.connections.stop(None, StopReason::Drain);
            worker.tunnels.abort(None);
            // One turn for each to close with a reset, and to say so in the log.
            let _ = tokio::time::timeout(LAST_TURN, worker.wait_for_none(&active)).await;
        }
    }
}

/// Takes leave of a pod. It is gone, and then nobody is there to notice; or it left the mesh and lives on: then what is
/// captured no longer comes, and for a moment peers that do not know yet are served, and connections may end by themselves.
async fn remove(worker: Rc<Worker>, pod: Arc<Pod>) {
    let Some(loops) = worker.pods.borrow_mut().remove(&pod.serial) else {
        return;
    };
    loops.close_captured();
    let drain = worker.shared.drain.clone();
    tokio::select! {
        () = tokio::time::sleep(POD_LINGER) => {}
        _ = drain.begun() => {}
    }
    loops.close_rest();
    worker.pool.retire_where(|key| key.pod == pod.netns.id());
    worker
        .connections
        .stop(Some(pod.serial), StopReason::Removed);
    worker.tunnels.abort(Some(pod.serial));
}

/// Live inbound connections against every new snapshot.
async fn keep_checking(worker: Rc<Worker>) {
    let mut published = worker.shared.state.subscribe();
    while published.changed().await.is_ok() {
        published.borrow_and_update();
        worker
            .connections
            .check_again(&worker.shared.state.load())
            .await;
    }
}

/// Bytes of live connections into the metrics, idle series out of them.
async fn keep_counting(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(BYTES_INTERVAL);
    let sweep_every = (SERIES_SWEEP.as_secs() / BYTES_INTERVAL.as_secs()).max(1);
    let mut tick = 0;
    loop {
        ticks.tick().await;
        tick += 1;
        worker.connections.tell_bytes();
        if tick % sweep_every == 0 {
            worker.shard.sweep();
        }
    }
}
