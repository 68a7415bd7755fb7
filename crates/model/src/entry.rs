//! What the tables hold of a workload: one pointer, compared by what the table is for. A proxy of a small node holds every
//! workload of the cluster several times over, so an entry must not repeat what the workload says itself.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use equivalent::Equivalent;

use crate::workload::Workload;

/// A workload by its uid.
#[derive(Clone, Debug)]
pub(crate) struct ByUid(pub(crate) Arc<Workload>);

impl Borrow<str> for ByUid {
    fn borrow(&self) -> &str {
        &self.0.uid
    }
}

impl PartialEq for ByUid {
    fn eq(&self, other: &Self) -> bool {
        self.0.uid == other.0.uid
    }
}

impl Eq for ByUid {}

impl Ord for ByUid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.uid.cmp(&other.0.uid)
    }
}

impl PartialOrd for ByUid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for ByUid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uid.hash(state);
    }
}

/// A workload by one of its addresses, which is one per network.
#[derive(Clone, Debug)]
pub(crate) struct ByAddress {
    pub(crate) workload: Arc<Workload>,
    address: usize,
}

/// What [`ByAddress`] is found by.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Place<'a> {
    pub(crate) network: &'a str,
    pub(crate) address: Option<&'a IpAddr>,
}

impl ByAddress {
    /// One entry for each address.
    pub(crate) fn all(workload: &Arc<Workload>) -> impl Iterator<Item = Self> {
        let addresses = 0..workload.addresses.len();
        addresses.map(|address| Self {
            workload: workload.clone(),
            address,
        })
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            network: &self.workload.network,
            address: self.workload.addresses.get(self.address),
        }
    }
}

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for ByAddress {}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl Equivalent<ByAddress> for Place<'_> {
    fn equivalent(&self, entry: &ByAddress) -> bool {
        *self == entry.place()
    }
}
