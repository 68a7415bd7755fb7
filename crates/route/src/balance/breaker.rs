//! Limits of a destination: beyond them, requests are refused rather than queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::resource::CircuitBreaker;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Use {
    Connection,
    Pending,
    Request,
    Retry,
}

/// Counters of one destination, shared by the workers.
#[derive(Debug, Default)]
pub struct Breaker {
    limits: CircuitBreaker,
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
}

/// The limit is reached: answer with 503 (response flag `UO`; for retries, give the last answer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the destination's limit of {limit} {what} is reached (DestinationRule connectionPool or retry budget)", what = .kind.plural())]
pub struct Refused {
    /// Which one.
    pub kind: Use,
    /// How many there may be.
    pub limit: u32,
}

impl Use {
    fn plural(self) -> &'static str {
        match self {
            Self::Connection => "connections",
            Self::Pending => "pending requests",
            Self::Request => "requests",
            Self::Retry => "retries",
        }
    }
}

/// A permit to use the destination, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    kind: Use,
}

/// Envoy's default of a budget's `min_retry_concurrency`.
const BUDGET_MINIMUM: u32 = 3;
/// Envoy's default of a budget's percentage.
const BUDGET_PERCENT: u32 = 20;

impl Breaker {
    /// With these limits.
    pub fn new(limits: CircuitBreaker) -> Arc<Self> {
        Arc::new(Self {
            limits,
            ..Self::default()
        })
    }

    /// One more, or a refusal.
    pub fn enter(self: &Arc<Self>, kind: Use) -> Result<Permit, Refused> {
        let limit = self.limit(kind);
        let counter = self.counter(kind);
        let entered = counter.fetch_update(Relaxed, Relaxed, |count| {
            (count < limit).then_some(count + 1)
        });
        match entered {
            Ok(_) => Ok(Permit {
                breaker: self.clone(),
                kind,
            }),
            Err(_) => Err(Refused { kind, limit }),
        }
    }

    /// How many there are now.
    pub fn count(&self, kind: Use) -> u32 {
        self.counter(kind).load(Relaxed)
    }

    /// How many there may be; a retry budget counts instead of a fixed number.
    fn limit(&self, kind: Use) -> u32 {
        let limits = &self.limits;
        let fixed = match kind {
            Use::Connection => limits.max_connections,
            Use::Pending => limits.max_pending_requests,
            Use::Request => limits.max_requests,
            Use::Retry => {
                let budget = (limits.retry_budget_percent, limits.retry_budget_minimum);
                match budget {
                    (None, None) => limits.max_retries,
                    (percent, minimum) => Some(self.budget(percent, minimum)),
                }
            }
        };
        fixed.unwrap_or(u32::MAX)
    }

    fn budget(&self, percent: Option<u32>, minimum: Option<u32>) -> u32 {
        let under_way = u64::from(self.count(Use::Request)) + u64::from(self.count(Use::Pending));
        let share = under_way * u64::from(percent.unwrap_or(BUDGET_PERCENT)) / 100;
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        share.max(minimum.unwrap_or(BUDGET_MINIMUM))
    }

    fn counter(&self, kind: Use) -> &AtomicU32 {
        match kind {
            Use::Connection => &self.connections,
            Use::Pending => &self.pending,
            Use::Request => &self.requests,
            Use::Retry => &self.retries,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker.counter(self.kind).fetch_sub(1, Relaxed);
    }
}
