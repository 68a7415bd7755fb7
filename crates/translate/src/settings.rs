//! What holds for the whole mesh.

use std::sync::Arc;

use tulle_api::contract;
use tulle_api::mesh::{DiscoverySelector, MeshConfig};

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of this cluster. Cannot change while running.
    pub cluster_id: Arc<str>,
    /// DNS suffix of services. Cannot change while running.
    pub domain: Arc<str>,
    /// Where the control plane lives; its label names the network.
    pub system_namespace: Arc<str>,
    /// Trust domain of all identities.
    pub trust_domain: Arc<str>,
    /// Namespace whose policies concern the whole mesh.
    pub root_namespace: Arc<str>,
    /// Namespaces that count; none means all.
    pub discovery: Vec<DiscoverySelector>,
    /// The rest of the mesh configuration, for waypoints and gateways.
    pub mesh: Arc<MeshConfig>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_id: contract::CLUSTER_ID.into(),
            domain: contract::CLUSTER_DOMAIN.into(),
            system_namespace: contract::SYSTEM_NAMESPACE.into(),
            trust_domain: contract::TRUST_DOMAIN.into(),
            root_namespace: contract::SYSTEM_NAMESPACE.into(),
            discovery: Vec::new(),
            mesh: Arc::default(),
        }
    }
}

impl Settings {
    /// These settings with what the mesh configuration says.
    pub fn with_mesh(&self, mesh: &MeshConfig) -> Self {
        Self {
            trust_domain: mesh.trust_domain.as_str().into(),
            root_namespace: mesh.root_namespace.as_str().into(),
            discovery: mesh.discovery_selectors.clone(),
            mesh: Arc::new(mesh.clone()),
            ..self.clone()
        }
    }
}
