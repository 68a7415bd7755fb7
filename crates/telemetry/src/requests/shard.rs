//! One worker's part.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tulle_model::{Identity, Service, Workload};

use super::labels::{Outcome, RequestEnds, RequestLabels, RequestProtocol, RequestSecurity};
use super::series::RequestSeries;
use super::store::ShardStore;
use crate::connections::Reporter;
use crate::edits::TagEdits;
use crate::limits::{REMEMBERED_LOOKUPS, SERIES_IDLE, SERIES_PER_SHARD};

/// The metrics of one worker. Stays on its thread.
#[derive(Debug)]
pub struct RequestShard {
    began: Instant,
    store: Arc<ShardStore>,
    tables: RefCell<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    series: HashMap<Arc<RequestLabels>, Arc<RequestSeries>>,
    /// From the very objects of a snapshot to their series, so that labels are built and hashed once per snapshot.
    lookups: HashMap<Lookup, Remembered>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lookup {
    reporter: Reporter,
    source: usize,
    source_principal: Option<Identity>,
    destination: usize,
    destination_principal: Option<Identity>,
    service: usize,
    special: Option<&'static str>,
    protocol: RequestProtocol,
    security: RequestSecurity,
    /// By value: they are made for each request.
    edits: Option<Arc<TagEdits>>,
    outcome: Outcome,
}

/// Holds the objects, so that no other may come to their addresses.
#[derive(Debug)]
struct Remembered {
    series: Arc<RequestSeries>,
    _source: Option<Arc<Workload>>,
    _destination: Option<Arc<Workload>>,
    _service: Option<Arc<Service>>,
}

impl RequestShard {
    pub(super) fn new(store: Arc<ShardStore>) -> Self {
        Self {
            began: Instant::now(),
            store,
            tables: RefCell::default(),
        }
    }

    /// The series of a request.
    pub fn series(&self, ends: &RequestEnds<'_>, outcome: Outcome) -> Arc<RequestSeries> {
        let mut tables = self.tables.borrow_mut();
        let lookup = Lookup::new(ends, outcome);
        if let Some(found) = tables.lookups.get(&lookup) {
            self.touch(&found.series);
            return found.series.clone();
        }
        let series = self.find(&mut tables, ends, outcome);
        self.touch(&series);
        if tables.lookups.len() >= REMEMBERED_LOOKUPS {
            tables.lookups.clear();
        }
        let remembered = Remembered {
            series: series.clone(),
            _source: ends.source.cloned(),
            _destination: ends.destination.cloned(),
            _service: ends.service.cloned(),
        };
        tables.lookups.insert(lookup, remembered);
        series
    }

    fn find(
        &self,
        tables: &mut Tables,
        ends: &RequestEnds<'_>,
        outcome: Outcome,
    ) -> Arc<RequestSeries> {
        let mut labels = RequestLabels::new(ends, outcome);
        if let Some(series) = tables.series.get(&labels) {
            return series.clone();
        }
        if tables.series.len() >= SERIES_PER_SHARD {
            self.store.overflowed();
            labels = RequestLabels::overflow(ends.reporter);
            if let Some(series) = tables.series.get(&labels) {
                return series.clone();
            }
        }
        let labels = Arc::new(labels);
        let series = Arc::new(RequestSeries::default());
        tables.series.insert(labels.clone(), series.clone());
        self.store.add(labels, series.clone());
        series
    }

    /// Forgets look-ups and what had no request for [`SERIES_IDLE`]. Call it every [`crate::limits::SERIES_SWEEP`].
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
            let keep = now.saturating_sub(series.touched.load(Relaxed)) < limit
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

    fn touch(&self, series: &RequestSeries) {
        series.touched.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Lookup {
    fn new(ends: &RequestEnds<'_>, outcome: Outcome) -> Self {
        Self {
            reporter: ends.reporter,
            source: address(ends.source),
            source_principal: ends.source_principal.cloned(),
            destination: address(ends.destination),
            destination_principal: ends.destination_principal.cloned(),
            service: address(ends.service),
            special: ends.special,
            protocol: ends.protocol,
            security: ends.security,
            edits: ends.edits.cloned(),
            outcome,
        }
    }
}

/// The shard's own table and the store.
const HOLDERS_WHEN_IDLE: usize = 2;

fn address<T>(object: Option<&Arc<T>>) -> usize {
    object.map_or(0, |o| Arc::as_ptr(o).addr())
}
