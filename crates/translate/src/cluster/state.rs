//! Tables of facts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tulle_model::Locality;

use crate::authorization::AuthorizationFacts;
use crate::condition::ObjectKind;
use crate::labels::Labels;
use crate::peer::PeerFacts;
use crate::selectors::SelectorIndex;
use crate::service::{Distribution, ServiceFacts, ServiceId};
use crate::slice::SliceFacts;
use crate::waypoint::UseWaypoint;
use crate::workload::WorkloadFacts;

/// A node; it may be known only by its pods.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) locality: Option<Locality>,
    /// Namespace and name.
    pub(super) pods: HashSet<(Arc<str>, Arc<str>)>,
}

/// A namespace; it may be known only by its objects.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    pub(super) facts: NamespaceFacts,
    pub(super) pods: HashMap<Arc<str>, WorkloadFacts>,
    pub(super) entries: BTreeMap<Arc<str>, WorkloadFacts>,
    /// Endpoints inside of ServiceEntries.
    pub(super) endpoints: BTreeMap<Arc<str>, EntryEndpoints>,
    pub(super) services: BTreeMap<ServiceId, ServiceFacts>,
    pub(super) service_selectors: SelectorIndex<ServiceId>,
    pub(super) slices: HashMap<Arc<str>, SliceFacts>,
    pub(super) slices_by_service: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    pub(super) slices_by_pod: HashMap<Arc<str>, Vec<Arc<str>>>,
    pub(super) policies: BTreeMap<Arc<str>, AuthorizationFacts>,
    pub(super) policy_selectors: SelectorIndex<Arc<str>>,
    pub(super) peers: BTreeMap<Arc<str>, PeerFacts>,
    /// Objects that may ask for a waypoint, with their generation.
    pub(super) waypoint_users: BTreeMap<(ObjectKind, Arc<str>), (UseWaypoint, Option<i64>)>,
}

/// What matters of a namespace object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NamespaceFacts {
    /// There is such an object.
    pub(super) exists: bool,
    pub(super) labels: Labels,
    pub(super) distribution: Option<Distribution>,
    pub(super) waypoint: UseWaypoint,
}

/// Endpoints inside of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryEndpoints {
    /// The text of the address, which is part of the uid.
    pub(super) explicit: Vec<(Arc<str>, WorkloadFacts)>,
    /// Without any, a host resolved by DNS is its own endpoint.
    pub(super) implicit: bool,
    /// Labels of the ServiceEntry, which policies see.
    pub(super) labels: Labels,
    pub(super) tunnel: bool,
}

impl Namespace {
    pub(super) fn is_empty(&self) -> bool {
        !self.facts.exists
            && self.pods.is_empty()
            && self.entries.is_empty()
            && self.endpoints.is_empty()
            && self.services.is_empty()
            && self.slices.is_empty()
            && self.policies.is_empty()
            && self.peers.is_empty()
            && self.waypoint_users.is_empty()
    }

    /// The Kubernetes Service of this name.
    pub(super) fn service(&self, name: &str, hostname: &Arc<str>) -> Option<&ServiceFacts> {
        let id = ServiceId {
            source: crate::service::ServiceSource::Kubernetes,
            name: name.into(),
            hostname: hostname.clone(),
        };
        self.services.get(&id)
    }
}
