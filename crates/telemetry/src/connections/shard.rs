//! One worker's part.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tulle_model::{Identity, Service, Workload};

use super::labels::{ConnectionEnds, ConnectionLabels, Reporter, ResponseFlags, SecurityPolicy};
use super::store::ShardStore;
use crate::edits::TagEdits;
use crate::limits::{REMEMBERED_LOOKUPS, SERIES_IDLE, SERIES_PER_SHARD};

/// Counters of the connections with one set of labels, in one shard.
///
/// `received` is client to server and `sent` is server to client, whoever reports (Istio's meaning).
#[derive(Debug, Default)]
pub struct ConnectionSeries {
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    /// By [`ResponseFlags`]; such a connection is counted as closed under the same flag.
    pub(super) failed: [AtomicU64; ResponseFlags::ALL.len()],
    live: AtomicU32,
    /// Milliseconds since the shard began.
    touched: AtomicU64,
}

impl ConnectionSeries {
    /// A connection begins. Every call is followed by one of [`Self::close`] or [`Self::fail`].
    pub fn open(&self) {
        self.opened.fetch_add(1, Relaxed);
        self.live.fetch_add(1, Relaxed);
    }

    /// It ended well.
    pub fn close(&self) {
        self.closed.fetch_add(1, Relaxed);
        self.live.fetch_sub(1, Relaxed);
    }

    /// It failed, or was cut.
    pub fn fail(&self, flags: ResponseFlags) {
        if let Some(counter) = self.failed.get(flags as usize) {
            counter.fetch_add(1, Relaxed);
        }
        self.live.fetch_sub(1, Relaxed);
    }

    /// Bytes that moved since the last call.
    pub fn bytes(&self, received: u64, sent: u64) {
        self.received.fetch_add(received, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
    }
}

/// The metrics of one worker. Stays on its thread.
#[derive(Debug)]
pub struct Shard {
    began: Instant,
    store: Arc<ShardStore>,
    tables: RefCell<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    series: HashMap<Arc<ConnectionLabels>, Arc<ConnectionSeries>>,
    /// From the very objects of a snapshot to their series, so that labels are built and hashed once per snapshot.
    lookups: HashMap<Lookup, Remembered>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lookup {
    reporter: Reporter,
    source: usize,
    source_principal: Option<Identity>,
    destination: usize,
    service: usize,
    security: SecurityPolicy,
}

/// Holds the objects, so that no other may come to their addresses.
#[derive(Debug)]
struct Remembered {
    series: Arc<ConnectionSeries>,
    _source: Option<Arc<Workload>>,
    _destination: Option<Arc<Workload>>,
    _service: Option<Arc<Service>>,
}

impl Shard {
    pub(super) fn new(store: Arc<ShardStore>) -> Self {
        Self {
            began: Instant::now(),
            store,
            tables: RefCell::default(),
        }
    }

    /// The series of a connection.
    pub fn series(&self, ends: &ConnectionEnds<'_>) -> Arc<ConnectionSeries> {
        let mut tables = self.tables.borrow_mut();
        let lookup = Lookup {
            reporter: ends.reporter,
            source: address(ends.source),
            source_principal: ends.source_principal.cloned(),
            destination: address(ends.destination),
            service: address(ends.service),
            security: ends.security,
        };
        if let Some(found) = tables.lookups.get(&lookup) {
            self.touch(&found.series);
            return found.series.clone();
        }
        let series = self.find(&mut tables, ConnectionLabels::from(ends));
        self.touch(&series);
        if tables.lookups.len() >= REMEMBERED_LOOKUPS {
            tables.lookups.clear();
        }
        tables.lookups.insert(
            lookup,
            Remembered {
                series: series.clone(),
                _source: ends.source.cloned(),
                _destination: ends.destination.cloned(),
                _service: ends.service.cloned(),
            },
        );
        series
    }

    /// The series of a connection whose labels users changed.
    pub fn edited_series(
        &self,
        ends: &ConnectionEnds<'_>,
        edits: &Arc<TagEdits>,
    ) -> Arc<ConnectionSeries> {
        let mut tables = self.tables.borrow_mut();
        let labels = ConnectionLabels::from(ends).edited(edits.clone());
        let series = self.find(&mut tables, labels);
        self.touch(&series);
        series
    }

    fn find(&self, tables: &mut Tables, mut labels: ConnectionLabels) -> Arc<ConnectionSeries> {
        let reporter = labels.reporter();
        if let Some(series) = tables.series.get(&labels) {
            return series.clone();
        }
        if tables.series.len() >= SERIES_PER_SHARD {
            self.store.overflowed();
            labels = ConnectionLabels::overflow(reporter);
            if let Some(series) = tables.series.get(&labels) {
                return series.clone();
            }
        }
        let labels = Arc::new(labels);
        let series = Arc::new(ConnectionSeries::default());
        tables.series.insert(labels.clone(), series.clone());
        self.store.add(labels, series.clone());
        series
    }

    /// A socket of this worker opened (+1) or closed (-1): `istio_tcp_sockets_open`.
    pub fn sockets(&self, reporter: Reporter, change: i64) {
        self.store.sockets(reporter).fetch_add(change, Relaxed);
    }

    /// Forgets look-ups and what had no connection for [`SERIES_IDLE`]. Call it every [`crate::limits::SERIES_SWEEP`].
    pub fn sweep(&self) {
        self.sweep_idle(SERIES_IDLE);
    }

    pub(super) fn sweep_idle(&self, idle: Duration) {
        let mut tables = self.tables.borrow_mut();
        tables.lookups.clear();
        let now = self.now();
        let limit = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let mut gone = Vec::new();
        tables.series.retain(|labels, series| {
            let keep = series.live.load(Relaxed) > 0
                || now.saturating_sub(series.touched.load(Relaxed)) < limit
                // Somebody still holds it and may count.
                || Arc::strong_count(series) > HOLDERS_WHEN_IDLE;
            if !keep {
                gone.push(labels.clone());
            }
            keep
        });
        tables.series.shrink_to_fit();
        drop(tables);
        self.store.retire(&gone);
    }

    fn touch(&self, series: &ConnectionSeries) {
        series.touched.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The shard's own table and the store.
const HOLDERS_WHEN_IDLE: usize = 2;

fn address<T>(object: Option<&Arc<T>>) -> usize {
    object.map_or(0, |o| Arc::as_ptr(o).addr())
}

/// Open sockets by reporter.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    source: AtomicI64,
    destination: AtomicI64,
    waypoint: AtomicI64,
}

impl Sockets {
    pub(super) fn of(&self, reporter: Reporter) -> &AtomicI64 {
        match reporter {
            Reporter::Source => &self.source,
            Reporter::Destination => &self.destination,
            Reporter::Waypoint => &self.waypoint,
        }
    }
}
