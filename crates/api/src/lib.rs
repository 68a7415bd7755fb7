//! Kubernetes, Istio and Gateway API resources, and the names of the contract.

pub mod contract;
pub mod mesh;
pub mod networking;
pub mod security;
pub mod selector;
pub mod status;

pub use k8s_openapi;
