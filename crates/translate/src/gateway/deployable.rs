//! What is to be created in the cluster for a Gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Source;
use super::status::Class;
use crate::cluster::Cluster;

/// A Gateway that needs a ServiceAccount, a Deployment and a Service of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deployable {
    /// Of the Gateway, and of all that is made for it.
    pub namespace: Arc<str>,
    /// Of the Gateway.
    pub name: Arc<str>,
    /// For the owner references.
    pub uid: Arc<str>,
    /// Name of its class.
    pub class_name: Arc<str>,
    /// What it is.
    pub class: Class,
    /// Name of Deployment and Service: `<gateway>-istio`, the Gateway's own for waypoints, or as an annotation says.
    pub workload_name: Arc<str>,
    /// Name of the ServiceAccount; created only when it is the Deployment's name.
    pub service_account: Arc<str>,
    /// Type of the Service; `None` is the class's: LoadBalancer for gateways, ClusterIP for waypoints.
    pub service_type: Option<Arc<str>>,
    /// Ports of the Service: those of valid listeners, without the status port, sorted, each once.
    pub ports: Vec<DeployedPort>,
    /// Addresses (of type IPAddress) that the Service must have.
    pub addresses: Vec<Arc<str>>,
    /// For all objects: `infrastructure.labels`, else the Gateway's own.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Likewise.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// Name of a ConfigMap with overlays for the objects; it exists.
    pub parameters: Option<Arc<str>>,
    /// `istio.io/rev` of the Gateway.
    pub revision: Option<Arc<str>>,
    /// Value of the annotation that says which version of a controller owns the objects.
    pub controller_version: Option<Arc<str>>,
    /// Namespaces may be `ambient`: its own traffic is captured (a "sandwich").
    pub captured: bool,
}

/// A port of a gateway's Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeployedPort {
    /// On the Service and on the pods.
    pub port: u16,
    /// Name of the first listener that has it.
    pub name: Arc<str>,
    /// `appProtocol` of the Service's port.
    pub app_protocol: &'static str,
}

/// Why what a Gateway needs is not there, or not as its owner wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDeployed {
    /// What is laid over the objects cannot be used.
    Parameters(String),
    /// The API server refuses the objects.
    Refused(String),
}

impl Cluster {
    /// What became of a Gateway's objects; `None`: they are as they should be.
    pub fn set_deployment(&mut self, namespace: &str, name: &str, problem: Option<NotDeployed>) {
        let named = self.named(namespace, name);
        if !self.gateway.gateways.contains_key(&named) {
            return;
        }
        let old = match &problem {
            Some(problem) => self
                .gateway
                .undeployed
                .insert(named.clone(), problem.clone()),
            None => self.gateway.undeployed.remove(&named),
        };
        if old != problem {
            self.mark_gateway_source(Source::GatewayStatus(named.0, named.1));
        }
    }
}
