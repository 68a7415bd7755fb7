//! Workloads: facts, and what the mesh is told of them.

use std::net::IpAddr;
use std::sync::Arc;

use tulle_api::contract::{
    ANNOTATION_REDIRECTION, LABEL_APP, LABEL_APP_NAME, LABEL_APP_VERSION, LABEL_CANONICAL_NAME,
    LABEL_CANONICAL_REVISION, LABEL_TUNNEL, LABEL_VERSION, LABEL_WORKLOAD_NAME,
    REDIRECTION_ENABLED, TUNNEL_HTTP,
};
use tulle_api::networking::{WorkloadEntry, WorkloadEntrySpec};
use tulle_model::{Health, Interner, Locality, Port, ServiceKey, Tunnel, Workload, WorkloadKind};

use crate::labels::Labels;
use crate::settings::Settings;

/// Annotation of entries that a WorkloadGroup registered: the group's name.
const ANNOTATION_AUTO_REGISTRATION: &str = "istio.io/autoRegistrationGroup";
/// Revision of a workload whose labels name none.
const DEFAULT_REVISION: &str = "latest";

/// What matters of a pod or WorkloadEntry. Kept for every pod of the cluster, so small, with shared texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadFacts {
    /// Its addresses; a pod without any is no workload yet.
    pub addresses: Box<[IpAddr]>,
    /// Name to resolve, when there is no address; or empty.
    pub hostname: Arc<str>,
    /// Kubernetes node, or empty.
    pub node: Arc<str>,
    /// Service account; may be empty for entries.
    pub service_account: Arc<str>,
    /// Labels that selectors see.
    pub labels: Labels,
    /// Name of the owner.
    pub workload_name: Arc<str>,
    /// Ports with a name.
    pub ports: Box<[(Arc<str>, u16)]>,
    /// Ready, and not terminating.
    pub health: Health,
    /// Shares its node's addresses.
    pub host_network: bool,
    /// The node agent has enrolled it.
    pub tunnel: bool,
    /// It speaks HBONE itself.
    pub native_tunnel: bool,
    /// Network, when not the cluster's.
    pub network: Option<Arc<str>>,
    /// Locality, when not the node's.
    pub locality: Option<Box<Locality>>,
    /// Relative weight.
    pub capacity: u32,
}

/// What of the rest of the cluster shows in a workload.
pub(crate) struct Surroundings<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) network: &'a Arc<str>,
    pub(crate) locality: Option<&'a Locality>,
    pub(crate) services: Vec<(ServiceKey, Vec<Port>)>,
    pub(crate) policies: Vec<Arc<str>>,
}

impl WorkloadFacts {
    /// Facts of something of which nothing is known.
    pub(crate) fn nowhere() -> Self {
        Self {
            addresses: Box::default(),
            hostname: Arc::default(),
            node: Arc::default(),
            service_account: Arc::default(),
            labels: Labels::default(),
            workload_name: Arc::default(),
            ports: Box::default(),
            health: Health::Healthy,
            host_network: false,
            tunnel: false,
            native_tunnel: false,
            network: None,
            locality: None,
            capacity: 1,
        }
    }

    /// The workload; `None` as long as there is no place to send connections to.
    pub(crate) fn workload(
        &self,
        uid: Arc<str>,
        namespace: &Arc<str>,
        name: &Arc<str>,
        around: Surroundings<'_>,
    ) -> Option<Workload> {
        if self.addresses.is_empty() && self.hostname.is_empty() {
            return None;
        }
        let (canonical_name, canonical_revision) = canonical(&self.labels, &self.workload_name);
        let hbone = self.tunnel || self.native_tunnel;
        let account = if self.service_account.is_empty() {
            "default".into()
        } else {
            self.service_account.clone()
        };
        Some(Workload {
            uid,
            name: name.clone(),
            namespace: namespace.clone(),
            trust_domain: around.settings.trust_domain.clone(),
            service_account: account,
            node: self.node.clone(),
            network: self
                .network
                .clone()
                .unwrap_or_else(|| around.network.clone()),
            cluster: around.settings.cluster_id.clone(),
            addresses: self.addresses.to_vec(),
            hostname: self.hostname.clone(),
            tunnel: if hbone { Tunnel::Hbone } else { Tunnel::None },
            native_tunnel: self.native_tunnel,
            health: self.health,
            host_network: self.host_network,
            canonical_name,
            canonical_revision,
            workload_name: self.workload_name.clone(),
            kind: WorkloadKind::Pod,
            services: around.services.into(),
            policies: around.policies,
            locality: self
                .locality
                .as_deref()
                .or(around.locality)
                .cloned()
                .unwrap_or_default(),
            capacity: self.capacity,
            waypoint: None,
            waypoint_enforced: false,
            network_gateway: None,
        })
    }

