//! The objects of the mesh, as typed values, in the order in which they are applied.

mod access;
mod control_plane;
mod metadata;
mod node_agent;
mod pod;
mod proxies;
mod webhook;
mod ztunnel;

use serde::Serialize;
use serde_json::Value;
use tulle_api::contract::SYSTEM_NAMESPACE;

use crate::values::{SetError, Values};

pub(crate) use metadata::{LABEL_MANAGED_BY, MANAGED_BY};

/// When an object is applied; phases follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The namespace.
    Namespace,
    /// Istio's resource definitions.
    Definitions,
    /// Accounts, rights, configuration, services.
    Foundations,
    /// The control plane and the node agent, which need nothing else of the mesh.
    Agents,
    /// The node proxy: it needs the root certificates that the control plane publishes.
    Proxies,
}

/// One object, ready to be applied.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// When it is applied.
    pub phase: Phase,
    /// The object.
    pub object: Value,
}

impl Rendered {
    /// "DaemonSet istio-system/ztunnel".
    pub fn title(&self) -> String {
        title(&self.object)
    }
}

/// "Kind namespace/name" of an object, or "Kind name".
pub(crate) fn title(object: &Value) -> String {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    match text("/metadata/namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// All objects for `values`, each with its phase.
pub fn objects(values: &Values) -> Result<Vec<Rendered>, SetError> {
    values.check()?;
    let mut all = Objects(Vec::new());
    all.add(Phase::Namespace, &metadata::namespace())?;
    for definition in tulle_api::crds() {
        all.add(Phase::Definitions, &metadata::adopt(definition))?;
    }
    for account in access::service_accounts(values) {
        all.add(Phase::Foundations, &account)?;
    }
    for role in access::cluster_roles() {
        all.add(Phase::Foundations, &role)?;
    }
    for binding in access::cluster_role_bindings() {
        all.add(Phase::Foundations, &binding)?;
    }
    all.add(Phase::Foundations, &access::control_plane_role())?;
    all.add(Phase::Foundations, &access::control_plane_role_binding())?;
    all.add(Phase::Foundations, &control_plane::mesh_config(values)?)?;
    all.add(Phase::Foundations, &control_plane::service())?;
    all.add(Phase::Foundations, &webhook::configuration())?;
    if values.cni.resource_quota {
        all.add(Phase::Foundations, &node_agent::resource_quota())?;
    }
    all.add(Phase::Agents, &control_plane::deployment(values))?;
    all.add(Phase::Agents, &node_agent::daemon_set(values))?;
    all.add(Phase::Proxies, &ztunnel::daemon_set(values))?;
    Ok(all.0)
}

/// All objects for `values`, in order.
pub fn render(values: &Values) -> Result<Vec<Value>, SetError> {
    Ok(objects(values)?
        .into_iter()
        .map(|rendered| rendered.object)
        .collect())
}

/// The objects as one YAML stream.
pub fn to_yaml(objects: &[Value]) -> Result<String, SetError> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        let yaml = serde_saphyr::to_string(object);
        text.push_str(&yaml.map_err(|error| SetError::Misfit(error.to_string()))?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

struct Objects(Vec<Rendered>);

impl Objects {
    fn add(&mut self, phase: Phase, object: &impl Serialize) -> Result<(), SetError> {
        let mut object =
            serde_json::to_value(object).map_err(|error| SetError::Misfit(error.to_string()))?;
        // Written by the server; empty ones from the typed structs would only claim ownership.
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        self.0.push(Rendered { phase, object });
        Ok(())
    }
}

/// Everything but the namespace itself lies in the one system namespace.
const NAMESPACE: &str = SYSTEM_NAMESPACE;
