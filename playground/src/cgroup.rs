//! Control groups: a playground has one in every hierarchy, each node one below it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{Name, limits};

const ROOT: &str = "/sys/fs/cgroup";
/// What kubelet asks of the one hierarchy of cgroup v2.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// The mount points of all hierarchies: one with cgroup v2, one for each controller with v1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if unified() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("listing {ROOT}"))? {
        let entry = entry.with_context(|| format!("listing {ROOT}"))?;
        // `cpu` may be a link to `cpu,cpuacct`.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The path of a node's control group within each hierarchy.
pub(crate) fn of_node(name: &Name, node: &str) -> String {
    format!("/{}/{node}", name.cgroup())
}

/// Makes a node's control group in every hierarchy.
pub(crate) fn create(name: &Name, node: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut group = hierarchy.clone();
        for part in [name.cgroup().as_str(), node] {
            let parent = group.clone();
            if unified() {
                delegate(&parent);
            }
            group.push(part);
            match fs::create_dir(&group) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| {
                        format!("creating the control group {}", group.display())
                    });
                }
                _ => inherit_cpuset(&parent, &group)?,
            }
        }
        if unified() {
            delegate(&group);
        }
    }
    Ok(())
}

/// Hands the controllers on to the children of a group. One by one: an unavailable one must not keep the others away; what
/// is missing in the end, kubelet names.
fn delegate(group: &Path) {
    for controller in CONTROLLERS {
        let _ = fs::write(
            group.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

/// A new cpuset of cgroup v1 is empty, and takes no process before it has CPUs and memory nodes.
fn inherit_cpuset(parent: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if unified() || !group.join(file).exists() {
            continue;
        }
        let value = fs::read(parent.join(file))
            .with_context(|| format!("reading {file} of {}", parent.display()))?;
        fs::write(group.join(file), value)
            .with_context(|| format!("setting {file} of {}", group.display()))?;
    }
    Ok(())
}

/// Removes the playground's control groups. Their processes have ended; the kernel may need a moment to notice.
pub(crate) fn remove(name: &Name) -> Result<()> {
    let start = Instant::now();
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name.cgroup());
        while let Err(error) = remove_tree(&group) {
            if start.elapsed() > limits::PROCESSES_END {
                bail!(
                    "the control group {} cannot be removed: {error}",
                    group.display()
                );
            }
            std::thread::sleep(limits::LOOK_AGAIN);
        }
    }
    Ok(())
}

/// Control groups are removed by removing their directories, the innermost first; the files in them are no obstacle.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// Processes in the playground's control groups.
pub(crate) fn processes(name: &Name) -> Vec<i32> {
    let mut found = Vec::new();
    for hierarchy in hierarchies().unwrap_or_default() {
        collect(&hierarchy.join(name.cgroup()), &mut found);
    }
    found
}

fn collect(group: &Path, found: &mut Vec<i32>) {
    let Ok(entries) = fs::read_dir(group) else {
        return;
    };
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    found.extend(members.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        collect(&entry.path(), found);
    }
}
