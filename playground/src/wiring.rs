//! Interfaces, network namespaces and routes: every machine has one link to one bridge on the host.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use crate::network::{self, Subnets};
use crate::process::{run, run_with_input};
use crate::{Name, limits, state};

/// The machine of the API server.
pub(crate) const SERVER: &str = "server";

/// A node's host name and name in Kubernetes.
pub(crate) fn node_name(node: usize) -> String {
    format!("node{node}")
}

/// Chooses subnets and claims them by making the bridge with its address and the routes to the pods.
pub(crate) fn claim_subnets(name: &Name, nodes: usize, wanted: Option<Ipv4Net>) -> Result<Subnets> {
    let _alone = state::lock_subnets()?;
    let taken = host_routes()?;
    let subnets = match wanted {
        Some(all) => network::check_subnets(all, &taken)?,
        None => network::choose_subnets(name, &taken)?,
    };
    let bridge = name.bridge();
    if interface_exists(&bridge) {
        bail!(
            "an interface {bridge} exists that is not this playground's; choose another name for the playground"
        );
    }
    let mut batch = format!(
        "link add {bridge} type bridge stp_state 0 mcast_snooping 0\n\
         address add {}/24 dev {bridge}\n\
         link set {bridge} up\n",
        subnets.bridge()
    );
    for node in 1..=nodes {
        batch += &format!(
            "route add {} via {} dev {bridge}\n",
            subnets.node_pods(node),
            subnets.node(node)
        );
    }
    ip_batch(None, &batch).context("making the bridge")?;
    allow_bridged_traffic(&bridge)?;
    Ok(subnets)
}

/// Makes the network namespaces of all machines, and joins them to the bridge. Every machine has routes to the pods of
/// every other; all else goes to the host.
pub(crate) fn join_machines(name: &Name, nodes: usize, subnets: &Subnets) -> Result<()> {
    let bridge = name.bridge();
    let mut batch = String::new();
    for machine in 0..=nodes {
        let (link, namespace) = (
            name.link(machine),
            name.network_namespace(&machine_name(machine)),
        );
        batch += &format!(
            "netns add {namespace}\n\
             link add {link} type veth peer name eth0 netns {namespace}\n\
             link set {link} master {bridge} up\n"
        );
    }
    ip_batch(None, &batch).context("making the machines' network namespaces")?;
    for machine in 0..=nodes {
        let address = if machine == 0 {
            subnets.server()
        } else {
            subnets.node(machine)
        };
        let mut batch = format!(
            "link set lo up\n\
             address add {address}/24 dev eth0\n\
             link set eth0 up\n\
             route add default via {}\n",
            subnets.bridge()
        );
        for other in (1..=nodes).filter(|other| *other != machine) {
            batch += &format!(
                "route add {} via {}\n",
                subnets.node_pods(other),
                subnets.node(other)
            );
        }
        let machine = machine_name(machine);
        ip_batch(Some(&name.network_namespace(&machine)), &batch)
            .with_context(|| format!("setting up the network of machine {machine}"))?;
    }
    Ok(())
}

fn machine_name(machine: usize) -> String {
    if machine == 0 {
        SERVER.to_owned()
    } else {
        node_name(machine)
    }
}

/// Removes namespaces, interfaces and rules that bear the playground's names.
pub(crate) fn remove(name: &Name) -> Result<()> {
    for namespace in network_namespaces(name) {
        run(Command::new("ip").args(["netns", "delete", &namespace]))
            .with_context(|| format!("removing the network namespace {namespace}"))?;
    }
    unmount_namespaces();
    forget_bridged_traffic(&name.bridge())?;
    let links = (0..=limits::NODES).map(|machine| name.link(machine));
    for interface in links.chain([name.bridge()]) {
        if !interface_exists(&interface) {
            continue;
        }
        // A machine's link may vanish by itself at this moment, with its namespace.
        let removed = run(Command::new("ip").args(["link", "delete", &interface]));
        if interface_exists(&interface) {
            removed.with_context(|| format!("removing the interface {interface}"))?;
        }
    }
    Ok(())
}

/// `ip netns` mounts its directory over itself with the first namespace of a boot; with the last one that may go.
fn unmount_namespaces() {
    let empty = fs::read_dir("/run/netns").is_ok_and(|mut entries| entries.next().is_none());
    if empty {
        // Not mounted, or just in use by somebody else: both are fine.
        let _ = run(Command::new("umount").arg("/run/netns"));
    }
}

/// Names of the playground's network namespaces.
pub(crate) fn network_namespaces(name: &Name) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|entry| entry.starts_with(&name.network_namespace_prefix()))
        .collect()
}

pub(crate) fn interface_exists(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

fn host_routes() -> Result<Vec<(Ipv4Net, String)>> {
    let json = run(Command::new("ip").args(["-json", "-4", "route", "show", "table", "all"]))?;
    network::parse_routes(&json)
}

fn ip_batch(namespace: Option<&str>, batch: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-netns", namespace]);
    }
    run_with_input(ip.args(["-batch", "-"]), batch.as_bytes()).map(drop)
}

/// Docker forbids forwarding, and where bridges call netfilter that hits frames between the machines too. If so, they are
/// let through by one rule; the chain is looked at with `nft`, because `iptables` would create it.
fn allow_bridged_traffic(bridge: &str) -> Result<()> {
    let calls =
        fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables").unwrap_or_default();
    if calls.trim() != "1" || !forward_chain().is_some_and(|chain| chain.contains("policy drop")) {
        return Ok(());
    }
    let rule =
        format!("insert rule ip filter FORWARD iifname {bridge} oifname {bridge} counter accept");
    run(Command::new("nft").arg(rule))
        .context("letting the bridge's own traffic through the host's filter")
        .map(drop)
}

fn forget_bridged_traffic(bridge: &str) -> Result<()> {
    for handle in rule_handles(&forward_chain().unwrap_or_default(), bridge) {
        run(Command::new("nft").args([
            "delete", "rule", "ip", "filter", "FORWARD", "handle", &handle,
        ]))
        .context("removing the bridge's rule from the host's filter")?;
    }
    Ok(())
}

/// The host's forwarding rules, if it has any.
fn forward_chain() -> Option<String> {
    let listed = run(Command::new("nft").args(["-a", "list", "chain", "ip", "filter", "FORWARD"]));
    listed
        .ok()
        .map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// Handles of the rules that name exactly this bridge.
fn rule_handles(chain: &str, bridge: &str) -> Vec<String> {
    let quoted = format!("iifname \"{bridge}\" oifname \"{bridge}\"");
    let rules = chain.lines().filter(|line| line.contains(&quoted));
    rules
        .filter_map(|line| line.rsplit_once("# handle "))
        .map(|(_, handle)| handle.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
