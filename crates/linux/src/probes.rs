//! The node's side of the probe exemption.
//!
//! The kubelet's probes of enrolled pods leave the node with a source address of the contract, by which the rules in
//! the pod let them pass. The set names and the address are Istio's. Since an address can be forged, packets that
//! arrive at the node with it are dropped: genuine ones start here.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use tulle_api::contract::{PROBE_V4, PROBE_V6};

use crate::NetNs;
use crate::nft::{self, NftError};

const TABLE: &str = "tulle-host";
const SET_V4: &str = "istio-inpod-probes-v4";
const SET_V6: &str = "istio-inpod-probes-v6";

/// The set of enrolled pod addresses of a node and the rule that uses it, in the node's network namespace.
#[derive(Debug)]
pub struct HostProbes {
    host: NetNs,
    /// Owner of each address: a pod that ends must not take away the address from its successor.
    owners: BTreeMap<IpAddr, String>,
}

impl HostProbes {
    /// Installs rule and sets in the node's namespace. Addresses that an earlier run left stay in force until
    /// [`HostProbes::replace`].
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn install(host: NetNs) -> Result<Self, NftError> {
        nft::apply(&host, &rules())?;
        Ok(Self {
            host,
            owners: BTreeMap::new(),
        })
    }

    /// Lets probes of these addresses through; `owner` is the pod's UID.
    ///
    /// # Errors
    /// See [`NftError`]; nothing changed then.
    pub fn add(&mut self, owner: &str, addresses: &[IpAddr]) -> Result<(), NftError> {
        let mut script = String::new();
        for address in addresses {
            // Adding first makes the deletion of an older comment succeed whether or not there was one.
            let element = element(*address, owner);
            let set = set_of(*address);
            let _infallible = write!(
                script,
                "add element inet {TABLE} {set} {{ {address} }}\n\
                 delete element inet {TABLE} {set} {{ {address} }}\n\
                 add element inet {TABLE} {set} {{ {element} }}\n"
            );
        }
        nft::apply(&self.host, &script)?;
        self.owners
            .extend(addresses.iter().map(|address| (*address, owner.to_owned())));
        Ok(())
    }

    /// Takes away the addresses that are still this owner's.
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn remove(&mut self, owner: &str) -> Result<(), NftError> {
        let mut script = String::new();
        for address in self
            .owners
            .iter()
            .filter(|(_, o)| *o == owner)
            .map(|(address, _)| *address)
        {
            let set = set_of(address);
            let _infallible = write!(
                script,
                "add element inet {TABLE} {set} {{ {address} }}\ndelete element inet {TABLE} {set} {{ {address} }}\n"
            );
        }
        if !script.is_empty() {
            nft::apply(&self.host, &script)?;
        }
        self.owners.retain(|_, o| o != owner);
        Ok(())
    }

    /// Makes the set exactly this, in one transaction with the rules: for a start that knows all pods, and for repair.
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn replace(&mut self, owners: BTreeMap<IpAddr, String>) -> Result<(), NftError> {
        let mut script = rules();
        for set in [SET_V4, SET_V6] {
            let _infallible = writeln!(script, "flush set inet {TABLE} {set}");
            let elements: Vec<_> = owners
                .iter()
                .filter(|(address, _)| set_of(**address) == set)
                .map(|(address, owner)| element(*address, owner))
                .collect();
            if !elements.is_empty() {
                let _infallible = writeln!(
                    script,
                    "add element inet {TABLE} {set} {{ {} }}",
                    elements.join(", ")
                );
            }
        }
        nft::apply(&self.host, &script)?;
        self.owners = owners;
        Ok(())
    }

    /// Puts rules and addresses back if somebody flushed them; true when that was needed.
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn repair(&mut self) -> Result<bool, NftError> {
        if self.intact() {
            return Ok(false);
        }
        self.replace(self.owners.clone())?;
        Ok(true)
    }

    /// Removes sets and rule: the mesh leaves this node.
    ///
    /// # Errors
    /// See [`NftError`].
    pub fn clear(&mut self) -> Result<(), NftError> {
        nft::apply(
            &self.host,
            &format!("table inet {TABLE}\ndelete table inet {TABLE}\n"),
        )?;
        self.owners.clear();
        Ok(())
    }

    /// The node's namespace, for asking its nftables generation.
    #[must_use]
    pub fn host(&self) -> &NetNs {
        &self.host
    }

    fn intact(&self) -> bool {
        nft::run(&self.host, &["list", "table", "inet", TABLE], "").is_ok_and(|listing| {
            let rules = listing
                .lines()
                .filter(|line| line.contains("comment \"tulle\""))
                .count();
            rules == RULES && self.owners.keys().all(|address| lists(&listing, *address))
        })
    }
}

/// Rules of [`rules`], each with the comment "tulle".
const RULES: usize = 4;

/// The table with both sets, as they are, and its rules anew. The kubelet runs as root and its sockets are the node's:
/// nothing else about it can be seen by nftables.
fn rules() -> String {
    format!(
        r#"table inet {TABLE} {{
	set {SET_V4} {{ type ipv4_addr; }}
	set {SET_V6} {{ type ipv6_addr; }}
	chain probes {{ type nat hook postrouting priority 99; policy accept; }}
	chain forged {{ type filter hook prerouting priority -300; policy accept; }}
}}
flush chain inet {TABLE} probes
flush chain inet {TABLE} forged
add rule inet {TABLE} probes meta l4proto tcp meta skuid 0 ip daddr @{SET_V4} snat ip to {PROBE_V4} comment "tulle"
add rule inet {TABLE} probes meta l4proto tcp meta skuid 0 ip6 daddr @{SET_V6} snat ip6 to {PROBE_V6} comment "tulle"
add rule inet {TABLE} forged iifname != "lo" ip saddr {PROBE_V4} drop comment "tulle"
add rule inet {TABLE} forged iifname != "lo" ip6 saddr {PROBE_V6} drop comment "tulle"
"#
    )
}

fn element(address: IpAddr, owner: &str) -> String {
    // A UID is hexadecimal and dashes; anything else has no place in a quoted string.
    let safe: String = owner
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(100)
        .collect();
    format!("{address} comment \"{safe}\"")
}

fn set_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { SET_V4 } else { SET_V6 }
}

/// Whether a listing names the address as a set element, not as part of another one.
fn lists(listing: &str, address: IpAddr) -> bool {
    listing.contains(&format!(" {address} comment"))
        || listing.contains(&format!("\t{address} comment"))
}
