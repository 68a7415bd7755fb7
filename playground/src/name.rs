//! What a playground's name gives: interfaces, namespaces, control groups.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

/// Longest name of a playground; it is part of host names and file names.
const LONGEST: usize = 40;
/// Longest name that is used as it is in interface names, which the kernel limits to 15 bytes.
const LONGEST_PLAIN: usize = 8;

/// A playground's name: lower-case letters, digits and inner dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bridge on the host that joins the machines.
    pub fn bridge(&self) -> String {
        format!("tl-{}", self.key())
    }

    /// The host's end of a machine's link: `0` is the server's, `1` the first node's.
    pub(crate) fn link(&self, machine: usize) -> String {
        format!("tl-{}-{machine}", self.key())
    }

    /// The network namespace of a machine, as `ip netns` knows it.
    pub(crate) fn network_namespace(&self, machine: &str) -> String {
        format!("{}{machine}", self.network_namespace_prefix())
    }

    /// What the names of all network namespaces of this playground start with. The double dash keeps the playground
    /// `a` apart from a playground `a-b`.
    pub(crate) fn network_namespace_prefix(&self) -> String {
        format!("tulle-{}--", self.0)
    }

    /// The control group, in every hierarchy, below which a node's pods live.
    pub(crate) fn cgroup(&self) -> String {
        format!("tulle-{}", self.0)
    }

    /// A 64-bit number that spreads names.
    pub(crate) fn hash(&self) -> u64 {
        let digest = Sha256::digest(self.0.as_bytes());
        digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// At most eight characters: the name itself, or its first letters and a part of its hash.
    fn key(&self) -> String {
        if self.0.len() <= LONGEST_PLAIN {
            return self.0.clone();
        }
        let start: String = self.0.chars().take(2).collect();
        format!("{start}{:06x}", self.hash() & 0xff_ffff)
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let sound = !text.is_empty()
            && text.len() <= LONGEST
            && text.chars().all(|c| plain(c) || c == '-')
            && text.starts_with(plain)
            && text.ends_with(plain)
            && !text.contains("--");
        ensure!(
            sound,
            "{text:?} cannot name a playground: use 1 to {LONGEST} lower-case letters, digits and single inner dashes"
        );
        Ok(Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
