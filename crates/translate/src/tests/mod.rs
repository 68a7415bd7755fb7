//! Tests of this crate.

mod authorization;
mod incremental;
mod objects;
mod peer;
mod pod;
mod scale;
mod service;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A resource from JSON.
fn from<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}
