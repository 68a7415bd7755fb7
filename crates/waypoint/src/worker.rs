//! One worker thread: accepts on its own listeners, owns its tunnels, connections and pools.

mod accept;
mod tunnels;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tulle_daemon::Drain;
use tulle_hbone::Pool;
use tulle_identity::Certificates;
use tulle_model::Identity;
use tulle_route::balance::{self, Cursor, Draw, Outcome};
use tulle_route::resource::Role;
use tulle_telemetry::limits::SERIES_SWEEP;
use tulle_telemetry::{
    ConnectionMetrics, Counter, CounterFamily, RequestMetrics, RequestShard, Shard,
};

use crate::board::Board;
use crate::connection;
use crate::destination::{Destination, DestinationKey, Destinations, NoDestination};
use crate::inbound::Arrival;
use crate::io;
use crate::keyring::Keyring;
use crate::limits::{CONNECTIONS_PER_WORKER, CURSORS, DESTINATIONS, FAREWELL, LAST_TURN};
use crate::listener::ListenerTls;
use crate::options::Options;
use crate::otlp::Exports;
use crate::rate;
use crate::replicas;
use crate::state::{Snapshot, State};
use crate::upstream::UpstreamKey;
use accept::{Arriving, Loop};
use tunnels::Tunnels;

/// What all threads share: immutable, or safe to share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    /// Our Istio network.
    pub(crate) network: Arc<str>,
    pub(crate) state: Arc<State>,
    pub(crate) certificates: Certificates,
    pub(crate) requests: RequestMetrics,
    pub(crate) connections: ConnectionMetrics,
    pub(crate) board: Board,
    pub(crate) destinations: Destinations,
    pub(crate) keyring: Keyring,
    /// Told when keys were fetched, or could not be.
    pub(crate) keys_came: Notify,
    pub(crate) listeners: ListenerTls,
    pub(crate) spans_dropped: Counter,
    pub(crate) logs_dropped: Counter,
    /// What authorization said of requests, by policy: refusals, and what dry-run and AUDIT policies noted.
    pub(crate) decisions: CounterFamily,
    pub(crate) limited: rate::Metrics,
    pub(crate) drain: Drain,
}

/// To whom a tunnel of ours leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TunnelKey {
    pub(crate) to: SocketAddr,
    pub(crate) expected: Arc<[Identity]>,
}

/// What a worker owns.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) requests: RequestShard,
    pub(crate) connections: Shard,
    /// Tunnels to endpoints.
    pub(crate) pool: Pool<TunnelKey>,
    /// Connections of requests to endpoints.
    pub(crate) upstreams: tulle_http::upstream::Pool<UpstreamKey>,
    /// Destinations, and the snapshot that they are good for.
    ready: RefCell<HashMap<DestinationKey, (u64, Arc<Destination>)>>,
    /// Round robin and the like, by destination.
    cursors: RefCell<HashMap<u64, Cursor>>,
    /// On their way to collectors.
    pub(crate) exports: Exports,
    /// Copies of requests that are under way.
    pub(crate) mirrors: Cell<usize>,
    /// Tunnels of clients.
    pub(crate) tunnels: Tunnels,
    /// Listeners that are being accepted from.
    accepting: Rc<Cell<usize>>,
    /// Tunnels and connections that are being served.
    active: Rc<Cell<usize>>,
    /// Told when one of the two became 0.
    quiet: Rc<Notify>,
    listening: RefCell<BTreeMap<u16, Loop>>,
}

/// Counts itself for as long as it lives.
pub(crate) struct Active {
    count: Rc<Cell<usize>>,
    quiet: Rc<Notify>,
}

