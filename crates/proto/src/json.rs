//! Resources that only our own control plane and our own proxies say to each other: JSON in the body of a discovery
//! resource.
//!
//! Unknown fields and variants are refused by the types themselves (`deny_unknown_fields`): what a proxy does not
//! understand it must not ignore. The error names the path of what does not fit.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::DecodeError;
use crate::limits::{MAX_JSON, SHOWN};

/// Type URL of gateways and waypoints: their listeners.
pub const GATEWAY_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.Gateway";
/// Type URL of certificates with their keys; only for proxies whose Gateway or DestinationRule names them.
pub const CERTIFICATE_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.Certificate";
/// Type URL of routes of requests.
pub const HTTP_ROUTE_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.HttpRoute";
/// Type URL of routes of connections.
pub const STREAM_ROUTE_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.StreamRoute";
/// Type URL of how a service's endpoints are chosen and spoken to.
pub const DESTINATION_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.DestinationPolicy";
/// Type URL of authorization of requests.
pub const HTTP_POLICY_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.HttpPolicy";
/// Type URL of authentication of requests (JWT).
pub const AUTHENTICATION_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.Authentication";
/// Type URL of rate limits.
pub const RATE_LIMIT_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.RateLimit";
/// Type URL of what is measured, logged and traced.
pub const TELEMETRY_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.Telemetry";
/// Type URL of what holds for every L7 proxy of the mesh: trust domains, extension providers, path normalisation.
pub const PROXY_SETTINGS_TYPE: &str = "type.googleapis.com/tulle.mesh.v1.ProxySettings";

/// All types whose resources have an audience, in the order in which a proxy asks for them and is sent them: what is
/// named before what names it. A listener comes last, when everything that it needs is known.
pub const L7_TYPES: [&str; 10] = [
    PROXY_SETTINGS_TYPE,
    HTTP_POLICY_TYPE,
    AUTHENTICATION_TYPE,
    RATE_LIMIT_TYPE,
    TELEMETRY_TYPE,
    CERTIFICATE_TYPE,
    DESTINATION_TYPE,
    HTTP_ROUTE_TYPE,
    STREAM_ROUTE_TYPE,
    GATEWAY_TYPE,
];

/// The body of a resource. Values that JSON cannot hold (a map whose keys are no texts) are a fault of the type, which its
/// own tests show; the error says so.
///
/// # Errors
/// If the value cannot be written as JSON.
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, EncodeError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|why| EncodeError(why.to_string()))
}

/// A resource from its body.
///
/// # Errors
/// If the body is too long, no JSON, or not exactly of this type: nothing unknown is passed over.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let malformed = |why: String| DecodeError::Malformed {
        message: short_name::<T>(),
        why: why.chars().take(4 * SHOWN).collect(),
    };
    if body.len() > MAX_JSON {
        return Err(malformed(format!(
            "{} bytes, at most {MAX_JSON} are read",
            body.len()
        )));
    }
    serde_json::from_slice(body).map_err(|why| malformed(why.to_string()))
}

/// A value that JSON cannot hold: our own fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be written as JSON: {0}")]
pub struct EncodeError(String);

/// `HttpRoute` of `tulle_route::resource::http::HttpRoute`.
fn short_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    let end = full.find('<').unwrap_or(full.len());
    let head = &full[..end];
    let name = head.rsplit("::").next().unwrap_or(head);
    // A slice of a text that lives as long as the program.
    full.get(head.len() - name.len()..end).unwrap_or(full)
}

#[cfg(test)]
mod tests;
