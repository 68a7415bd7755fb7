//! The live connections of one worker: so that they can be shown, counted, checked again and ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tulle_hbone::{Counters, StopReason};
use tulle_model::{Identity, Service, Workload};
use tulle_policy::{self as policy, Verdict};
use tulle_telemetry::{ConnectionSeries, Reporter};

use crate::bypass::{self, Arrived, BypassMetric};
use crate::error::Failure;
use crate::limits::{CHECKS_AT_ONCE, CONNECTIONS_PER_WORKER, CONNECTIONS_SHOWN};
use crate::pod::{Pod, PodSerial};
use crate::signal::Once;
use crate::state::Snapshot;

/// A connection that moves bytes.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) pod: Arc<Pod>,
    pub(crate) shown: Shown,
    pub(crate) counters: Rc<Counters>,
    series: Arc<ConnectionSeries>,
    /// What the series knows already: received, sent.
    told: Cell<(u64, u64)>,
    stop: Once<StopReason>,
    /// For inbound connections: what policies are asked.
    check: Option<Check>,
}

/// What an admin page says of it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) pod: Arc<str>,
    pub(crate) reporter: Reporter,
    pub(crate) source: SocketAddr,
    /// Where the client wanted to go; for inbound connections the service, if one was addressed.
    pub(crate) original: Option<Arc<str>>,
    pub(crate) actual: SocketAddr,
    pub(crate) tunnel: bool,
}

/// The question that policies answer, with the destination as it was last known.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) workload: RefCell<Arc<Workload>>,
    pub(crate) peer: Option<Identity>,
    pub(crate) peer_ip: IpAddr,
    pub(crate) destination: SocketAddr,
    /// The service that the peer says it addressed.
    addressed: Option<Arc<Service>>,
    /// Why it was cut.
    denial: RefCell<Option<Arc<str>>>,
}

impl Check {
    pub(crate) fn new(
        workload: Arc<Workload>,
        peer: Option<Identity>,
        peer_ip: IpAddr,
        destination: SocketAddr,
    ) -> Self {
        Self {
            workload: RefCell::new(workload),
            peer,
            peer_ip,
            destination,
            addressed: None,
            denial: RefCell::default(),
        }
    }

    /// With the service that the peer says it addressed.
    pub(crate) fn addressing(self, service: Option<Arc<Service>>) -> Self {
        Self {
            addressed: service,
            ..self
        }
    }

    /// Whether the connection may begin: by the policies, and by the way that it came, which is counted.
    pub(crate) fn judge(&self, snapshot: &Snapshot, bypass: &BypassMetric) -> Result<(), Failure> {
        self.decide(snapshot)?;
        bypass.judge(&snapshot.mesh, self.arrived(&self.workload.borrow()))
    }

    /// Why the connection may not go on, if it may not.
    fn judge_again(&self, snapshot: &Snapshot) -> Option<Arc<str>> {
        if let Verdict::Denied(reason) = self.evaluate(snapshot) {
            return Some(reason.to_string().into());
        }
        let refused = bypass::refusal(&snapshot.mesh, self.arrived(&self.workload.borrow()))?;
        Some(refused.to_string().into())
    }

    fn arrived<'a>(&'a self, workload: &'a Workload) -> Arrived<'a> {
        Arrived {
            workload,
            port: self.destination.port(),
            peer: self.peer.as_ref(),
            addressed: self.addressed.as_deref(),
        }
    }

    /// Asks the policies. What dry-run policies would have done is logged.
    fn decide(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let verdict = self.evaluate(snapshot);
        for hit in verdict.dry_run() {
            let destination = &self.destination;
            tracing::info!(source = %self.peer_ip, %destination, "{hit}");
        }
        match verdict {
            Verdict::Allowed(by) => {
                tracing::trace!(source = %self.peer_ip, destination = %self.destination, "{by}");
                Ok(())
            }
            Verdict::Denied(reason) => Err(Failure::Denied(reason.to_string().into())),
        }
    }

    /// Asks the policies of `snapshot`, for the destination as it is in `snapshot`.
    fn evaluate(&self, snapshot: &Snapshot) -> Verdict {
        let mut workload = self.workload.borrow_mut();
        if let Some(now) = snapshot.again(&workload) {
            *workload = now.clone();
        }
        snapshot.policies.evaluate(
            &workload,
            &policy::Connection {
                source: self.peer.as_ref(),
                source_ip: self.peer_ip,
                destination: self.destination,
            },
        )
    }
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
    /// The policies that all of them were last checked against.
    policy_generation: Cell<u64>,
}

