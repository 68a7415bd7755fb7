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
pub(crate) struct Node {
    pub(crate) locality: Option<Locality>,
    /// Namespace and name.
    pub(crate) pods: HashSet<(Arc<str>, Arc<str>)>,
}

/// A namespace; it may be known only by its objects.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) facts: NamespaceFacts,
    pub(crate) pods: HashMap<Arc<str>, WorkloadFacts>,
    pub(crate) entries: BTreeMap<Arc<str>, WorkloadFacts>,
    /// Endpoints inside of ServiceEntries.
    pub(crate) endpoints: BTreeMap<Arc<str>, EntryEndpoints>,
    pub(crate) services: BTreeMap<ServiceId, ServiceFacts>,
    pub(crate) service_selectors: SelectorIndex<ServiceId>,
    pub(crate) slices: HashMap<Arc<str>, SliceFacts>,
    pub(crate) slices_by_service: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    pub(crate) slices_by_pod: HashMap<Arc<str>, Vec<Arc<str>>>,
    pub(crate) policies: BTreeMap<Arc<str>, AuthorizationFacts>,
    pub(crate) policy_selectors: SelectorIndex<Arc<str>>,
    pub(crate) peers: BTreeMap<Arc<str>, PeerFacts>,
    /// Objects that may ask for a waypoint, with their generation.
    pub(crate) waypoint_users: BTreeMap<(ObjectKind, Arc<str>), (UseWaypoint, Option<i64>)>,
}

/// What matters of a namespace object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamespaceFacts {
    /// There is such an object.
    pub(crate) exists: bool,
    pub(crate) labels: Labels,
    pub(crate) distribution: Option<Distribution>,
    pub(crate) waypoint: UseWaypoint,
}

/// Endpoints inside of a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryEndpoints {
    /// The text of the address, which is part of the uid.
    pub(crate) explicit: Vec<(Arc<str>, WorkloadFacts)>,
    /// Without any, a host resolved by DNS is its own endpoint.
    pub(crate) implicit: bool,
    /// Labels of the ServiceEntry, which policies see.
    pub(crate) labels: Labels,
    pub(crate) tunnel: bool,
}

impl Namespace {
    pub(crate) fn is_empty(&self) -> bool {
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
    pub(crate) fn service(&self, name: &str, hostname: &Arc<str>) -> Option<&ServiceFacts> {
        let id = ServiceId {
            source: crate::service::ServiceSource::Kubernetes,
            name: name.into(),
            hostname: hostname.clone(),
        };
        self.services.get(&id)
    }
}
