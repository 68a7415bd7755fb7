//! Kubernetes, Istio and Gateway API resources, and the names of the contract.

pub mod contract;
mod crds;
pub mod extensions;
pub mod gateway;
pub mod mesh;
pub mod networking;
pub mod rate_limit;
pub mod security;
pub mod selector;
mod shape;
pub mod status;
pub mod telemetry;

pub use crds::crds;
pub use k8s_openapi;
pub use shape::{Duration, FreeForm};

#[cfg(test)]
mod tests;