/// Keeps a connection in the table.
pub(crate) struct Registered<'a> {
    table: &'a Connections,
    id: u64,
    connection: Rc<Connection>,
}

impl Connections {
    /// Adds a connection; `None` when there are too many.
    pub(crate) fn register(
        &self,
        pod: Arc<Pod>,
        shown: Shown,
        series: Arc<ConnectionSeries>,
        check: Option<Check>,
    ) -> Option<Registered<'_>> {
        let mut table = self.table.borrow_mut();
        if table.len() >= CONNECTIONS_PER_WORKER {
            return None;
        }
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let connection = Rc::new(Connection {
            pod,
            shown,
            counters: Rc::default(),
            series,
            told: Cell::default(),
            stop: Once::default(),
            check,
        });
        table.insert(id, connection.clone());
        Some(Registered {
            table: self,
            id,
            connection,
        })
    }

    /// Ends the connections of a pod, or all.
    pub(crate) fn stop(&self, pod: Option<PodSerial>, reason: StopReason) {
        for connection in self.table.borrow().values() {
            if pod.is_none_or(|id| connection.pod.serial == id) {
                connection.stop.tell(reason);
            }
        }
    }

    /// Adds what moved to the metrics.
    pub(crate) fn tell_bytes(&self) {
        for connection in self.table.borrow().values() {
            connection.tell_bytes();
        }
    }

    pub(crate) fn show(&self) -> Vec<Shown> {
        let table = self.table.borrow();
        table
            .values()
            .take(CONNECTIONS_SHOWN)
            .map(|c| c.shown.clone())
            .collect()
    }

    /// Cuts what `snapshot` no longer allows. Asks only where policies or the destination changed.
    pub(crate) async fn check_again(&self, snapshot: &Snapshot) {
        let policies_changed = self.policy_generation.replace(snapshot.policy_generation)
            != snapshot.policy_generation;
        let inbound: Vec<Rc<Connection>> = {
            let table = self.table.borrow();
            table
                .values()
                .filter(|c| c.check.is_some())
                .cloned()
                .collect()
        };
        for some in inbound.chunks(CHECKS_AT_ONCE) {
            for connection in some {
                connection.check_again(snapshot, policies_changed);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Connection {
    /// Bytes from client to server and back.
    fn bytes(&self) -> (u64, u64) {
        let (to_tunnel, to_app) = (self.counters.to_tunnel.get(), self.counters.to_app.get());
        let client_is_in_the_tunnel =
            self.shown.reporter == Reporter::Destination && self.shown.tunnel;
        if client_is_in_the_tunnel {
            (to_app, to_tunnel)
        } else {
            (to_tunnel, to_app)
        }
    }

    fn tell_bytes(&self) -> (u64, u64) {
        let (received, sent) = self.bytes();
        let (old_received, old_sent) = self.told.replace((received, sent));
        if (received, sent) != (old_received, old_sent) {
            self.series.bytes(received - old_received, sent - old_sent);
        }
        (received, sent)
    }

    fn check_again(&self, snapshot: &Snapshot, policies_changed: bool) {
        let Some(check) = &self.check else { return };
        let same = |now: &Arc<Workload>| Arc::ptr_eq(now, &check.workload.borrow());
        let moved = !snapshot.again(&check.workload.borrow()).is_none_or(same);
        if !policies_changed && !moved {
            return;
        }
        if let Some(reason) = check.judge_again(snapshot) {
            *check.denial.borrow_mut() = Some(reason);
            self.stop.tell(StopReason::Policy);
        }
    }
}

impl Registered<'_> {
    pub(crate) fn counters(&self) -> &Rc<Counters> {
        &self.connection.counters
    }

    /// Resolves when somebody ends the connection.
    pub(crate) fn stopped(&self) -> impl Future<Output = StopReason> + use<> {
        let connection = self.connection.clone();
        std::future::poll_fn(move |context| connection.stop.poll(context.waker()))
    }

    /// Asks policies that were published since they were asked first.
    pub(crate) fn check_again(&self, snapshot: &Snapshot) {
        self.connection.check_again(snapshot, true);
    }

    /// Why a policy ended it.
    pub(crate) fn denial(&self) -> Option<Arc<str>> {
        self.connection.check.as_ref()?.denial.borrow().clone()
    }

    /// Adds the last bytes to the metrics; returns all that moved: client to server, server to client.
    pub(crate) fn finish(&self) -> (u64, u64) {
        self.connection.tell_bytes()
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.table.table.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
