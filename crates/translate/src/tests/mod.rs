//! Tests of this crate.

mod authorization;
mod gateway;
mod gateway_objects;
mod incremental;
mod listener_sets;
mod networking;
mod objects;
mod peer;
mod pod;
mod routes;
mod scale;
mod service;
mod waypoint;
mod world;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A resource from JSON.
fn from<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}
