//! Processes of pods, as this host numbers them: playground nodes run in PID namespaces below the host's.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::kubectl::Kubectl;

/// Clock ticks per second in `/proc/PID/stat` (USER_HZ, fixed by the kernel's interface).
const TICKS_PER_SECOND: f64 = 100.0;

/// Processes whose control group names the pod, with their parents.
pub fn of_pod(uid: &str) -> anyhow::Result<BTreeMap<i32, i32>> {
    ensure!(!uid.is_empty(), "no such pod");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<i32>().ok())
        else {
            continue;
        };
        if belongs(&entry.path(), uid) {
            let parent = field(pid, 1).unwrap_or(0);
            found.insert(pid, parent);
        }
    }
    Ok(found)
}

fn belongs(process: &Path, uid: &str) -> bool {
    fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains(uid))
}

/// Field of `/proc/PID/stat`, counted from 0 after the command's name.
fn field<T: std::str::FromStr>(pid: i32, index: usize) -> Option<T> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?
        .1
        .split(' ')
        .nth(index)?
        .parse()
        .ok()
}

/// User and system time that a process has used.
pub fn cpu_time(pid: i32) -> anyhow::Result<Duration> {
    let user: u64 = field(pid, 11).with_context(|| format!("process {pid} is gone"))?;
    let system: u64 = field(pid, 12).with_context(|| format!("process {pid} is gone"))?;
    Ok(Duration::from_secs_f64(
        (user + system) as f64 / TICKS_PER_SECOND,
    ))
}

/// Proportional set size, bytes: shared pages are divided among those who share them.
pub fn memory(pid: i32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("process {pid}"))?;
    let line = text
        .lines()
        .find(|l| l.starts_with("Pss:"))
        .context("no Pss line")?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("no Pss value")?
        .parse()?;
    Ok(kib * 1024)
}

/// UID of the first running pod that a selector finds, such as `-n load -l app=server`. Its own field selector replaces `Running`.
pub fn pod_uid(kubectl: &Kubectl, selector: &str) -> anyhow::Result<String> {
    kubectl.run(&format!(
        "get pods --field-selector=status.phase=Running {selector} -o=jsonpath={{.items[0].metadata.uid}}"
    ))
}

/// Some process of the first running pod that a selector finds.
pub fn one_of(kubectl: &Kubectl, selector: &str) -> anyhow::Result<i32> {
    let uid = pod_uid(kubectl, selector)?;
    of_pod(&uid)?
        .into_keys()
        .next()
        .with_context(|| format!("no process of {selector}"))
}

/// The first process of an application's container in the first running pod that a selector finds: not the one that holds the
/// pod's namespaces, whose end takes the pod's network with it.
pub fn application_of(kubectl: &Kubectl, selector: &str) -> anyhow::Result<i32> {
    let uid = pod_uid(kubectl, selector)?;
    of_pod(&uid)?
        .into_keys()
        .find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() != "pause")
        })
        .with_context(|| format!("no application of {selector}"))
}

/// A command in the network namespace of a process, with this host's files.
pub fn in_network_of(pid: i32) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n"]);
    command
}

/// Keeper and worker of the ztunnel on a node.
pub fn ztunnel(kubectl: &Kubectl, node: &str) -> anyhow::Result<(i32, i32)> {
    let uid = kubectl.run(&format!(
        "get pods -n istio-system -l app=ztunnel --field-selector=spec.nodeName={node},status.phase=Running \
         -o=jsonpath={{.items[0].metadata.uid}}"
    ))?;
    let tulle: BTreeMap<_, _> = of_pod(&uid)?
        .into_iter()
        .filter(|(pid, _)| is_tulle(*pid))
        .collect();
    tulle
        .iter()
        .find(|(_, parent)| tulle.contains_key(parent))
        .map(|(worker, keeper)| (*keeper, *worker))
        .with_context(|| format!("no keeper with a worker among {tulle:?} on {node}"))
}

fn is_tulle(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("ztunnel"))
}