    /// A port by its name.
    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        self.ports
            .iter()
            .find(|(n, _)| **n == *name)
            .map(|(_, port)| *port)
    }
}

/// Canonical name and revision, by Istio's labels, Kubernetes' and the short ones.
fn canonical(labels: &Labels, workload_name: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let first = |keys: [&str; 3]| keys.into_iter().find_map(|key| labels.get(key)).cloned();
    let name = first([LABEL_CANONICAL_NAME, LABEL_APP_NAME, LABEL_APP]);
    let revision = first([LABEL_CANONICAL_REVISION, LABEL_APP_VERSION, LABEL_VERSION]);
    (
        name.unwrap_or_else(|| workload_name.clone()),
        revision.unwrap_or_else(|| DEFAULT_REVISION.into()),
    )
}

/// Whether the labels say that the workload speaks HBONE itself.
pub(crate) fn native_tunnel(labels: &Labels) -> bool {
    labels
        .get(LABEL_TUNNEL)
        .is_some_and(|protocols| protocols.split(',').any(|p| p.trim() == TUNNEL_HTTP))
}

/// Takes what matters of a WorkloadEntry.
pub fn entry_workload_facts(entry: &WorkloadEntry, texts: &mut Interner) -> WorkloadFacts {
    let meta = &entry.metadata;
    // Labels can stand in two places; those of the specification win.
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.extend(entry.spec.labels.clone());
    let labels = Labels::new(&labels, texts);
    let annotation = |key| meta.annotations.as_ref().and_then(|a| a.get(key));
    let name = annotation(ANNOTATION_AUTO_REGISTRATION)
        .map(String::as_str)
        .or_else(|| labels.get(LABEL_WORKLOAD_NAME).map(|name| &**name))
        .or(meta.name.as_deref())
        .unwrap_or_default();
    let workload_name = texts.intern(name);
    let tunnel = annotation(ANNOTATION_REDIRECTION).is_some_and(|v| v == REDIRECTION_ENABLED);
    spec_facts(&entry.spec, labels, workload_name, tunnel, texts)
}

/// The same for an endpoint inside of a ServiceEntry.
pub(crate) fn spec_facts(
    spec: &WorkloadEntrySpec,
    labels: Labels,
    workload_name: Arc<str>,
    tunnel: bool,
    texts: &mut Interner,
) -> WorkloadFacts {
    let address: Option<IpAddr> = spec.address.parse().ok();
    let hostname = if address.is_some() { "" } else { &spec.address };
    let ports = spec.ports.iter().filter_map(|(name, port)| {
        u16::try_from(*port)
            .ok()
            .map(|port| (Arc::<str>::from(name.as_str()), port))
    });
    WorkloadFacts {
        addresses: address.into_iter().collect(),
        hostname: texts.intern(hostname),
        node: Arc::default(),
        service_account: texts.intern(&spec.service_account),
        workload_name,
        ports: ports.collect(),
        health: Health::Healthy,
        host_network: false,
        tunnel,
        native_tunnel: native_tunnel(&labels),
        labels,
        network: (!spec.network.is_empty()).then(|| texts.intern(&spec.network)),
        locality: locality(&spec.locality, texts),
        capacity: spec.weight.filter(|weight| *weight > 0).unwrap_or(1),
    }
}

/// `region/zone/subzone`, of which the later ones may be missing.
fn locality(text: &str, texts: &mut Interner) -> Option<Box<Locality>> {
    if text.is_empty() {
        return None;
    }
    let mut parts = text.splitn(3, '/').map(|part| texts.intern(part));
    Some(Box::new(Locality {
        region: parts.next().unwrap_or_default(),
        zone: parts.next().unwrap_or_default(),
        subzone: parts.next().unwrap_or_default(),
    }))
}
