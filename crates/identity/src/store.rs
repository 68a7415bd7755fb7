//! The certificates that this process speaks with: one epoch per identity, fetched once for all who wait, renewed in time.
//!
//! Readers on the data path take an immutable snapshot and never wait for a lock. Everything that changes goes through one
//! short critical section; fetching happens in [`Renewal::run`], on the runtime that the owner chose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tulle_model::Identity;

use crate::credentials::{Credentials, CredentialsError};
use crate::epoch::Epoch;
use crate::issue::{IssueError, Issuer};
use crate::limits::{DEFAULT_LIFETIME, GET_DEADLINE, MAX_IDENTITIES};
use crate::tls::{TlsError, TlsSettings};

mod dump;
mod renewal;

pub use dump::{Dump, DumpedCertificate, Phase};
pub use renewal::Renewal;

/// What may be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Lifetime to ask for (`SECRET_TTL`).
    pub lifetime: Duration,
    /// TLS of the epochs.
    pub tls: TlsSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lifetime: DEFAULT_LIFETIME,
            tls: TlsSettings::default(),
        }
    }
}

/// Who wants to know what happens to certificates: metrics, and the keeper of sealed copies. Called without any lock held,
/// on the runtime of [`Renewal::run`] (`forgotten`: of the caller); must not block.
pub trait Observer: Send + Sync + 'static {
    /// A new epoch is in use.
    fn issued(&self, _epoch: &Arc<Epoch>) {}
    /// A fetch failed; `kept` is the certificate that stays in use, if one is still valid.
    fn failed(&self, _identity: &Identity, _error: &IssueError, _kept: Option<&Arc<Epoch>>) {}
    /// An identity is no longer held.
    fn forgotten(&self, _identity: &Identity) {}
}

/// An observer that is not interested.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Why there is no certificate right now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The last fetch failed; the next one is under way or scheduled.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// It takes too long.
    #[error(
        "no certificate for {identity} after {GET_DEADLINE:?}; is the control plane reachable?"
    )]
    Deadline {
        /// For whom.
        identity: Identity,
    },
    /// The last pod of the identity left while we waited.
    #[error("{identity} is not held any more: its last pod left this node")]
    Forgotten {
        /// For whom.
        identity: Identity,
    },
    /// Too many identities.
    #[error("{MAX_IDENTITIES} identities are held already")]
    Full,
}

/// Why stored credentials were not taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The blob is damaged.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// They do not make a TLS configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// They ran out meanwhile.
    #[error("the stored certificate of {0} has expired")]
    Expired(Identity),
}

/// The store. Clones are the same store; all methods may be called from every thread.
#[derive(Clone)]
pub struct Certificates(Arc<Shared>);

type Snapshot = HashMap<Identity, Arc<Epoch>>;

struct Shared {
    published: ArcSwap<Snapshot>,
    table: Mutex<Table>,
    wake: Notify,
    issuer: Arc<dyn Issuer>,
    observer: Arc<dyn Observer>,
    settings: Settings,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Identity, Entry>,
    next_id: u64,
}

/// Who is first in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Priority {
    /// A connection waits.
    Waiting,
    /// A pod has just come; connections will follow.
    WarmUp,
    /// Renewal.
    Background,
}

/// When the next fetch starts.
#[derive(Debug, Clone, Copy)]
enum Due {
    Now,
    /// After a failure.
    Backoff(Instant),
    /// Renewal, by the system clock, because that is what certificates know.
    Renew(SystemTime),
    /// One is under way.
    Fetching,
}

struct Entry {
    /// Tells a fetch that its entry was forgotten, and another made, meanwhile.
    id: u64,
    epoch: Option<Arc<Epoch>>,
    due: Due,
    priority: Priority,
    failures: u32,
    error: Option<IssueError>,
    /// Counts finished fetches.
    finished: watch::Sender<u64>,
}

impl Certificates {
    /// An empty store, and the task that fills it: spawn [`Renewal::run`].
    pub fn new(
        issuer: Arc<dyn Issuer>,
        observer: Arc<dyn Observer>,
        settings: Settings,
    ) -> (Self, Renewal) {
        let shared = Arc::new(Shared {
            published: ArcSwap::default(),
            table: Mutex::default(),
            wake: Notify::new(),
            issuer,
            observer,
            settings,
        });
        (Self(shared.clone()), Renewal::new(shared))
    }

    /// The certificate in use, without waiting. `None` if there is none or it has expired: then use [`get`](Self::get).
    pub fn try_get(&self, identity: &Identity) -> Option<Arc<Epoch>> {
        let epoch = self.0.published.load().get(identity)?.clone();
        (SystemTime::now() < epoch.not_after).then_some(epoch)
    }

    /// The certificate of `identity`; fetches it if need be. All who wait for the same identity share one fetch.
    ///
    /// # Errors
    /// If it cannot be had. After a failure the answer comes at once until the next attempt, which nobody needs to ask for.
    pub async fn get(&self, identity: &Identity) -> Result<Arc<Epoch>, GetError> {
        if let Some(epoch) = self.try_get(identity) {
            return Ok(epoch);
        }
        let finished = {
            let mut table = self.0.lock();
            let entry = table.want(identity, Priority::Waiting)?;
            if let (Due::Backoff(_), Some(error)) = (entry.due, &entry.error) {
                return Err(error.clone().into());
            }
            entry.finished.subscribe()
        };
        self.0.wake.notify_one();
        timeout(GET_DEADLINE, self.wait(identity, finished))
            .await
            .unwrap_or_else(|_| {
                Err(GetError::Deadline {
                    identity: identity.clone(),
                })
            })
    }

