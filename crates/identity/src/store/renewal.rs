//! Fetching and renewing: a few at a time, those for whom somebody waits first, with back-off after failures.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tulle_model::Identity;

use crate::credentials::Credentials;
use crate::epoch::Epoch;
use crate::issue::IssueError;
use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, CLOCK_CHECK, FETCH_DEADLINE, MAX_FETCHES, MIN_RENEWAL,
};
use crate::request::CertificateRequest;
use crate::store::{Due, Priority, Shared};

/// The task behind a store.
pub struct Renewal {
    shared: Arc<Shared>,
}

/// One fetch that has ended.
struct Fetched {
    identity: Identity,
    id: u64,
    outcome: Result<Arc<Epoch>, IssueError>,
}

impl Renewal {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs until dropped. What was fetched so far stays in use without it.
    pub async fn run(self) {
        let mut fetches = JoinSet::new();
        loop {
            let next = self.start(&mut fetches);
            tokio::select! {
                Some(ended) = fetches.join_next() => match ended {
                    Ok(fetched) => self.finish(fetched),
                    Err(error) => tracing::error!(%error, "a certificate fetch was lost"),
                },
                () = self.shared.wake.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Starts what is due, and says when to look again.
    fn start(&self, fetches: &mut JoinSet<Fetched>) -> Instant {
        let (clock, now) = (SystemTime::now(), Instant::now());
        let mut next = now + CLOCK_CHECK;
        let mut due = Vec::new();
        let mut table = self.shared.lock();
        for (identity, entry) in &table.entries {
            let wait = match entry.due {
                Due::Fetching => continue,
                Due::Now => Duration::ZERO,
                Due::Backoff(until) => until.saturating_duration_since(now),
                Due::Renew(at) => at.duration_since(clock).unwrap_or_default(),
            };
            if wait.is_zero() {
                due.push((entry.priority, identity.clone(), entry.id));
            } else {
                next = next.min(now + wait);
            }
        }
        due.sort();
        for (_, identity, id) in due {
            if fetches.len() >= MAX_FETCHES {
                break; // The next one that ends wakes us.
            }
            if let Some(entry) = table.entries.get_mut(&identity) {
                entry.due = Due::Fetching;
                fetches.spawn(fetch(self.shared.clone(), identity, id));
            }
        }
        next
    }

    fn finish(&self, fetched: Fetched) {
        let Fetched {
            identity,
            id,
            outcome,
        } = fetched;
        let mut table = self.shared.lock();
        let Some(entry) = table.entries.get_mut(&identity).filter(|e| e.id == id) else {
            return; // Forgotten meanwhile.
        };
        entry.priority = Priority::Background;
        let kept = match &outcome {
            Ok(epoch) => {
                let half = epoch.remaining(SystemTime::now()) / 2;
                // Pods that started together should not renew together for ever.
                let spread = half.mul_f64(rand::random_range(0.9..=1.0)).max(MIN_RENEWAL);
                entry.due = Due::Renew(SystemTime::now() + spread);
                entry.failures = 0;
                entry.error = None;
                entry.epoch = Some(epoch.clone());
                None
            }
            Err(error) => {
                entry.due = Due::Backoff(Instant::now() + backoff(entry.failures));
                entry.failures = entry.failures.saturating_add(1);
                entry.error = Some(error.clone());
                let now = SystemTime::now();
                entry.epoch.clone().filter(|epoch| now < epoch.not_after)
            }
        };
        let finished = entry.finished.clone();
        if outcome.is_ok() {
            self.shared.publish(&table);
        }
        drop(table);
        finished.send_modify(|count| *count = count.wrapping_add(1));
        match outcome {
            Ok(epoch) => self.shared.observer.issued(&epoch),
            Err(error) => {
                match &kept {
                    Some(old) => tracing::warn!(
                        %identity, %error, expires_in = ?old.remaining(SystemTime::now()),
                        "certificate not renewed; the old one stays in use"
                    ),
                    None => tracing::warn!(%identity, %error, "no certificate"),
                }
                self.shared
                    .observer
                    .failed(&identity, &error, kept.as_ref());
            }
        }
    }
}

/// Doubles from [`BACKOFF_MIN`] to [`BACKOFF_MAX`]; up to a quarter is random, so that a whole node does not come at once.
pub(super) fn backoff(failures: u32) -> Duration {
    let pause = BACKOFF_MIN
        .saturating_mul(2u32.saturating_pow(failures.min(16)))
        .min(BACKOFF_MAX);
    pause.mul_f64(rand::random_range(0.75..=1.0))
}

async fn fetch(shared: Arc<Shared>, identity: Identity, id: u64) -> Fetched {
    let outcome = timeout(FETCH_DEADLINE, obtain(&shared, &identity))
        .await
        .unwrap_or(Err(IssueError::Deadline(FETCH_DEADLINE)));
    Fetched {
        identity,
        id,
        outcome,
    }
}

async fn obtain(shared: &Shared, identity: &Identity) -> Result<Arc<Epoch>, IssueError> {
    let unusable = |why: String| IssueError::Unusable {
        identity: identity.clone(),
        why,
    };
    let request =
        CertificateRequest::new(identity).map_err(|error| IssueError::Local(error.to_string()))?;
    let issued = shared
        .issuer
        .issue(identity, request.csr_pem.clone(), shared.settings.lifetime)
        .await?;
    let credentials = Credentials::assemble(identity, request, &issued)
        .map_err(|error| unusable(error.to_string()))?;
    if credentials.not_after <= SystemTime::now() {
        return Err(unusable(
            "it has expired already; compare the clocks".to_owned(),
        ));
    }
    let epoch = Epoch::new(credentials, shared.settings.tls)
        .map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(epoch))
}
