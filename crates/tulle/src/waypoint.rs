//! `tulle waypoint …`: waypoints as Gateways of class `istio-waypoint`, with istioctl's names and words.

mod apply;
mod legacy;
mod list;
mod remove;
mod status;

use std::process::ExitCode;

use serde_json::{Value, json};
use tulle_api::contract::{
    CLASS_WAYPOINT, LABEL_REV, LABEL_WAYPOINT_FOR, PORT_HBONE, PROTOCOL_HBONE, USE_WAYPOINT_NONE,
};
use tulle_cluster::kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use tulle_cluster::{Api, Client};

use crate::cli::Global;
use crate::cli::waypoint::{TrafficType, WaypointArguments, WaypointCommand};
use crate::connect;
use crate::exit::Usage;
use crate::output::Terminal;

/// The name when none is given.
const DEFAULT_NAME: &str = "waypoint";

pub(crate) async fn waypoint(
    global: &Global,
    arguments: &WaypointArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        WaypointCommand::Generate(generate) => {
            legacy::refuse(&generate.legacy)?;
            let namespace = arguments.namespace.as_deref();
            let wanted = Wanted::new(
                &arguments.name,
                namespace,
                generate.traffic,
                generate.revision.as_deref(),
            )?;
            terminal.print(&serde_saphyr::to_string(&wanted.gateway())?)?;
        }
        WaypointCommand::Apply(apply) => {
            legacy::refuse(&apply.legacy)?;
            let target = Target::new(global, arguments).await?;
            let namespace = Some(target.namespace.as_str());
            let wanted = Wanted::new(
                &arguments.name,
                namespace,
                apply.traffic,
                apply.revision.as_deref(),
            )?;
            apply::apply(&target, &wanted, apply, terminal).await?;
        }
        WaypointCommand::Delete(delete) => {
            delete.check()?;
            let target = Target::new(global, arguments).await?;
            remove::delete(&target, delete, terminal).await?;
        }
        WaypointCommand::List(list) => {
            let target = Target::new(global, arguments).await?;
            list::list(&target, list, terminal).await?;
        }
        WaypointCommand::Status(status) => {
            let target = Target::new(global, arguments).await?;
            return status::status(&target, status, terminal).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The cluster and the namespace that are meant.
struct Target {
    client: Client,
    namespace: String,
}

impl Target {
    async fn new(global: &Global, arguments: &WaypointArguments) -> anyhow::Result<Self> {
        let client = connect(global).await?;
        let given = arguments.namespace.clone();
        let namespace = given.unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Self { client, namespace })
    }

    /// Gateways of the namespace, or of all of them.
    fn gateways(&self, all: bool) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
        let resource = ApiResource::from_gvk_with_plural(&kind, "gateways");
        if all {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        }
    }

    /// All waypoints of the namespace or of all, by namespace and name. Old forms are pointed out.
    async fn waypoints(
        &self,
        all: bool,
        labels: Option<&str>,
        terminal: &Terminal,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        let api = self.gateways(all);
        let mut gateways = tulle_cluster::list(&api, labels)
            .await
            .map_err(without_definitions)?;
        for gateway in &gateways {
            for hint in legacy::hints(gateway) {
                terminal.error_line(&hint);
            }
        }
        gateways.retain(is_waypoint);
        gateways.sort_by_key(|gateway| {
            let metadata = &gateway.metadata;
            (metadata.namespace.clone(), metadata.name.clone())
        });
        Ok(gateways)
    }
}

/// A waypoint as the user describes it.
struct Wanted<'a> {
    name: &'a str,
    namespace: Option<&'a str>,
    traffic: Option<TrafficType>,
    revision: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn new(
        name: &'a str,
        namespace: Option<&'a str>,
        traffic: Option<TrafficType>,
        revision: Option<&'a str>,
    ) -> Result<Self, Usage> {
        if name == USE_WAYPOINT_NONE {
            return Err(Usage(
                "invalid name provided for waypoint, 'none' is a reserved value".to_owned(),
            ));
        }
        Ok(Self {
            name: if name.is_empty() { DEFAULT_NAME } else { name },
            namespace,
            traffic,
            revision: revision.filter(|revision| !revision.is_empty()),
        })
    }

    /// The Gateway. A traffic type that is not given is left to the control plane.
    fn gateway(&self) -> Value {
        let mut metadata = json!({ "name": self.name });
        if let Some(namespace) = self.namespace {
            metadata["namespace"] = namespace.into();
        }
        if let Some(traffic) = self.traffic {
            metadata["labels"][LABEL_WAYPOINT_FOR] = traffic.as_str().into();
        }
        if let Some(revision) = self.revision {
            metadata["labels"][LABEL_REV] = revision.into();
        }
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": metadata,
            "spec": {
                "gatewayClassName": CLASS_WAYPOINT,
                "listeners": [{ "name": "mesh", "port": PORT_HBONE, "protocol": PROTOCOL_HBONE }],
            },
        })
    }
}

fn is_waypoint(gateway: &DynamicObject) -> bool {
    class(gateway) == CLASS_WAYPOINT
}

fn class(gateway: &DynamicObject) -> &str {
    gateway
        .data
        .pointer("/spec/gatewayClassName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn conditions(gateway: &DynamicObject) -> &[Value] {
    let list = gateway.data.pointer("/status/conditions");
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The condition that says whether a waypoint works.
fn programmed(gateway: &DynamicObject) -> Option<&Value> {
    conditions(gateway)
        .iter()
        .find(|condition| condition["type"] == "Programmed")
}

fn is_programmed(gateway: &DynamicObject) -> bool {
    programmed(gateway).is_some_and(|condition| condition["status"] == "True")
}

/// A cluster without the Gateway API has no waypoints, and says so in riddles.
fn without_definitions(error: tulle_cluster::Error) -> anyhow::Error {
    if error.is_not_found() {
        return anyhow::Error::new(error).context(
            "missing Kubernetes Gateway CRDs need to be installed first: kubectl apply -f \
             https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml",
        );
    }
    error.into()
}

#[cfg(test)]
mod tests;
