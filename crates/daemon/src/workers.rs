//! Worker threads: each a single-threaded runtime of its own. What starts on one stays on it.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::limits::WORKER_STACK;

/// How a worker thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// Its future completed.
    Finished(usize),
    /// It panicked; what it held is gone.
    Panicked(usize),
}

/// Worker threads of a process.
#[derive(Debug)]
pub struct Workers {
    ends: mpsc::Receiver<WorkerEnd>,
}

impl Workers {
    /// Starts `count` threads `<name>-<index>`; each runs `run(index)` to its end, with `tokio::task::spawn_local`
    /// at hand. On error, threads that already started end when what they wait for is dropped.
    pub fn start<F, R>(name: &str, count: usize, run: F) -> io::Result<Self>
    where
        F: Fn(usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()>,
    {
        let run = Arc::new(run);
        let (sender, ends) = mpsc::channel(count.max(1));
        for index in 0..count {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                // For the rare file that tokio reads on a thread of its own.
                .max_blocking_threads(1)
                .build()?;
            let (run, sender) = (run.clone(), sender.clone());
            std::thread::Builder::new()
                .name(format!("{name}-{index}"))
                .stack_size(WORKER_STACK)
                .spawn(move || {
                    let mut report = Report(sender, WorkerEnd::Panicked(index));
                    let local = LocalSet::new();
                    runtime.block_on(local.run_until(run(index)));
                    report.1 = WorkerEnd::Finished(index);
                })?;
        }
        Ok(Self { ends })
    }

    /// The next end of a worker; `None` when all have ended.
    pub async fn ended(&mut self) -> Option<WorkerEnd> {
        self.ends.recv().await
    }
}

/// Tells how a thread ended, also when it unwinds.
struct Report(mpsc::Sender<WorkerEnd>, WorkerEnd);

impl Drop for Report {
    fn drop(&mut self) {
        // The channel holds one per worker; nobody listening is fine.
        let _ = self.0.try_send(self.1);
    }
}

#[cfg(test)]
mod tests;
