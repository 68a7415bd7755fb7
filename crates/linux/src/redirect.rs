//! Redirect rules and policy routing inside a pod's network namespace.
//!
//! One nftables table of family `inet` holds everything, so that IPv6 cannot slip past rules written for IPv4, and it
//! is replaced in one transaction. Only connection starts are redirected: a connection that was open before its pod
//! was enrolled goes on as it was.

mod routing;
mod rules;

use std::io;
use std::path::Path;

pub use crate::nft::NftError;

use crate::NetNs;
use crate::limits::CONNTRACK_GOES;
use crate::netlink::{self, Family, Request};
use crate::nft;
use rules::TABLE;

/// What is captured in one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Redirect {
    /// The mesh serves IPv6. Without it, TCP over IPv6 is refused rather than sent in clear.
    pub ipv6: bool,
    /// DNS goes to the proxy's resolver too.
    pub dns: bool,
    /// Inbound traffic is left alone (a gateway that takes it itself).
    pub ingress_bypass: bool,
    /// Interfaces inside the pod whose traffic is the pod's own outbound traffic (virtual machines in the pod).
    pub virtual_interfaces: Vec<String>,
}

/// Why rules or routes could not be installed, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The transaction was not applied.
    #[error("redirect rules: {0}")]
    Rules(#[from] NftError),
    /// The policy routing that brings replies back to the proxy is missing.
    #[error("policy routing ({what}): {source} (is the loopback interface of the pod up?)")]
    Routing {
        /// Which request the kernel refused.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The network namespace cannot be entered.
    #[error("cannot enter the network namespace: {0} (does the node agent run privileged?)")]
    Enter(#[source] io::Error),
    /// An interface name from an annotation that no interface can have.
    #[error(
        "{0:?} is not a possible interface name (1 to 15 of A-Z a-z 0-9 . _ -); correct the pod's annotation"
    )]
    Interface(String),
}

impl Redirect {
    /// The rules as one nft transaction that replaces whatever table of ours is there. Each rule carries a comment with
    /// the fingerprint of the whole and its place, by which [`intact`] knows it.
    #[must_use]
    pub fn rules(&self) -> String {
        rules::capture(self).render()
    }

    fn check(&self) -> Result<(), RedirectError> {
        let possible = |name: &str| {
            !name.is_empty()
                && name.len() <= 15
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match self.virtual_interfaces.iter().find(|name| !possible(name)) {
            Some(name) => Err(RedirectError::Interface(name.clone())),
            None => Ok(()),
        }
    }
}

/// Sets what must be in force before the proxy opens its listeners: connections that wait on a listener move to
/// another one of its SO_REUSEPORT group when it closes (`net.ipv4.tcp_migrate_req`). `sysctl` is a writable view of
/// `/proc/sys`, such as `/host/proc/sys`.
///
/// # Errors
/// When `sysctl` is read-only, or the kernel is older than 5.14.
pub fn prepare(ns: &NetNs, sysctl: &Path) -> io::Result<()> {
    // The directory `net` shows the namespace of the thread that looks, so this is the pod's.
    ns.enter(|| std::fs::write(sysctl.join("net/ipv4/tcp_migrate_req"), "1"))?
}

/// Installs routing and rules, in this order: a rule never marks packets that have no route yet. Repeating it is
/// harmless; a different [`Redirect`] replaces the former in one transaction.
///
/// # Errors
/// See [`RedirectError`]; rules are then unchanged, routing alone has no effect.
pub fn install(ns: &NetNs, redirect: &Redirect) -> Result<(), RedirectError> {
    redirect.check()?;
    ns.enter(routing::add).map_err(RedirectError::Enter)??;
    Ok(nft::apply(ns, &redirect.rules())?)
}

/// Captures nothing new from now on. Connections that are redirected already go on, because the hooks and the marks
/// that they need stay.
///
/// # Errors
/// See [`RedirectError`]; the rules are then unchanged.
pub fn stop_capture(ns: &NetNs) -> Result<(), RedirectError> {
    Ok(nft::apply(ns, &rules::stopped().render())?)
}

/// Removes rules and routing, which takes a quarter of a second where there are rules. Connections that are still redirected
/// break.
///
/// # Errors
/// See [`RedirectError`].
pub fn remove(ns: &NetNs) -> Result<(), RedirectError> {
    // Where that fails a few queries of the pod may lose their answers; the rules go all the same.
    if installed(ns) && nft::apply(ns, &rules::untracked().render()).is_ok() {
        std::thread::sleep(CONNTRACK_GOES);
    }
    nft::apply(ns, &rules::absent())?;
    ns.enter(routing::remove).map_err(RedirectError::Enter)?
}

/// How many nftables transactions this namespace has seen: cheap to ask often, different when anybody changed rules.
///
/// # Errors
/// When the namespace cannot be entered or the kernel has no nftables.
pub fn generation(ns: &NetNs) -> io::Result<u32> {
    const GET_GENERATION: u16 = 10 << 8 | 16;
    const GENERATION_ID: u16 = 1;
    // struct nfgenmsg: family unspecified, version 0, resource 0.
    let answers =
        ns.enter(|| netlink::ask(Family::Netfilter, Request::new(GET_GENERATION, 0, &[0; 4])))??;
    answers
        .first()
        .and_then(|answer| netlink::attribute(&answer.body, 4, GENERATION_ID))
        .and_then(|value| value.try_into().ok())
        .map(u32::from_be_bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel named no generation"))
}

/// What can be seen cheaply of a namespace: when it changes, somebody touched rules or routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// See [`generation`].
    pub generation: u32,
    /// Our policy routing is there.
    pub routed: bool,
}

/// Looks without starting a program.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn observe(ns: &NetNs) -> io::Result<Observation> {
    Ok(Observation {
        generation: generation(ns)?,
        routed: ns.enter(routing::present)??,
    })
}

/// Whether any rules of ours are there, capturing or stopped: what an earlier run may have left.
#[must_use]
pub fn installed(ns: &NetNs) -> bool {
    // A namespace that has never seen a transaction is at its first generation: most need no look.
    generation(ns).is_ok_and(|number| number > 1)
        && nft::run(ns, &["-t", "list", "table", "inet", TABLE], "").is_ok()
}

/// Whether exactly our rules for `redirect` and our routing are in force. Asks `nft`: call it when [`generation`]
/// changed, not in a tight loop.
#[must_use]
pub fn intact(ns: &NetNs, redirect: &Redirect) -> bool {
    let expected = rules::capture(redirect);
    nft::run(ns, &["-s", "list", "table", "inet", TABLE], "")
        .is_ok_and(|listing| expected.is_listed_in(&listing))
        && ns
            .enter(routing::present)
            .is_ok_and(|found| found.unwrap_or(false))
}

#[cfg(test)]
mod tests;
