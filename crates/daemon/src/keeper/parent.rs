//! The parent: one thread, no state but descriptors.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;
use tulle_linux::{SeqStream, seqpacket};

use super::protocol::{ENVIRONMENT, MESSAGE, Message};
use crate::limits::{
    DEATHS_BEFORE_FORGETTING, DEATHS_WITHOUT_PAUSE, KEPT_ENTRIES, RESTART_PAUSE, RESTART_PAUSE_MAX,
    WORKER_PROVED,
};
use crate::signals::Signals;

/// How the worker is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program, as a rule `/proc/self/exe`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Why the keeper cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The machine refused a resource.
    #[error("cannot {what}: {source}")]
    Resource {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The program cannot be started.
    #[error("cannot start the worker {}: {source}; is the program still there and executable?", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Runs the worker until it ends in order, restarting it whenever it dies otherwise, and returns the exit code for this
/// process. SIGTERM and SIGINT are passed on as a request to end.
///
/// A worker that exits by itself while nothing is kept yet is not restarted: its own error is final.
pub fn run(start: &Start) -> Result<u8, KeeperError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| resource("start the keeper's event loop", source))?;
    runtime.block_on(async {
        let signals = Signals::listen().map_err(|source| resource("listen for signals", source))?;
        let mut keeper = Keeper {
            start,
            signals,
            kept: BTreeMap::new(),
            terminating: false,
            early_deaths: 0,
        };
        keeper.keep().await
    })
}

fn resource(what: &'static str, source: io::Error) -> KeeperError {
    KeeperError::Resource { what, source }
}

struct Keeper<'a> {
    start: &'a Start,
    signals: Signals,
    kept: BTreeMap<String, Vec<OwnedFd>>,
    terminating: bool,
    early_deaths: u32,
}

impl Keeper<'_> {
    async fn keep(&mut self) -> Result<u8, KeeperError> {
        loop {
            let began = Instant::now();
            let (mut child, socket) = self.spawn()?;
            self.attend(&socket, &mut child).await;
            let status = child
                .wait()
                .await
                .map_err(|e| resource("wait for the worker", e))?;
            let code = exit_code(status);
            let exited_early = status.code().is_some() && self.kept.is_empty();
            if status.success() || self.terminating || exited_early {
                return Ok(code);
            }
            self.note_death(status, began.elapsed());
            if let Some(pause) = self.pause() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn spawn(&self) -> Result<(Child, SeqStream), KeeperError> {
        let (ours, theirs) = seqpacket::pair().map_err(|e| resource("make a socket pair", e))?;
        let child = Command::new(&self.start.program)
            .args(&self.start.arguments)
            .env(ENVIRONMENT, "1")
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(|source| KeeperError::Spawn {
                program: self.start.program.clone(),
                source,
            })?;
        let socket = SeqStream::from_fd(ours).map_err(|e| resource("use a socket", e))?;
        Ok((child, socket))
    }

    /// Hands everything back, then does what the worker asks for, until it is gone.
    async fn attend(&mut self, socket: &SeqStream, child: &mut Child) {
        if !self.hand_back(socket, child).await {
            return;
        }
        if self.terminating {
            let _ = socket.send(&Message::Terminate.encode(), &[]).await;
        }
        let mut buffer = [0; MESSAGE];
        let settled = tokio::time::sleep(WORKER_PROVED);
        tokio::pin!(settled);
        let mut starting = true;
        loop {
            tokio::select! {
                () = &mut settled, if starting => {
                    starting = false;
                    crate::settle::release_files();
                }
                received = socket.recv(&mut buffer) => match received {
                    Ok((0, _)) => return,
                    Ok((length, fds)) => self.apply(Message::decode(&buffer[..length]), fds),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        tracing::warn!(%error, "the worker sent a message that is too long");
                    }
                    Err(_) => return,
                },
                signal = self.signals.next() => {
                    tracing::info!(signal, "asking the worker to end");
                    self.terminating = true;
                    let _ = socket.send(&Message::Terminate.encode(), &[]).await;
                }
            }
        }
    }

    /// False when the worker did not take everything: it is gone or going.
    async fn hand_back(&mut self, socket: &SeqStream, child: &mut Child) -> bool {
        let handed = hand_back(socket, &self.kept);
        tokio::pin!(handed);
        loop {
            tokio::select! {
                outcome = &mut handed => return outcome.is_ok(),
                signal = self.signals.next() => {
                    tracing::info!(signal, "ending");
                    if std::mem::replace(&mut self.terminating, true) {
                        // It does not even take what is handed to it.
                        let _ = child.start_kill();
                    }
                }
            }
        }
    }

    fn apply(&mut self, message: Option<Message>, fds: Vec<OwnedFd>) {
        match message {
            Some(Message::Put(key)) => {
                if self.kept.len() < KEPT_ENTRIES || self.kept.contains_key(&key) {
                    self.kept.insert(key, fds);
                } else {
                    tracing::warn!(key, "not kept: {KEPT_ENTRIES} entries are held already");
                }
            }
            Some(Message::Delete(key)) => {
                self.kept.remove(&key);
            }
            other => tracing::warn!(?other, "unexpected message from the worker"),
        }
    }

    fn note_death(&mut self, status: ExitStatus, lived: Duration) {
        tracing::error!(%status, lived_ms = lived.as_millis(), kept = self.kept.len(), "the worker died; starting it again");
        if lived >= WORKER_PROVED {
            self.early_deaths = 0;
            return;
        }
        self.early_deaths += 1;
        if self.early_deaths == DEATHS_BEFORE_FORGETTING {
            tracing::error!("the worker dies with what is handed back to it; giving that up");
            self.kept.clear();
        }
    }

    /// None for the first deaths: whoever waits in a queue is served at once.
    fn pause(&self) -> Option<Duration> {
        let doublings = self.early_deaths.checked_sub(DEATHS_WITHOUT_PAUSE)?;
        Some((RESTART_PAUSE * 2u32.saturating_pow(doublings)).min(RESTART_PAUSE_MAX))
    }
}

async fn hand_back(socket: &SeqStream, kept: &BTreeMap<String, Vec<OwnedFd>>) -> io::Result<()> {
    for (key, fds) in kept {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        socket
            .send(&Message::Kept(key.clone()).encode(), &fds)
            .await?;
    }
    socket.send(&Message::Complete.encode(), &[]).await
}

/// The worker's own code, or 128 + signal as shells say it.
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .or(status.signal().map(|s| 128 + s))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
