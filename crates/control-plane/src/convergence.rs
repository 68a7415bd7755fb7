//! How long it takes until every connected proxy has taken a change: `pilot_proxy_convergence_time`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::time::sleep;
use tulle_telemetry::Histogram;
use tulle_xds::server::{Connected, Counters};

use crate::limits::{CONVERGENCE_EVERY, CONVERGENCE_LONGEST, CONVERGENCE_PENDING};

/// Changes on their way. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Convergence(Arc<Shared>);

#[derive(Default)]
struct Shared {
    pending: Mutex<VecDeque<Pending>>,
    changed: Notify,
}

/// One published batch of one type.
struct Pending {
    type_url: &'static str,
    sequence: u64,
    begun: Instant,
}

impl Convergence {
    /// Changes of a type that came at `begun` are published up to `sequence`. Beyond the bound the
    /// oldest is forgotten.
    pub(crate) fn published(&self, type_url: &'static str, sequence: u64, begun: Instant) {
        let mut pending = self.lock();
        pending.push_back(Pending {
            type_url,
            sequence,
            begun,
        });
        if pending.len() > CONVERGENCE_PENDING {
            pending.pop_front();
        }
        drop(pending);
        self.0.changed.notify_one();
    }

    /// Measures for ever. It looks every 50 ms while something is pending: the smallest bucket is
    /// twice that.
    pub(crate) async fn measure(self, counters: Arc<Counters>, times: Histogram) {
        loop {
            self.0.changed.notified().await;
            while !self.lock().is_empty() {
                self.look(&counters.connected(), Instant::now(), &times);
                sleep(CONVERGENCE_EVERY).await;
            }
        }
    }

    fn look(&self, streams: &[Connected], now: Instant, times: &Histogram) {
        self.lock().retain(|change| {
            let waited = now.saturating_duration_since(change.begun);
            let taken =
                streams
                    .iter()
                    .all(|stream| match stream.acknowledged.get(change.type_url) {
                        Some((sequence, _)) => *sequence >= change.sequence,
                        // Not subscribed, or not yet: nothing of this change is on its way there.
                        None => true,
                    });
            if taken && !streams.is_empty() {
                times.observe(waited.as_secs_f64());
            }
            !taken && waited < CONVERGENCE_LONGEST
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.0
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