impl Active {
    fn count(count: &Rc<Cell<usize>>, quiet: &Rc<Notify>) -> Self {
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
    fn new(shared: Arc<Shared>, index: usize) -> Self {
        Self {
            requests: shared.requests.shard(),
            connections: shared.connections.shard(),
            pool: Pool::new(shared.options.hbone.clone()),
            upstreams: tulle_http::upstream::Pool::new(),
            ready: RefCell::default(),
            cursors: RefCell::default(),
            exports: Exports::default(),
            mirrors: Cell::default(),
            tunnels: Tunnels::default(),
            accepting: Rc::default(),
            active: Rc::default(),
            quiet: Rc::default(),
            listening: RefCell::default(),
            shared,
            index,
        }
    }

    /// Whether there is no room for another connection.
    pub(crate) fn full(&self) -> bool {
        self.active.get() >= CONNECTIONS_PER_WORKER
    }

    /// A destination as `snapshot` has it; looked up once per snapshot.
    pub(crate) fn destination(
        &self,
        snapshot: &Snapshot,
        key: &DestinationKey,
    ) -> Result<Arc<Destination>, NoDestination> {
        let mut ready = self.ready.borrow_mut();
        if let Some((generation, found)) = ready.get(key)
            && *generation == snapshot.generation
        {
            return Ok(found.clone());
        }
        if ready.len() >= DESTINATIONS {
            ready.clear();
        }
        let found = self.shared.destinations.get(snapshot, key);
        let old = match &found {
            Ok(found) => ready.insert(key.clone(), (snapshot.generation, found.clone())),
            // What is gone is not to be held.
            Err(_) => ready.remove(key),
        };
        let connections = found.as_ref().ok().map(|found| found.connections);
        if let Some((_, old)) = old
            && connections != Some(old.connections)
        {
            // Made as is no longer wanted.
            self.upstreams
                .retire_where(|key| key.is_of(old.connections));
        }
        found
    }

    /// Chooses an endpoint; it counts as busy for as long as the answer lives.
    pub(crate) fn choose(
        &self,
        destination: &Destination,
        draw: &Draw<'_>,
    ) -> Option<(usize, balance::Active)> {
        let mut cursors = self.cursors.borrow_mut();
        if cursors.len() >= CURSORS {
            cursors.clear();
        }
        let cursor = cursors.entry(destination.serial).or_default();
        let at = destination.balancer.choose(draw, cursor)?;
        let state = &destination.balancer.members().get(at)?.state;
        Some((at, state.begin()))
    }

    /// Takes note of how a request or connection to an endpoint ended.
    pub(crate) fn report(&self, destination: &Destination, at: usize, outcome: Outcome) {
        let now = self.shared.destinations.now();
        if let Some(ejection) = destination.balancer.report(at, outcome, now) {
            let endpoint = destination.endpoints.get(at);
            let endpoint = endpoint.and_then(|e| e.workload.as_ref()).map(|w| &*w.name);
            tracing::info!(cluster = &*destination.cluster, endpoint, why = ?ejection.symptom, "an endpoint is left out for {:?}", ejection.duration);
        }
    }

    /// Counts a connection for as long as the answer lives.
    pub(crate) fn active(&self) -> Active {
        Active::count(&self.active, &self.quiet)
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

    /// Listens where the snapshot says, and nowhere else.
    fn listen(self: &Rc<Self>, snapshot: &Snapshot) {
        let wanted = wanted(snapshot, self.shared.options.hbone_port);
        let mut listening = self.listening.borrow_mut();
        listening.retain(|port, old| {
            let keep = wanted.get(port) == Some(&old.arriving);
            if !keep {
                old.end();
            }
            keep
        });
        for (port, arriving) in wanted {
            if listening.contains_key(&port) {
                continue;
            }
            match Loop::start(self, port, arriving) {
                Ok(started) => {
                    listening.insert(port, started);
                }
                Err(error) => {
                    tracing::error!(port, %error, "cannot listen; trying again with the next change");
                }
            }
        }
    }
}

/// Ports and what arrives there.
fn wanted(snapshot: &Snapshot, hbone: u16) -> BTreeMap<u16, Arriving> {
    let mut wanted = BTreeMap::new();
    for gateway in snapshot.gateways.values() {
        match gateway.role {
            Role::Waypoint { .. } => {
                wanted.insert(hbone, Arriving::Hbone);
            }
            Role::Gateway => {
                let ports = gateway
                    .listeners
                    .iter()
                    .map(|l| (l.port, Arriving::Listener));
                wanted.extend(ports);
            }
        }
    }
    // Replicas of a gateway, too, tell each other what they let through.
    if snapshot.limits.is_shared() {
        wanted.entry(hbone).or_insert(Arriving::Hbone);
    }
    wanted
}

/// Runs a worker until its drain is over.
pub(crate) async fn run(shared: Arc<Shared>, index: usize, mut arrivals: mpsc::Receiver<Arrival>) {
    let worker = Rc::new(Worker::new(shared, index));
    tokio::task::spawn_local(keep_counting(worker.clone()));
    tokio::task::spawn_local(io::deliver());
    if index == 0 {
        tokio::task::spawn_local(replicas::tell(worker.clone()));
    }
    let drain = worker.shared.drain.clone();
    let state = worker.shared.state.clone();
    let mut published = state.subscribe();
    worker.listen(&state.load());
    loop {
        tokio::select! {
            arrival = arrivals.recv() => match arrival {
                Some(arrival) => connection::start(&worker, arrival),
                None => return,
            },
            changed = published.changed() => match changed {
                Ok(()) => {
                    published.borrow_and_update();
                    worker.listen(&state.load());
                }
                Err(_) => return,
            },
            _ = drain.begun() => break,
        }
    }
    farewell(&worker, &mut arrivals).await;
    for old in worker.listening.borrow().values() {
        old.end();
    }
    worker.wait_for_none(&worker.accepting).await;
    worker.tunnels.drain();
    let active = worker.active.clone();
    let finished = async {
        loop {
            tokio::select! {
                // What was on its way when the drain began.
                Some(arrival) = arrivals.recv() => connection::start(&worker, arrival),
                () = worker.wait_for_none(&active) => return,
            }
        }
    };
    tokio::select! {
        () = finished => {}
        () = drain.expired() => {
            worker.tunnels.abort();
            // One turn for each to close, and to say so in the log.
            let _ = tokio::time::timeout(LAST_TURN, worker.wait_for_none(&active)).await;
        }
    }
}

/// Who is here already is asked to go elsewhere; who has not heard yet that we leave is still taken, and asked too.
async fn farewell(worker: &Rc<Worker>, arrivals: &mut mpsc::Receiver<Arrival>) {
    worker.tunnels.drain();
    let drain = &worker.shared.drain;
    let over = tokio::time::sleep(FAREWELL.min(worker.shared.options.drain / 2));
    tokio::pin!(over);
    loop {
        tokio::select! {
            Some(arrival) = arrivals.recv() => connection::start(worker, arrival),
            () = &mut over => return,
            () = drain.expired() => return,
        }
    }
}

/// Idle series out of the metrics.
async fn keep_counting(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(SERIES_SWEEP);
    loop {
        ticks.tick().await;
        worker.requests.sweep();
        worker.connections.sweep();
    }
}
