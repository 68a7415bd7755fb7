//! The long-running processes of a playground: started with a log of their own, watched while others wait for them.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::ProcessId;
use crate::{interrupt, limits};

/// The host's proxies know nothing of a playground's addresses.
pub(crate) const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// One started process.
#[derive(Debug)]
struct Component {
    name: String,
    log: PathBuf,
    child: Child,
    id: ProcessId,
}

/// Why a wait ended that was itself in no trouble.
#[derive(Debug)]
pub(crate) struct GaveUp;

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("given up, because another part did not start")
    }
}

impl std::error::Error for GaveUp {}

/// All processes that one `up` started, shared by the threads that start them.
#[derive(Debug, Default)]
pub(crate) struct Components {
    list: Mutex<Vec<Component>>,
    failed: Mutex<bool>,
}

impl Components {
    /// Starts a process in a session of its own, so that a Ctrl-C at the terminal does not reach it.
    pub(crate) fn spawn(&self, name: &str, log: PathBuf, command: &Command) -> Result<ProcessId> {
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let errors = output
            .try_clone()
            .with_context(|| format!("sharing {}", log.display()))?;
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(key, value),
                None => detached.env_remove(key),
            };
        }
        for variable in PROXIES {
            detached
                .env_remove(variable)
                .env_remove(variable.to_lowercase());
        }
        let mut child = detached
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let id = i32::try_from(child.id()).ok().and_then(ProcessId::of);
        let Some(id) = id else {
            let status = child
                .wait()
                .with_context(|| format!("waiting for {name}"))?;
            bail!(died(name, status, &log));
        };
        lock(&self.list).push(Component {
            name: name.to_owned(),
            log,
            child,
            id,
        });
        Ok(id)
    }

    /// The processes by name, to be remembered.
    pub(crate) fn ids(&self) -> Vec<(String, ProcessId)> {
        lock(&self.list)
            .iter()
            .map(|component| (component.name.clone(), component.id))
            .collect()
    }

    /// An error if the user interrupted, another thread gave up, or a process died.
    pub(crate) fn check(&self) -> Result<()> {
        interrupt::check()?;
        if *lock(&self.failed) {
            return Err(GaveUp.into());
        }
        for component in lock(&self.list).iter_mut() {
            let state = component.child.try_wait();
            if let Some(status) = state.with_context(|| format!("watching {}", component.name))? {
                bail!(died(&component.name, status, &component.log));
            }
        }
        Ok(())
    }

    /// Collects those that have ended, so that none stays as a zombie.
    pub(crate) fn reap(&self) {
        lock(&self.list).retain_mut(|component| !matches!(component.child.try_wait(), Ok(Some(_))));
    }

    /// Makes the waits of all other threads end.
    pub(crate) fn give_up(&self) {
        *lock(&self.failed) = true;
    }

    /// Looks until there is something, every process lives, and the deadline has not passed. `look` says what it saw last
    /// as an error; that is part of the message when the deadline passes.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        pause: Duration,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            self.check()?;
            let seen = match look() {
                Ok(found) => return Ok(found),
                Err(seen) => seen,
            };
            if start.elapsed() > deadline {
                let tails: Vec<_> = lock(&self.list)
                    .iter()
                    .map(|c| tail(&c.name, &c.log, 3))
                    .collect();
                bail!(
                    "{what}: not within {} s; last seen: {seen:#}\n{}",
                    deadline.as_secs(),
                    tails.join("\n")
                );
            }
            std::thread::sleep(pause);
        }
    }
}

fn died(name: &str, status: ExitStatus, log: &Path) -> String {
    format!(
        "{name} ended ({status}); {}",
        tail(name, log, limits::LOG_TAIL_LINES)
    )
}

/// The last lines of a log, introduced by whose they are.
fn tail(name: &str, log: &Path, lines: usize) -> String {
    let text = read_end(log).unwrap_or_default();
    let last: Vec<_> = text.lines().rev().take(lines).collect();
    let last: String = last
        .iter()
        .rev()
        .map(|line| format!("\n  {line}"))
        .collect();
    format!(
        "the end of {name}'s log ({}):{}",
        log.display(),
        if last.is_empty() { " empty" } else { &last }
    )
}

fn read_end(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(
        length.saturating_sub(limits::LOG_TAIL_BYTES),
    ))?;
    let mut bytes = Vec::new();
    file.take(limits::LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A panic of one thread must not hide the error of another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
