//! Addresses of a playground: one /16 for machines, pods and Services, chosen by name and clear of what the host uses.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::Name;

/// Candidates: 10.64.0.0/16 to 10.191.0.0/16, then 172.20.0.0/16 to 172.31.0.0/16 for hosts that route all of 10/8.
const FIRST_OCTET_10: u8 = 64;
const SLOTS_10: u8 = 128;
const FIRST_OCTET_172: u8 = 20;
const SLOTS_172: u8 = 12;

/// The subnets of one playground, all within one /16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnets {
    /// The /16 that holds all others.
    pub all: Ipv4Net,
}

impl Subnets {
    fn address(&self, third: u8, fourth: u8) -> Ipv4Addr {
        let [a, b, ..] = self.all.network().octets();
        Ipv4Addr::new(a, b, third, fourth)
    }

    fn subnet(&self, third: u8, length: u8) -> Ipv4Net {
        Ipv4Net::new_assert(self.address(third, 0), length)
    }

    /// Addresses of the host's bridge and of the machines.
    pub fn machines(&self) -> Ipv4Net {
        self.subnet(0, 24)
    }

    /// The host's own address on the bridge: for pods, an address outside the cluster.
    pub fn bridge(&self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The machine of the API server and of cluster DNS.
    pub fn server(&self) -> Ipv4Addr {
        self.address(0, 2)
    }

    /// Node `n`, counted from 1.
    pub fn node(&self, n: usize) -> Ipv4Addr {
        self.address(0, 10 + octet(n))
    }

    /// First and last address that Services of type LoadBalancer get: on the bridge, where the host reaches them.
    pub fn load_balancers(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.address(0, 200), self.address(0, 250))
    }

    /// All pods of all nodes.
    pub fn pods(&self) -> Ipv4Net {
        self.subnet(16, 20)
    }

    /// The pods of node `n`, counted from 1.
    pub fn node_pods(&self, n: usize) -> Ipv4Net {
        self.subnet(16 + octet(n), 24)
    }

    /// Cluster IPs of Services.
    pub fn services(&self) -> Ipv4Net {
        self.subnet(128, 17)
    }

    /// The Service `kubernetes`.
    pub fn api_service(&self) -> Ipv4Addr {
        self.address(128, 1)
    }

    /// The Service `kube-dns`.
    pub fn dns_service(&self) -> Ipv4Addr {
        self.address(128, 10)
    }
}

/// A node's number as part of an address; `limits::NODES` keeps it small.
fn octet(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// The first free candidate, counted from where the name points. `taken` holds what the host routes or owns, with a note
/// on where it comes from.
pub fn choose_subnets(name: &Name, taken: &[(Ipv4Net, String)]) -> Result<Subnets> {
    let free = |all: &Ipv4Net| taken.iter().all(|(net, _)| !overlap(all, net));
    let slots = |slots: u8| {
        let start = name.hash() % u64::from(slots);
        (0..u64::from(slots)).filter_map(move |i| u8::try_from((start + i) % u64::from(slots)).ok())
    };
    let tens = slots(SLOTS_10).map(|slot| Ipv4Addr::new(10, FIRST_OCTET_10 + slot, 0, 0));
    let others = slots(SLOTS_172).map(|slot| Ipv4Addr::new(172, FIRST_OCTET_172 + slot, 0, 0));
    let found = tens
        .chain(others)
        .map(|base| Ipv4Net::new_assert(base, 16))
        .find(free);
    found.map(|all| Subnets { all }).with_context(|| {
        let list: Vec<_> = taken.iter().map(|(net, from)| format!("{net} ({from})")).collect();
        format!(
            "every subnet that a playground could use is in use on this host: {}; name a free /16 with --subnet",
            list.join(", ")
        )
    })
}

/// The subnets asked for by hand, if nothing on the host uses them.
pub(crate) fn check_subnets(all: Ipv4Net, taken: &[(Ipv4Net, String)]) -> Result<Subnets> {
    if all.prefix_len() != 16 || all.network() != all.addr() {
        bail!("the subnet of a playground is a /16, such as 10.77.0.0/16; {all} is not");
    }
    if let Some((net, from)) = taken.iter().find(|(net, _)| overlap(&all, net)) {
        bail!(
            "subnet {all} is in use: this host has {net} ({from}); name another /16, or leave the choice to the playground"
        );
    }
    Ok(Subnets { all })
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

#[derive(Deserialize)]
struct Route {
    dst: String,
    #[serde(default)]
    dev: String,
}

/// What the host routes, the default route left out, from `ip -json -4 route show table all`.
pub(crate) fn parse_routes(json: &[u8]) -> Result<Vec<(Ipv4Net, String)>> {
    let routes: Vec<Route> =
        serde_json::from_slice(json).context("reading the routes that `ip -json` lists")?;
    let parse = |text: &str| -> Option<Ipv4Net> {
        text.parse()
            .ok()
            .or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
    };
    let used = routes
        .iter()
        .filter_map(|route| Some((parse(&route.dst)?, format!("interface {}", route.dev))));
    Ok(used.filter(|(net, _)| net.prefix_len() > 0).collect())
}

#[cfg(test)]
mod tests;