    async fn wait(
        &self,
        identity: &Identity,
        mut finished: watch::Receiver<u64>,
    ) -> Result<Arc<Epoch>, GetError> {
        let forgotten = || GetError::Forgotten {
            identity: identity.clone(),
        };
        loop {
            // The epoch may have come between the caller's look and its subscription.
            if let Some(epoch) = self.try_get(identity) {
                return Ok(epoch);
            }
            finished.changed().await.map_err(|_| forgotten())?;
            if let Some(epoch) = self.try_get(identity) {
                return Ok(epoch);
            }
            let table = self.0.lock();
            let entry = table.entries.get(identity).ok_or_else(forgotten)?;
            if let Some(error) = &entry.error {
                return Err(error.clone().into());
            }
        }
    }

    /// Fetches the certificate of a pod that has just come, so that its first connection need not wait.
    pub fn prefetch(&self, identity: &Identity) {
        match self.0.lock().want(identity, Priority::WarmUp) {
            Ok(_) => self.0.wake.notify_one(),
            Err(error) => tracing::warn!(%identity, %error, "certificate not fetched ahead"),
        }
    }

    /// The last pod of an identity left: key and certificate are dropped.
    pub fn forget(&self, identity: &Identity) {
        let known = {
            let mut table = self.0.lock();
            let known = table.entries.remove(identity).is_some();
            self.0.publish(&table);
            known
        };
        if known {
            self.0.observer.forgotten(identity);
        }
    }

    /// Takes back what the keeper held over a restart. Each is renewed when half of its life is over, as if nothing had been.
    /// Returns what could not be used, and why; those identities are fetched anew on demand.
    pub fn restore(&self, stored: Vec<Credentials>) -> Vec<RestoreError> {
        let now = SystemTime::now();
        let mut refused = Vec::new();
        let mut table = self.0.lock();
        for credentials in stored {
            if credentials.not_after <= now {
                refused.push(RestoreError::Expired(credentials.identity));
                continue;
            }
            let epoch = match Epoch::new(credentials, self.0.settings.tls) {
                Ok(epoch) => Arc::new(epoch),
                Err(error) => {
                    refused.push(error.into());
                    continue;
                }
            };
            if let Ok(entry) = table.want(&epoch.identity, Priority::Background) {
                let life = epoch.not_after.duration_since(epoch.not_before);
                entry.due = Due::Renew(epoch.not_before + life.unwrap_or_default() / 2);
                entry.epoch = Some(epoch);
            }
        }
        self.0.publish(&table);
        drop(table);
        self.0.wake.notify_one();
        refused
    }

    /// The control plane answers again: fetches that wait for their back-off start now.
    pub fn retry_now(&self) {
        let mut table = self.0.lock();
        for entry in table.entries.values_mut() {
            if let Due::Backoff(_) = entry.due {
                entry.due = Due::Now;
            }
        }
        drop(table);
        self.0.wake.notify_one();
    }

    /// Renews everything soon, in the background: the roots of the mesh have changed.
    pub fn renew_all(&self) {
        let mut table = self.0.lock();
        for entry in table.entries.values_mut() {
            if let Due::Renew(_) = entry.due {
                entry.due = Due::Now;
            }
        }
        drop(table);
        self.0.wake.notify_one();
    }

    /// What is held, for admin pages. Never keys. Sorted by identity.
    pub fn dump(&self) -> Vec<Dump> {
        let table = self.0.lock();
        let mut all: Vec<Dump> = table
            .entries
            .iter()
            .map(|(identity, entry)| Dump::of(identity, entry))
            .collect();
        drop(table);
        all.sort_by(|a, b| a.identity.cmp(&b.identity));
        all
    }

    /// Every epoch in use: to hand them to a keeper, or to count what expires when.
    pub fn epochs(&self) -> Vec<Arc<Epoch>> {
        self.0.published.load().values().cloned().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code panics while it holds the lock half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, table: &Table) {
        let snapshot = table
            .entries
            .iter()
            .filter_map(|(identity, entry)| Some((identity.clone(), entry.epoch.clone()?)))
            .collect();
        self.published.store(Arc::new(snapshot));
    }
}

impl Table {
    /// The entry of an identity; a new one is due at once.
    fn want(&mut self, identity: &Identity, priority: Priority) -> Result<&mut Entry, GetError> {
        if !self.entries.contains_key(identity) && self.entries.len() >= MAX_IDENTITIES {
            return Err(GetError::Full);
        }
        self.next_id += 1;
        let id = self.next_id;
        let entry = self
            .entries
            .entry(identity.clone())
            .or_insert_with(|| Entry {
                id,
                epoch: None,
                due: Due::Now,
                priority,
                failures: 0,
                error: None,
                finished: watch::Sender::new(0),
            });
        entry.priority = entry.priority.min(priority);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests;
