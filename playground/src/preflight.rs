//! Whether this host can run a playground at all, with one clear error for each thing that it lacks.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::{prerequisites, process};

/// Tries, in namespaces that vanish at once, each thing that a playground needs of the kernel. Prints the missing one.
const KERNEL: &str = r#"
try() { what=$1; shift; said=$("$@" 2>&1) || { echo "$what: $said"; exit 1; }; }
try "veth interfaces (CONFIG_VETH)" ip link add veth0 type veth peer name veth1
try "bridges (CONFIG_BRIDGE)" ip link add bridge0 type bridge
try "nftables with redirects (CONFIG_NF_TABLES_INET, CONFIG_NFT_REDIR)" nft '
  table inet probe { chain out { type nat hook output priority -100; meta l4proto tcp redirect to :15001; }; }'
"#;

/// Everything except what depends on the playground's own files.
pub(crate) fn host() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a playground needs root: it makes namespaces, mounts and control groups; run it with sudo"
    );
    let missing = prerequisites::prerequisites_to_run();
    if !missing.is_empty() {
        let list: Vec<_> = missing
            .iter()
            .map(|missing| format!("{} (package {})", missing.program, missing.package))
            .collect();
        bail!(
            "programs are missing: {}; `playground prerequisites --install` installs them",
            list.join(", ")
        );
    }
    kernel()
}

fn kernel() -> Result<()> {
    for kind in ["net", "mnt", "pid", "uts", "ipc"] {
        ensure!(
            Path::new("/proc/self/ns").join(kind).exists(),
            "this kernel has no {kind} namespaces; a playground's machines are made of them"
        );
    }
    ensure!(
        Path::new("/sys/fs/cgroup")
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some()),
        "no control groups are mounted at /sys/fs/cgroup; kubelet needs them"
    );
    let mut probe = Command::new("unshare");
    let output = probe
        .args([
            "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "sh", "-c", KERNEL,
        ])
        .output()
        .context("starting unshare")?;
    if !output.status.success() {
        let lacks = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        match lacks.trim() {
            "" => bail!(
                "namespaces cannot be made here: {}; in a container, it must be privileged",
                said.trim()
            ),
            lacks => bail!("a playground needs of the kernel: {lacks}"),
        }
    }
    Ok(())
}

/// Fails when the kernel lets this user have fewer inotify instances than that, besides those in use: kubelet would end with "too
/// many open files".
pub(crate) fn inotify(needed: usize) -> Result<()> {
    some_instances(needed, || inotify::init(inotify::CreateFlags::CLOEXEC))
}

fn some_instances<I>(needed: usize, open: impl Fn() -> Result<I, Errno>) -> Result<()> {
    let mut opened = Vec::new();
    while opened.len() < needed {
        match open() {
            Ok(instance) => opened.push(instance),
            Err(Errno::MFILE) => bail!(
                "inotify instances are used up: a playground needs {needed}, {} are left; run \
                 `sysctl -w fs.inotify.max_user_instances=1024` (a file in /etc/sysctl.d keeps it), or take another playground down",
                opened.len()
            ),
            Err(error) => return Err(error).context("trying inotify, which kubelet needs"),
        }
    }
    Ok(())
}

/// How containerd shall keep its layers: overlayfs where that works (not on top of another overlay), copies else.
pub(crate) fn snapshotter(dir: &Path) -> Result<&'static str> {
    let probe = dir.join("overlay-probe");
    for part in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(probe.join(part))
            .with_context(|| format!("creating {}", probe.display()))?;
    }
    let mount = r#"mount -t overlay -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" overlay "$0/merged""#;
    let tried = process::run(
        Command::new("unshare")
            .args(["--mount", "sh", "-c", mount])
            .arg(&probe),
    );
    fs::remove_dir_all(&probe).with_context(|| format!("removing {}", probe.display()))?;
    Ok(if tried.is_ok() { "overlayfs" } else { "native" })
}

/// Fails when the file system of a directory has less space left than asked for.
pub(crate) fn free_disk(dir: &Path, needed: u64) -> Result<()> {
    let status = rustix::fs::statvfs(dir)
        .with_context(|| format!("asking for the free space of {}", dir.display()))?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let gib = |bytes: u64| bytes / (1 << 20) * 10 / 1024;
    ensure!(
        free >= needed,
        "the disk of {} is nearly full: {}.{} GiB are free, {}.{} are needed; free some space, or name another directory",
        dir.display(),
        gib(free) / 10,
        gib(free) % 10,
        gib(needed) / 10,
        gib(needed) % 10
    );
    Ok(())
}

#[cfg(test)]
mod tests;
