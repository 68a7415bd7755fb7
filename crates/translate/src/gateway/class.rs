//! GatewayClasses: whether they are ours, and what can be done with them.

use std::sync::Arc;

use super::status::{GatewayClassStatus, Status};
use super::{Class, condition};
use crate::cluster::{Cluster, Key, Outputs, Value};
use crate::condition::{ObjectKind, ObjectRef};

/// What gateways can do, by the Gateway API's names. Only features whose tests of the conformance suite pass (docs/gateway-api.md).
const GATEWAY_FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteRequestHeaderModifier",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructurePropagation",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendRequestRedirect",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
];

/// What waypoints can do: likewise.
const MESH_FEATURES: &[&str] = &[
    "GRPCRoute",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
];

impl Cluster {
    /// Status of a class of ours.
    pub(super) fn class_status(&self, name: &Arc<str>) -> Option<Outputs> {
        let facts = self.gateway.classes.get(name)?;
        let class = self.class_of(name)?;
        let fine = ("Accepted", "Handled by Istio controller");
        let status = Status::GatewayClass(GatewayClassStatus {
            conditions: vec![condition("Accepted", None, fine, facts.generation)],
            supported_features: match class {
                Class::Gateway => GATEWAY_FEATURES.to_vec(),
                Class::Waypoint => MESH_FEATURES.to_vec(),
            },
        });
        let object = ObjectRef {
            kind: ObjectKind::GatewayClass,
            namespace: Arc::default(),
            name: name.clone(),
        };
        Some(vec![(Key::Status(object), Value::Status(status))])
    }
}
