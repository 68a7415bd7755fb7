//! What a playground remembers on disk, so that later commands find it, whole or half dead.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::network::Subnets;
use crate::process::ProcessId;
use crate::{Name, Progress, interrupt, limits};

/// Where playgrounds live unless the options say otherwise.
pub(crate) const DIRECTORY: &str = "/var/lib/tulle/playgrounds";

/// The record of one playground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The boot in which the processes were started: their numbers mean nothing in another.
    pub(crate) boot: String,
    pub(crate) nodes: usize,
    pub(crate) subnets: Subnets,
    /// The directory of the programs it runs.
    pub(crate) programs: PathBuf,
    /// The server first.
    pub(crate) machines: Vec<Machine>,
    pub(crate) processes: Vec<(String, ProcessId)>,
    /// Whether `up` went through.
    pub(crate) complete: bool,
}

impl State {
    /// Reads the record. None: there is no such playground. An unreadable record is one of a playground that is not complete.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("state.json");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Writes the record; a reader sees the old one or the new one.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let (path, new) = (dir.join("state.json"), dir.join("state.json.new"));
        let text = serde_json::to_vec_pretty(self).context("encoding the state")?;
        fs::write(&new, text).with_context(|| format!("writing {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("replacing {}", path.display()))
    }

    /// Names of the processes that should run and do not.
    pub(crate) fn dead(&self) -> Vec<&str> {
        let same_boot = self.boot == boot();
        let dead = self
            .processes
            .iter()
            .filter(|(_, id)| !(same_boot && id.alive()));
        dead.map(|(name, _)| name.as_str()).collect()
    }
}

/// Identifies the running kernel's boot.
pub(crate) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Keeps a second `up` or `down` of the same playground out, and waits for one that is at work. The lock files lie beside
/// the playgrounds' directories, which come and go.
pub(crate) fn lock(parent: &Path, name: &Name, progress: &mut Progress) -> Result<Lock> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .with_context(|| format!("creating {}", parent.display()))?;
    let path = parent.join(format!("{name}.lock"));
    let start = Instant::now();
    let mut told = false;
    loop {
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let mine = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if mine && still_there(&path, &file) {
            return Ok(Lock { path, _file: file });
        }
        interrupt::check()?;
        if start.elapsed() > limits::OTHER_AT_WORK {
            bail!(
                "another process has been starting or stopping playground {name} for too long ({} is locked)",
                path.display()
            );
        }
        if !mine && !told {
            progress.say(&format!(
                "another process starts or stops playground {name}; waiting for it"
            ));
            told = true;
        }
        std::thread::sleep(limits::LOOK_AGAIN);
    }
}

/// Whether the path still names this file: who held the lock before may have removed it.
fn still_there(path: &Path, file: &File) -> bool {
    let inode = |metadata: std::io::Result<fs::Metadata>| {
        metadata.map(|data| (data.dev(), data.ino())).ok()
    };
    inode(fs::metadata(path)) == inode(file.metadata())
}

/// A playground's lock; released when dropped.
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Releases the lock and leaves no file behind. The file goes first, while nobody else can hold it.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("removing {}", self.path.display()))
    }
}

/// Held while subnets are chosen and claimed, so that two playgrounds never choose the same.
pub(crate) fn lock_subnets() -> Result<File> {
    let path = std::env::temp_dir().join("tulle-playground-subnets.lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}
