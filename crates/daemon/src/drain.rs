//! Ending in order: stop taking new work, finish what is there, until a deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Makes a drain and what starts it.
pub fn drain() -> (DrainTrigger, Drain) {
    let (sender, receiver) = watch::channel(None);
    (DrainTrigger(Arc::new(sender)), Drain(receiver))
}

/// Starts a drain. Clones start the same one.
#[derive(Clone, Debug)]
pub struct DrainTrigger(Arc<watch::Sender<Option<Instant>>>);

impl DrainTrigger {
    /// Starts it; what is not finished after `grace` is cut. A second call may only bring the deadline nearer.
    pub fn begin(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.0.send_if_modified(|current| {
            let sooner = current.is_none_or(|old| deadline < old);
            if sooner {
                *current = Some(deadline);
            }
            sooner
        });
    }
}

/// Watches a drain. Clones watch the same one.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Option<Instant>>);

impl Drain {
    /// The deadline, once it has begun.
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.deadline().is_some()
    }

    /// Waits until it begins. When nobody can start it any more, this waits for ever.
    pub async fn begun(&self) -> Instant {
        let mut receiver = self.0.clone();
        let begun = receiver
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|d| *d);
        match begun {
            Some(deadline) => deadline,
            None => std::future::pending().await,
        }
    }

    /// Waits until its deadline has passed.
    pub async fn expired(&self) {
        let mut receiver = self.0.clone();
        let mut deadline = self.begun().await;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                changed = receiver.changed() => match (changed, self.deadline()) {
                    (Ok(()), Some(sooner)) => deadline = sooner,
                    _ => return tokio::time::sleep_until(deadline).await,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
