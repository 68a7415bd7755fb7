//! The GatewayClasses of this mesh: made when the Gateway API is there, and made again when somebody deletes them. One that
//! exists is never changed: users may have written into it.

use std::collections::HashSet;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};
use tulle_api::contract::{CLASS_ISTIO, CLASS_WAYPOINT, CONTROLLER_GATEWAY, CONTROLLER_MESH};
use tulle_cluster::kube::api::DynamicObject;
use tulle_cluster::{Api, Change, Client};

use crate::limits::CLASS_RETRY;
use crate::status::GATEWAY_CLASS;

/// Name, controller, and what `kubectl describe` says, in 64 bytes at most.
const CLASSES: [(&str, &str, &str); 2] = [
    (
        CLASS_ISTIO,
        CONTROLLER_GATEWAY,
        "Gateways at the edge of the mesh, deployed by Tulle",
    ),
    (
        CLASS_WAYPOINT,
        CONTROLLER_MESH,
        "Waypoints: layer 7 inside of the mesh, deployed by Tulle",
    ),
];

/// Keeps them, while `leads` says so.
pub(crate) async fn keep(client: Client, mut leads: watch::Receiver<bool>) {
    while leads.wait_for(|leads| *leads).await.is_ok() {
        tokio::select! {
            () = follow(&client) => {}
            _ = leads.wait_for(|leads| !*leads) => {}
        }
    }
}

async fn follow(client: &Client) {
    let kind = GATEWAY_CLASS;
    let mut changes = tulle_cluster::watch_kind(client.clone(), &kind.resource(), kind.versions);
    let mut present: HashSet<&'static str> = HashSet::new();
    let mut synced = false;
    let mut failed = false;
    loop {
        tokio::select! {
            Some(change) = changes.next() => match change {
                Change::Upsert(object) => {
                    let name = object.metadata.name.unwrap_or_default();
                    present.extend(known(&name));
                }
                Change::Remove(key) => {
                    if let Some(name) = known(&key.name) {
                        present.remove(name);
                    }
                }
                Change::Synced => synced = true,
            },
            () = sleep(CLASS_RETRY), if failed => {}
        }
        if synced && present.len() < CLASSES.len() {
            failed = !make(client, &mut present).await;
        }
    }
}

fn known(name: &str) -> Option<&'static str> {
    let mut names = CLASSES.iter().map(|(known, ..)| *known);
    names.find(|known| *known == name)
}

/// Makes those that are missing. `false`: to be tried again; without the Gateway API there is nothing to make.
async fn make(client: &Client, present: &mut HashSet<&'static str>) -> bool {
    let kind = GATEWAY_CLASS;
    let served = tulle_cluster::served_version(client, &kind.resource(), kind.versions).await;
    if matches!(served, Ok(None)) {
        return true;
    }
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
    for (name, controller, description) in CLASSES {
        if present.contains(name) {
            continue;
        }
        let object = class(name, controller, description);
        let object: DynamicObject = match serde_json::from_value(object) {
            Ok(object) => object,
            Err(error) => {
                warn!(name, "GatewayClass: {error}");
                return true;
            }
        };
        match tulle_cluster::create(&api, &object).await {
            Ok(_) => info!(name, "made the GatewayClass"),
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                warn!(name, "GatewayClass not made: {error}");
                return false;
            }
        }
        present.insert(name);
    }
    true
}

fn class(name: &str, controller: &str, description: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/managed-by": "tulle" } },
        "spec": { "controllerName": controller, "description": description },
    })
}

#[cfg(test)]
mod tests;
