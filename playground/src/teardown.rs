//! Taking a playground down, whole or half dead: nothing of it stays, and nothing else is touched.
//!
//! What belongs to a playground is found by namespaces, control groups and names that only it has; a process number alone
//! is never enough.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{self, ProcessId};
use crate::state::{State, boot};
use crate::{Name, cgroup, limits, wiring};

/// Removes everything. Works from what it finds; the record, if there is one, only helps.
pub(crate) fn take_down(name: &Name, dir: &Path) -> Result<()> {
    let state = State::read(dir).ok().flatten();
    end_processes(name, state.as_ref())?;
    wiring::remove(name)?;
    cgroup::remove(name)?;
    remove_directory(dir)
}

/// Whether there is anything that [`take_down`] would remove.
pub(crate) fn exists(name: &Name, dir: &Path) -> bool {
    dir.exists()
        || !wiring::network_namespaces(name).is_empty()
        || wiring::interface_exists(&name.bridge())
}

fn end_processes(name: &Name, state: Option<&State>) -> Result<()> {
    let start = Instant::now();
    let mut pid_namespaces = BTreeSet::new();
    loop {
        // The inits first: with an init the kernel ends all of its PID namespace.
        let recorded = state
            .filter(|state| state.boot == boot())
            .map(|state| state.machines.as_slice());
        for machine in recorded.unwrap_or_default() {
            if machine.init.alive() {
                pid_namespaces.extend(namespace(machine.init.pid, "pid"));
                machine.init.kill();
            }
        }
        let left = own_processes(name, &mut pid_namespaces);
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > limits::PROCESSES_END {
            let list: Vec<_> = left.iter().map(|id| describe(*id)).collect();
            bail!(
                "these processes of playground {name} do not end: {}",
                list.join(", ")
            );
        }
        left.into_iter().for_each(ProcessId::kill);
        std::thread::sleep(limits::LOOK_AGAIN);
    }
}

/// Processes in the playground's network namespaces, PID namespaces or control groups. PID namespaces are learnt on the
/// way: those of processes in its network namespaces, unless it is the host's own.
fn own_processes(name: &Name, pid_namespaces: &mut BTreeSet<u64>) -> Vec<ProcessId> {
    let networks: BTreeSet<u64> = wiring::network_namespaces(name)
        .iter()
        .filter_map(|namespace| fs::metadata(format!("/run/netns/{namespace}")).ok())
        .map(|metadata| metadata.ino())
        .collect();
    let host = namespace(1, "pid");
    let own = namespace(std::process::id().cast_signed(), "pid");
    let seen: Vec<_> = process::all()
        .into_iter()
        .filter_map(|pid| {
            Some((
                ProcessId::of(pid)?,
                namespace(pid, "net"),
                namespace(pid, "pid"),
            ))
        })
        .collect();
    let in_network = |net: &Option<u64>| net.is_some_and(|net| networks.contains(&net));
    for (_, net, pid) in &seen {
        if in_network(net) && *pid != host && *pid != own {
            pid_namespaces.extend(pid);
        }
    }
    let in_cgroup: BTreeSet<i32> = cgroup::processes(name).into_iter().collect();
    let belongs = |id: &ProcessId, net: &Option<u64>, pid: &Option<u64>| {
        in_network(net)
            || pid.is_some_and(|pid| pid_namespaces.contains(&pid))
            || in_cgroup.contains(&id.pid)
    };
    seen.iter()
        .filter(|(id, net, pid)| belongs(id, net, pid))
        .map(|(id, ..)| *id)
        .collect()
}

/// The inode number that identifies a namespace of a process.
fn namespace(pid: i32, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}"))
        .ok()
        .map(|metadata| metadata.ino())
}

fn describe(id: ProcessId) -> String {
    let name = fs::read_to_string(format!("/proc/{}/comm", id.pid)).unwrap_or_default();
    format!("{} ({})", name.trim(), id.pid)
}

/// Mounts below the directory are the machines' own and went with them; should one be on the host, it must go before the
/// files do.
fn remove_directory(dir: &Path) -> Result<()> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").context("reading the mounts of this process")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| Path::new(point).starts_with(dir)) {
        process::run(Command::new("umount").args(["--lazy", point]))
            .with_context(|| format!("unmounting {point}"))?;
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
