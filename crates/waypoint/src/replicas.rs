//! Rate limits that the replicas of a proxy share: each tells the others what it let through, a few times a second.
//!
//! Reports go one way, in a tunnel to the other replica's own pod, under the one identity that all of them have and nobody else.
//! A replica that cannot be reached is not waited for: it counts on its own until it hears of the others again. What that
//! means for the accuracy of a limit is in docs/rate-limits.md.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tulle_hbone::{Connect, Local, server};
use tulle_model::{Health, Identity, ServiceKey};
use tulle_route::rate::Spent;

use crate::dial;
use crate::failure::Failure;
use crate::limits::{
    DIAL_DEADLINE, REPLICA_MESSAGE_BYTES, REPLICA_PAUSE, REPLICA_PAUSE_LONGEST, REPLICA_QUEUE,
    REPLICA_REPORTS, REPLICA_WRITE_DEADLINE, REPLICAS, SHARE_INTERVAL,
};
use crate::state::Snapshot;
use crate::worker::{TunnelKey, Worker};

/// What a replica asks for in a tunnel to another one.
pub(crate) const AUTHORITY: &str = "rate-limits.replicas.tulle.internal:1";

/// Reports, ready to be written.
type Message = Rc<[u8]>;

/// Tells the other replicas, for as long as the worker lives. One worker does it for all.
pub(crate) async fn tell(worker: Rc<Worker>) {
    let state = worker.shared.state.clone();
    let mut published = state.subscribe();
    let mut told = Told::default();
    loop {
        published.borrow_and_update();
        let snapshot = state.load();
        if !snapshot.limits.is_shared() {
            told.nobody(&worker);
            if published.changed().await.is_err() {
                return;
            }
            continue;
        }
        told.follow(&worker, &snapshot);
        sleep(SHARE_INTERVAL).await;
        told.tell(&worker, &state.load().limits.spent());
    }
}

/// Who is told.
#[derive(Default)]
struct Told {
    /// The snapshot that the replicas are of.
    generation: u64,
    replicas: HashMap<SocketAddr, Replica>,
}

/// A task writes to each of them; it ends when this is dropped.
struct Replica {
    reports: mpsc::Sender<Message>,
    reached: Rc<Cell<bool>>,
}

impl Told {
    fn nobody(&mut self, worker: &Worker) {
        self.replicas.clear();
        worker.shared.limited.replicas(0, 0);
    }

    fn follow(&mut self, worker: &Rc<Worker>, snapshot: &Snapshot) {
        if self.generation == snapshot.generation {
            return;
        }
        self.generation = snapshot.generation;
        let own = &worker.shared.options.identity;
        let wanted = others(snapshot, own, worker.shared.options.hbone_port);
        self.replicas.retain(|to, _| wanted.contains(to));
        for to in wanted {
            self.replicas.entry(to).or_insert_with(|| {
                let (reports, queue) = mpsc::channel(REPLICA_QUEUE);
                let reached = Rc::new(Cell::new(false));
                tokio::task::spawn_local(write(worker.clone(), to, queue, reached.clone()));
                Replica { reports, reached }
            });
        }
    }

    fn tell(&self, worker: &Worker, spent: &[Spent]) {
        let metrics = &worker.shared.limited;
        for part in spent.chunks(REPLICA_REPORTS) {
            let Some(message) = encode(part) else {
                continue;
            };
            for replica in self.replicas.values() {
                if replica.reports.try_send(message.clone()).is_err() {
                    metrics.untold(part.len());
                }
            }
        }
        let reached = self.replicas.values().filter(|r| r.reached.get()).count();
        metrics.replicas(reached, self.replicas.len() - reached);
    }
}

/// The other pods of this proxy that serve.
fn others(snapshot: &Snapshot, own: &Identity, port: u16) -> BTreeSet<SocketAddr> {
    let Some(me) = &snapshot.own.workload else {
        return BTreeSet::new();
    };
    let services: Vec<ServiceKey> = snapshot.own.services.iter().map(|s| s.key()).collect();
    services
        .iter()
        .flat_map(|service| snapshot.mesh.endpoints(service))
        .filter(|w| w.uid != me.uid && w.network == me.network)
        .filter(|w| w.health == Health::Healthy && w.identity() == *own)
        .filter_map(|w| Some(SocketAddr::new(*w.addresses.first()?, port)))
        .take(REPLICAS)
        .collect()
}

