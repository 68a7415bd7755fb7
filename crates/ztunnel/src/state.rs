//! What the proxy knows of the mesh: immutable snapshots, published whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tulle_model::{Mesh, Workload};
use tulle_policy::Policies;

/// Everything known at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) mesh: Mesh,
    pub(crate) policies: Policies,
    /// Counts publications.
    pub(crate) generation: u64,
    /// The publication that last changed a policy.
    pub(crate) policy_generation: u64,
}

/// The snapshot in force. One writer, any number of readers that never wait.
#[derive(Debug)]
pub(crate) struct State {
    current: ArcSwap<Snapshot>,
    published: watch::Sender<u64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            published: watch::Sender::new(0),
        }
    }
}

impl State {
    /// The snapshot in force.
    pub(crate) fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Changes generations as they are published.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Publishes the outcome of `change`, which says whether it touched a policy. Only the discovery task calls this.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot) -> bool) {
        let mut next = Snapshot::clone(&self.current.load());
        next.generation += 1;
        if change(&mut next) {
            next.policy_generation = next.generation;
        }
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.published.send_replace(generation);
    }

    /// Waits until `find` finds something in a snapshot.
    pub(crate) async fn wait_for<T>(&self, mut find: impl FnMut(&Snapshot) -> Option<T>) -> T {
        let mut published = self.subscribe();
        loop {
            published.borrow_and_update();
            if let Some(found) = find(&self.load()) {
                return found;
            }
            if published.changed().await.is_err() {
                // The sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Snapshot {
    /// The workload as it is known now, given what it was.
    pub(crate) fn again(&self, workload: &Arc<Workload>) -> Option<&Arc<Workload>> {
        self.mesh.workload(&workload.uid)
    }
}

#[cfg(test)]
mod tests;
