//! How the API server serves the kinds that show a status.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tulle_cluster::kube::api::{ApiResource, GroupVersionKind};
use tulle_cluster::{Client, Result};
use tulle_translate::ObjectKind;

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";

/// How the API server serves a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    /// Versions that will do, the best first.
    pub(crate) versions: &'static [&'static str],
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
}

const fn kind(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
) -> Kind {
    Kind {
        group,
        versions,
        kind,
        plural,
    }
}

/// Gateway.
pub(crate) const GATEWAY: Kind = kind(GATEWAY_API, "Gateway", "gateways", &["v1", "v1beta1"]);
/// GatewayClass.
pub(crate) const GATEWAY_CLASS: Kind = kind(
    GATEWAY_API,
    "GatewayClass",
    "gatewayclasses",
    &["v1", "v1beta1"],
);
/// ListenerSet.
pub(crate) const LISTENER_SET: Kind = kind(GATEWAY_API, "ListenerSet", "listenersets", &["v1"]);
/// HTTPRoute.
pub(crate) const HTTP_ROUTE: Kind =
    kind(GATEWAY_API, "HTTPRoute", "httproutes", &["v1", "v1beta1"]);
/// GRPCRoute.
pub(crate) const GRPC_ROUTE: Kind = kind(GATEWAY_API, "GRPCRoute", "grpcroutes", &["v1"]);
/// TCPRoute.
pub(crate) const TCP_ROUTE: Kind = kind(GATEWAY_API, "TCPRoute", "tcproutes", &["v1", "v1alpha2"]);
/// TLSRoute.
pub(crate) const TLS_ROUTE: Kind = kind(
    GATEWAY_API,
    "TLSRoute",
    "tlsroutes",
    &["v1", "v1alpha3", "v1alpha2"],
);
/// ReferenceGrant.
pub(crate) const REFERENCE_GRANT: Kind = kind(
    GATEWAY_API,
    "ReferenceGrant",
    "referencegrants",
    &["v1", "v1beta1"],
);
/// BackendTLSPolicy.
pub(crate) const BACKEND_TLS_POLICY: Kind = kind(
    GATEWAY_API,
    "BackendTLSPolicy",
    "backendtlspolicies",
    &["v1", "v1alpha3"],
);
/// VirtualService.
pub(crate) const VIRTUAL_SERVICE: Kind =
    kind(NETWORKING, "VirtualService", "virtualservices", &["v1"]);
/// DestinationRule.
pub(crate) const DESTINATION_RULE: Kind =
    kind(NETWORKING, "DestinationRule", "destinationrules", &["v1"]);
/// Istio's own Gateway.
pub(crate) const ISTIO_GATEWAY: Kind = kind(NETWORKING, "Gateway", "gateways", &["v1"]);
/// ServiceEntry.
pub(crate) const SERVICE_ENTRY: Kind = kind(NETWORKING, "ServiceEntry", "serviceentries", &["v1"]);
/// WorkloadEntry.
pub(crate) const WORKLOAD_ENTRY: Kind =
    kind(NETWORKING, "WorkloadEntry", "workloadentries", &["v1"]);
/// AuthorizationPolicy.
pub(crate) const AUTHORIZATION_POLICY: Kind = kind(
    SECURITY,
    "AuthorizationPolicy",
    "authorizationpolicies",
    &["v1"],
);
/// PeerAuthentication.
pub(crate) const PEER_AUTHENTICATION: Kind = kind(
    SECURITY,
    "PeerAuthentication",
    "peerauthentications",
    &["v1"],
);
/// RequestAuthentication.
pub(crate) const REQUEST_AUTHENTICATION: Kind = kind(
    SECURITY,
    "RequestAuthentication",
    "requestauthentications",
    &["v1"],
);
/// Telemetry.
pub(crate) const TELEMETRY: Kind = kind("telemetry.istio.io", "Telemetry", "telemetries", &["v1"]);
/// Our own rate limits.
pub(crate) const RATE_LIMIT_POLICY: Kind = kind(
    "policy.tulle.mesh",
    "RateLimitPolicy",
    "ratelimitpolicies",
    &["v1alpha1"],
);
const SERVICE: Kind = kind("", "Service", "services", &["v1"]);

impl From<ObjectKind> for Kind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::AuthorizationPolicy => AUTHORIZATION_POLICY,
            ObjectKind::PeerAuthentication => PEER_AUTHENTICATION,
            ObjectKind::Service => SERVICE,
            ObjectKind::ServiceEntry => SERVICE_ENTRY,
            ObjectKind::WorkloadEntry => WORKLOAD_ENTRY,
            ObjectKind::VirtualService => VIRTUAL_SERVICE,
            ObjectKind::DestinationRule => DESTINATION_RULE,
            ObjectKind::RequestAuthentication => REQUEST_AUTHENTICATION,
            ObjectKind::Telemetry => TELEMETRY,
            ObjectKind::RateLimitPolicy => RATE_LIMIT_POLICY,
            ObjectKind::IstioGateway => ISTIO_GATEWAY,
            ObjectKind::GatewayClass => GATEWAY_CLASS,
            ObjectKind::Gateway => GATEWAY,
            ObjectKind::ListenerSet => LISTENER_SET,
            ObjectKind::HttpRoute => HTTP_ROUTE,
            ObjectKind::GrpcRoute => GRPC_ROUTE,
            ObjectKind::TcpRoute => TCP_ROUTE,
            ObjectKind::TlsRoute => TLS_ROUTE,
            ObjectKind::BackendTlsPolicy => BACKEND_TLS_POLICY,
        }
    }
}

impl Kind {
    /// Its status is one of the Gateway API's, and not a list of conditions alone.
    pub(crate) fn has_gateway_status(self) -> bool {
        self.group == GATEWAY_API
    }

    /// In its best version.
    pub(crate) fn resource(self) -> ApiResource {
        self.at(self.versions.first().copied().unwrap_or("v1"))
    }

    fn at(self, version: &str) -> ApiResource {
        let kind = GroupVersionKind::gvk(self.group, version, self.kind);
        ApiResource::from_gvk_with_plural(&kind, self.plural)
    }
}

/// In which versions this cluster serves the kinds that may come in several; asked once, and again after trouble.
#[derive(Default)]
pub(super) struct Served(Mutex<HashMap<Kind, &'static str>>);

impl Served {
    /// The kind as this cluster serves it; `None` when it does not.
    pub(super) async fn resource(
        &self,
        client: &Client,
        kind: Kind,
    ) -> Result<Option<ApiResource>> {
        if kind.versions.len() < 2 {
            return Ok(Some(kind.resource()));
        }
        if let Some(version) = self.lock().get(&kind) {
            return Ok(Some(kind.at(version)));
        }
        let version =
            tulle_cluster::served_version(client, &kind.resource(), kind.versions).await?;
        let Some(version) = version else {
            return Ok(None);
        };
        self.lock().insert(kind, version);
        Ok(Some(kind.at(version)))
    }

    /// The definition may have changed.
    pub(super) fn forget(&self, kind: Kind) {
        self.lock().remove(&kind);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Kind, &'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