/// Writes reports to one replica; connects again, with growing pauses, when it cannot be reached.
async fn write(
    worker: Rc<Worker>,
    to: SocketAddr,
    mut reports: mpsc::Receiver<Message>,
    reached: Rc<Cell<bool>>,
) {
    let mut pause = REPLICA_PAUSE;
    while !reports.is_closed() {
        match open(&worker, to).await {
            Ok(stream) => {
                tracing::debug!(replica = %to, "tells what it lets through");
                reached.set(true);
                pause = REPLICA_PAUSE;
                match forward(stream, &mut reports).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(replica = %to, %error, "no longer heard"),
                }
            }
            Err(error) if reached.get() || pause == REPLICA_PAUSE => {
                tracing::warn!(replica = %to, %error, "a replica is not reached: shared rate limits count without it");
            }
            Err(error) => tracing::debug!(replica = %to, %error, "a replica is not reached"),
        }
        reached.set(false);
        sleep(pause).await;
        pause = (pause * 2).min(REPLICA_PAUSE_LONGEST);
    }
}

async fn open(worker: &Rc<Worker>, to: SocketAddr) -> Result<Local, Failure> {
    let expected: Arc<[Identity]> = [worker.shared.options.identity.clone()].into();
    let key = TunnelKey {
        to,
        expected: expected.clone(),
    };
    let request = Connect {
        authority: AUTHORITY.to_owned(),
        ..Connect::default()
    };
    let make = async || {
        let (worker, expected) = (worker.clone(), expected.clone());
        dial::apart(async move { dial::tunnel(&worker, to, &expected, DIAL_DEADLINE).await }).await
    };
    let opened = worker.pool.open(key, make, &request).await?;
    Ok(opened.stream.into_local())
}

/// Ends without an error when there is nobody left to tell.
async fn forward(mut stream: Local, reports: &mut mpsc::Receiver<Message>) -> std::io::Result<()> {
    let mut nothing = [0; 1];
    loop {
        let message = tokio::select! {
            message = reports.recv() => message,
            // Nobody answers: something to read is an end or an error.
            ended = stream.read(&mut nothing) => {
                ended?;
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let Some(message) = message else {
            return stream.shutdown().await;
        };
        timeout(REPLICA_WRITE_DEADLINE, stream.write_all(&message)).await??;
    }
}

/// A stream of another replica.
pub(crate) fn receive(
    worker: &Rc<Worker>,
    source: SocketAddr,
    peer: &Identity,
    request: server::Request,
) {
    if *peer != worker.shared.options.identity {
        tracing::warn!(%source, %peer, "refused: only replicas of this proxy may say what they let through");
        return request.refuse(403);
    }
    let worker = worker.clone();
    let mut stream = request.accept(None).into_local();
    tokio::task::spawn_local(async move {
        let drain = worker.shared.drain.clone();
        tokio::select! {
            ended = hear(&worker, &mut stream) => if let Err(error) = ended {
                tracing::debug!(%source, %error, "a replica tells no more");
            },
            // Others are to forget us before we are gone.
            _ = drain.begun() => {}
        }
    });
}

async fn hear(worker: &Worker, stream: &mut Local) -> std::io::Result<()> {
    loop {
        let mut length = [0; 4];
        if stream.read(&mut length[..1]).await? == 0 {
            return Ok(());
        }
        stream.read_exact(&mut length[1..]).await?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > REPLICA_MESSAGE_BYTES {
            return Err(malformed("a report that is too long"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let spent: Vec<Spent> =
            serde_json::from_slice(&body).map_err(|error| malformed(&error.to_string()))?;
        let now = worker.shared.destinations.now();
        worker.shared.state.load().limits.charge(&spent, now);
    }
}

fn malformed(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
}

/// Length, then JSON.
fn encode(spent: &[Spent]) -> Option<Message> {
    let body = serde_json::to_vec(spent).ok()?;
    let length = u32::try_from(body.len()).ok()?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend(body);
    Some(message.into())
}

#[cfg(test)]
mod tests;
