//! Finds the network namespaces of pods among the processes of the node.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use crate::NetNs;
use crate::limits::CGROUP_FILE;
use crate::netlink::{self, DUMP, Family, Request};

/// Network namespaces by pod UID: scans `proc` (such as `/host/proc`) for processes whose cgroup path carries a pod
/// UID. The oldest process of a pod wins; the node's own namespace (host-network pods) is left out.
///
/// # Errors
/// When `proc` cannot be listed or shows no process 1; processes that end meanwhile are skipped.
pub fn find_pod_netns(proc: &Path) -> io::Result<HashMap<String, NetNs>> {
    let host = NetNs::open(&proc.join("1/ns/net"))?.id();
    let mut oldest: HashMap<String, (u64, NetNs)> = HashMap::new();
    for entry in std::fs::read_dir(proc)? {
        let directory = entry?.path();
        if !is_process(&directory) {
            continue;
        }
        let Some(found) = inspect(&directory, host, &oldest) else {
            continue;
        };
        oldest.insert(found.0, (found.1, found.2));
    }
    Ok(oldest.into_iter().map(|(uid, (_, ns))| (uid, ns)).collect())
}

/// The addresses of a namespace, without loopback: to be sure that it is the pod's.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn addresses(ns: &NetNs) -> io::Result<Vec<IpAddr>> {
    const GET_ADDRESS: u16 = 22;
    const ADDRESS: u16 = 1;
    let answers =
        ns.enter(|| netlink::ask(Family::Route, Request::new(GET_ADDRESS, DUMP, &[0; 8])))??;
    let found = answers.iter().filter_map(|answer| {
        let value = netlink::attribute(&answer.body, 8, ADDRESS)?;
        let v4 = <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
        v4.or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from))
    });
    Ok(found.filter(|address| !address.is_loopback()).collect())
}

/// The pod UID in a process's cgroup file, in any of the forms that runtimes write:
/// `/kubepods/burstable/pod<uid>/<container>`, `/kubepods.slice/.../kubepods-burstable-pod<uid with _>.slice/...`.
#[must_use]
pub fn pod_uid(cgroup: &str) -> Option<String> {
    cgroup
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|path| path.split('/'))
        .find_map(uid_of_segment)
}

fn uid_of_segment(segment: &str) -> Option<String> {
    let name = segment.strip_suffix(".slice").unwrap_or(segment);
    let start = name.strip_prefix("pod").or_else(|| {
        name.starts_with("kubepods")
            .then(|| name.rsplit_once("-pod").map(|(_, uid)| uid))
            .flatten()
    })?;
    let uid = start.replace('_', "-");
    is_uid(&uid).then_some(uid)
}

/// A UUID, or the 32 hexadecimal digits that static pods have.
fn is_uid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<_> = text.split('-').collect();
    match parts.as_slice() {
        [one] => one.len() == 32 && hex(one),
        five => five.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12]) && five.iter().all(|p| hex(p)),
    }
}

/// UID, age and namespace of a pod's process that is older than what is known of the pod.
fn inspect(
    directory: &Path,
    host: crate::NetNsId,
    oldest: &HashMap<String, (u64, NetNs)>,
) -> Option<(String, u64, NetNs)> {
    let uid = pod_uid(&read_some(&directory.join("cgroup"))?)?;
    let started = start_time(&read_some(&directory.join("stat"))?)?;
    if oldest.get(&uid).is_some_and(|(known, _)| *known <= started) {
        return None;
    }
    let ns = NetNs::open(&directory.join("ns/net")).ok()?;
    (ns.id() != host).then_some((uid, started, ns))
}

fn is_process(directory: &Path) -> bool {
    directory
        .file_name()
        .and_then(|n| n.to_str())
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// Field 22 of `/proc/PID/stat`, clock ticks after boot. The name in field 2 may hold anything, even parentheses.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

fn read_some(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(CGROUP_FILE)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
