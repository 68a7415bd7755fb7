//! Installs the CNI plugin on the node and keeps it installed.
//!
//! The program goes into the CNI program directory; an entry for it becomes the last plugin of the lexically first
//! configuration file, which is the one that container runtimes use. Both are written beside their place and moved
//! there, so that nobody ever sees half a file.

mod configuration;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};
use tulle_api::contract::CNI_PLUGIN;
use tulle_daemon::Condition;

use crate::Options;
use crate::limits::{CNI_CONFIG, CNI_FILES, INSTALL_INTERVAL};
use crate::metrics::Metrics;
use configuration::Conflist;

/// Why the plugin is not installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("cannot {doing} {path}: {source}")]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{0} holds no CNI configuration; the cluster's network plugin must be installed first (or name its directory: --set cni.cniConfDir=DIRECTORY)"
    )]
    NoConfiguration(PathBuf),
    #[error("{path} is not a CNI configuration: {why}; correct or remove it")]
    Malformed { path: PathBuf, why: String },
}

/// Keeps program and configuration in place. Clones share it.
#[derive(Clone)]
pub(crate) struct Installer {
    source: PathBuf,
    programs: PathBuf,
    configuration: PathBuf,
    entry: Arc<serde_json::Value>,
    metrics: Metrics,
    ready: Condition,
    /// The last complaint, told once.
    complaint: Arc<Mutex<String>>,
}

impl Installer {
    pub(crate) fn new(options: &Options, metrics: Metrics, ready: Condition) -> Self {
        let excluded: BTreeSet<_> = options
            .excluded
            .iter()
            .map(String::as_str)
            .chain([options.system_namespace.as_str()])
            .collect();
        let entry = serde_json::json!({
            "type": CNI_PLUGIN,
            "name": CNI_PLUGIN,
            "socket": options.plugin_socket,
            "excludeNamespaces": excluded,
        });
        Self {
            source: options.plugin.clone(),
            programs: options.cni_programs.clone(),
            configuration: options.cni_configuration.clone(),
            entry: Arc::new(entry),
            metrics,
            ready,
            complaint: Arc::default(),
        }
    }

    /// Looks every two seconds and repairs, for as long as it is polled.
    pub(crate) async fn run(self) {
        let mut rounds = interval(INSTALL_INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let installer = self.clone();
            let outcome = tokio::task::spawn_blocking(move || installer.ensure()).await;
            let Ok(outcome) = outcome else { return };
            self.report(outcome);
        }
    }

    fn report(&self, outcome: Result<bool, InstallError>) {
        self.ready.set(outcome.is_ok());
        self.metrics.install_ready.set(i64::from(outcome.is_ok()));
        let mut complaint = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(changed) => {
                if changed {
                    self.metrics.installs.with(&["success"]).inc();
                    info!("the CNI plugin {CNI_PLUGIN} is installed and configured on this node");
                }
                complaint.clear();
            }
            Err(failure) => {
                let text = failure.to_string();
                if *complaint != text {
                    self.metrics.installs.with(&["failure"]).inc();
                    error!(
                        "the CNI plugin is not installed, new pods may start outside the mesh: {text}"
                    );
                    *complaint = text;
                }
            }
        }
    }

    /// Brings program and configuration into place; true when something had to be done.
    pub(crate) fn ensure(&self) -> Result<bool, InstallError> {
        // The program first: a configuration that names a missing program stops every pod.
        let program = self.ensure_program()?;
        let configuration = self.ensure_configuration()?;
        Ok(program || configuration)
    }

    /// Takes entry and program away; what fails is logged, the rest is done.
    pub(crate) fn remove(&self) {
        // The configuration first, for the same reason.
        for path in self.files().unwrap_or_default() {
            let outcome = self.read(&path).and_then(|mut list| {
                if list.remove(CNI_PLUGIN) {
                    self.write(&path, &list.render(), 0o644)
                } else {
                    Ok(())
                }
            });
            if let Err(failure) = outcome {
                warn!("the CNI configuration may still name {CNI_PLUGIN}: {failure}");
            }
        }
        let program = self.programs.join(CNI_PLUGIN);
        match fs::remove_file(&program) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!("{} stays: {error}", program.display());
            }
            _ => {}
        }
    }

    fn ensure_program(&self) -> Result<bool, InstallError> {
        let wanted = fs::read(&self.source).map_err(file("read", &self.source))?;
        let place = self.programs.join(CNI_PLUGIN);
        let same = fs::read(&place).is_ok_and(|present| present == wanted)
            && fs::metadata(&place).is_ok_and(|meta| meta.permissions().mode() & 0o111 == 0o111);
        if same {
            return Ok(false);
        }
        self.write(&place, &wanted, 0o755)?;
        Ok(true)
    }

    fn ensure_configuration(&self) -> Result<bool, InstallError> {
        let files = self.files()?;
        let Some((first, others)) = files.split_first() else {
            return Err(InstallError::NoConfiguration(self.configuration.clone()));
        };
        let mut changed = self.ensure_entry(first)?;
        for path in others {
            // An entry in a file that is no longer the first one has no effect and would surprise later.
            if let Ok(mut list) = self.read(path)
                && list.remove(CNI_PLUGIN)
            {
                self.write(path, &list.render(), 0o644)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn ensure_entry(&self, path: &Path) -> Result<bool, InstallError> {
        let mut list = self.read(path)?;
        let place = path.with_extension("conflist");
        if !list.ensure_last(&self.entry) && place == path {
            return Ok(false);
        }
        self.write(&place, &list.render(), 0o644)?;
        if place != path {
            fs::remove_file(path).map_err(file("remove", path))?;
        }
        Ok(true)
    }

    /// Configuration files, first one first, as container runtimes sort them.
    fn files(&self) -> Result<Vec<PathBuf>, InstallError> {
        let entries =
            fs::read_dir(&self.configuration).map_err(file("list", &self.configuration))?;
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|e| e == "conf" || e == "conflist" || e == "json")
                    && path
                        .file_name()
                        .is_some_and(|name| !name.to_string_lossy().starts_with('.'))
                    && path.is_file()
            })
            .take(CNI_FILES)
            .collect();
        files.sort();
        Ok(files)
    }

    fn read(&self, path: &Path) -> Result<Conflist, InstallError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|opened| opened.take(CNI_CONFIG).read_to_string(&mut text))
            .map_err(file("read", path))?;
        Conflist::parse(&text).map_err(|why| InstallError::Malformed {
            path: path.to_owned(),
            why,
        })
    }

    /// Writes beside the place, then moves there.
    fn write(&self, place: &Path, content: &[u8], mode: u32) -> Result<(), InstallError> {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        // Runtimes and agents look at the ending; this one is nobody's.
        let draft = place.with_file_name(format!(".{name}.{}.draft", std::process::id()));
        let outcome = (|| {
            let mut opened = File::create(&draft)?;
            opened.write_all(content)?;
            opened.set_permissions(fs::Permissions::from_mode(mode))?;
            opened.sync_all()?;
            fs::rename(&draft, place)
        })();
        if outcome.is_err() {
            let _nothing_was_written = fs::remove_file(&draft);
        }
        outcome.map_err(file("write", place))
    }
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
