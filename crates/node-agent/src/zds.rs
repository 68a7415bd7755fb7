//! Tells the node proxies which pods to serve (ZDS, the protocol of Istio's ztunnel).
//!
//! A proxy connects, says hello, gets all pods with their network namespaces, then a marker, then changes. Every
//! message is answered before the next is sent. The newest proxy gets new pods; all learn of pods that leave. When the
//! newest goes away, the one before it is told what it missed.

mod connection;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, error, warn};
use tulle_linux::{NetNs, SeqListener};
use tulle_proto::workload::zds::WorkloadInfo;

use crate::error::ProxyError;
use crate::limits::{ZDS_ACCEPT_PAUSE, ZDS_DEL_DEADLINE, ZDS_PROXIES, ZDS_QUEUE};

/// A pod as the proxies know it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Name, namespace, service account.
    pub(crate) info: WorkloadInfo,
    /// Where its sockets live.
    pub(crate) ns: NetNs,
}

/// The server's state. Clones share it.
#[derive(Clone)]
pub(crate) struct Zds {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Number of proxies; changes wake those who wait for one.
    proxies: watch::Sender<usize>,
    /// How long an add may take.
    patience: Duration,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Served>,
    /// Oldest first; adds go to the last.
    proxies: Vec<Proxy>,
    next: u64,
}

struct Proxy {
    id: u64,
    commands: mpsc::Sender<Command>,
}

/// What a connection is asked to do.
enum Command {
    Add {
        uid: String,
        done: oneshot::Sender<Result<(), ProxyError>>,
    },
    Del {
        uid: String,
        done: oneshot::Sender<()>,
    },
    /// It is the newest now: tell it what it missed.
    Promote,
}

impl Zds {
    /// No pods, no proxies, not listening yet. An add may take `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        let inner = Inner {
            state: Mutex::default(),
            proxies: watch::Sender::new(0),
            patience,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Notes a pod that proxies serve already, before [`Zds::serve`]: it is part of the first snapshot.
    pub(crate) fn restore(&self, uid: &str, served: Served) {
        self.lock().pods.insert(uid.to_owned(), served);
    }

    /// Has the newest proxy serve a pod; returns once its listeners are bound. Waits for a proxy and tries another one
    /// when one goes away, within the patience given to [`Zds::new`].
    ///
    /// # Errors
    /// See [`ProxyError`]; the pod is then not part of the set.
    pub(crate) async fn add(&self, uid: &str, served: Served) -> Result<(), ProxyError> {
        self.lock().pods.insert(uid.to_owned(), served);
        let outcome = self
            .add_within(uid, Instant::now() + self.inner.patience)
            .await;
        if outcome.is_err() {
            self.del(uid).await;
        }
        outcome
    }

    /// Has all proxies let go of a pod; waits for them, but not for long. An unknown pod is fine.
    pub(crate) async fn del(&self, uid: &str) {
        let waiting: Vec<_> = {
            let mut state = self.lock();
            if state.pods.remove(uid).is_none() {
                return;
            }
            let ask = |proxy: &Proxy| {
                let (done, answer) = oneshot::channel();
                let command = Command::Del {
                    uid: uid.to_owned(),
                    done,
                };
                proxy.commands.try_send(command).ok().map(|()| answer)
            };
            state.proxies.iter().filter_map(ask).collect()
        };
        let all = async {
            for answer in waiting {
                // A proxy that goes away has let go.
                let _gone = answer.await;
            }
        };
        if timeout(ZDS_DEL_DEADLINE, all).await.is_err() {
            warn!(
                uid,
                "a ztunnel did not confirm in time that it let go of the pod"
            );
        }
    }

    /// Whether a proxy is connected, and changes of that.
    pub(crate) fn connected(&self) -> watch::Receiver<usize> {
        self.inner.proxies.subscribe()
    }

    /// Listens and serves for as long as it is polled.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn serve(
        &self,
        path: &Path,
    ) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        // Root alone may connect: whoever does receives network namespaces.
        let listener = SeqListener::bind(path, 0o600)?;
        Ok(self.clone().accept(listener))
    }

    async fn accept(self, listener: SeqListener) {
        loop {
            match listener.accept().await {
                Ok(stream) if self.lock().proxies.len() < ZDS_PROXIES => {
                    tokio::spawn(connection::run(self.clone(), stream));
                }
                Ok(stream) => {
                    warn!(
                        "more than {ZDS_PROXIES} proxies are connected; another one is turned away"
                    );
                    drop(stream);
                }
                Err(error) => error!("cannot accept on the ZDS socket: {error}"),
            }
            sleep(ZDS_ACCEPT_PAUSE).await;
        }
    }

    async fn add_within(&self, uid: &str, deadline: Instant) -> Result<(), ProxyError> {
        let mut proxies = self.connected();
        let late = || ProxyError::Deadline(self.inner.patience.as_secs());
        loop {
            proxies.borrow_and_update();
            let asked = self.ask_newest(uid);
            let Some(answer) = asked else {
                match timeout_at(deadline, proxies.changed()).await {
                    Ok(_) => continue,
                    Err(_) => return Err(ProxyError::NotConnected),
                }
            };
            match timeout_at(deadline, answer).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => debug!(
                    uid,
                    "the proxy went away while it was asked to take the pod"
                ),
                Err(_) => return Err(late()),
            }
        }
    }

    fn ask_newest(&self, uid: &str) -> Option<oneshot::Receiver<Result<(), ProxyError>>> {
        let (done, answer) = oneshot::channel();
        let state = self.lock();
        let newest = state.proxies.last()?;
        newest
            .commands
            .try_send(Command::Add {
                uid: uid.to_owned(),
                done,
            })
            .ok()?;
        Some(answer)
    }

    /// Takes a proxy up and gives it all pods, in one step, so that none is missed between the two.
    fn register(&self) -> (u64, mpsc::Receiver<Command>, BTreeMap<String, Served>) {
        let (commands, receiver) = mpsc::channel(ZDS_QUEUE);
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.proxies.push(Proxy { id, commands });
        self.inner.proxies.send_replace(state.proxies.len());
        (id, receiver, state.pods.clone())
    }

    fn unregister(&self, id: u64) {
        let mut state = self.lock();
        let was_newest = state.proxies.last().is_some_and(|proxy| proxy.id == id);
        state.proxies.retain(|proxy| proxy.id != id);
        if let Some(newest) = state.proxies.last().filter(|_| was_newest) {
            // A full queue belongs to a proxy that is about to be dropped for not answering.
            let _full = newest.commands.try_send(Command::Promote);
        }
        self.inner.proxies.send_replace(state.proxies.len());
    }

    fn pod(&self, uid: &str) -> Option<Served> {
        self.lock().pods.get(uid).cloned()
    }

    fn pods(&self) -> BTreeMap<String, Served> {
        self.lock().pods.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
