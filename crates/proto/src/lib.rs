//! Wire messages, generated at build time, and their conversions to the model.
//!
//! The `.proto` files are our own words for field names and numbers that the wire fixes; each says whose they are.
//! Decoding never trusts the sender: a resource that cannot be understood is an error that names it, and a policy that
//! is understood only in part fails closed (see [`decode_authorization`]).

mod address;
mod authorization;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod json;
mod limits;
mod scan;
mod to_wire;

pub use address::{AddressItem, decode_address};
pub use authorization::decode_authorization;
pub use error::DecodeError;
pub use json::{
    AUTHENTICATION_TYPE, CERTIFICATE_TYPE, DESTINATION_TYPE, GATEWAY_TYPE, HTTP_POLICY_TYPE,
    HTTP_ROUTE_TYPE, L7_TYPES, PROXY_SETTINGS_TYPE, RATE_LIMIT_TYPE, STREAM_ROUTE_TYPE,
    TELEMETRY_TYPE,
};
pub use to_wire::{encode_policy, encode_service, encode_workload};

/// Istio's workload discovery: `istio.workload`.
pub mod workload {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("istio.workload");
    /// Node agent to node proxy: `istio.workload.zds`.
    pub mod zds {
        #![allow(missing_docs, unreachable_pub, clippy::all)]
        tonic::include_proto!("istio.workload.zds");
    }
}

/// L4 authorization: `istio.security`.
pub mod security {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("istio.security");
}

/// The certificate service: `istio.v1.auth`.
pub mod ca {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("istio.v1.auth");
}

/// Delta discovery: `envoy.service.discovery.v3`.
pub mod discovery {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("envoy.service.discovery.v3");
}

/// Type URL of workloads and services.
pub const ADDRESS_TYPE: &str = "type.googleapis.com/istio.workload.Address";
/// Type URL of L4 authorization policies.
pub const AUTHORIZATION_TYPE: &str = "type.googleapis.com/istio.security.Authorization";

#[cfg(test)]
mod tests;
