//! What is watched.

/// A kind of objects that the mesh is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Pods,
    Services,
    Slices,
    Namespaces,
    Nodes,
    MeshConfig,
    Secrets,
    ConfigMaps,
    AuthorizationPolicies,
    PeerAuthentications,
    RequestAuthentications,
    ServiceEntries,
    WorkloadEntries,
    VirtualServices,
    DestinationRules,
    IstioGateways,
    Telemetries,
    RateLimitPolicies,
    GatewayClasses,
    Gateways,
    ListenerSets,
    HttpRoutes,
    GrpcRoutes,
    TcpRoutes,
    TlsRoutes,
    ReferenceGrants,
    BackendTlsPolicies,
}

/// How many there are; all must be synced before anything is published.
pub(crate) const SOURCES: u32 = 27;

impl Source {
    /// As istiod's metrics label it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pods => "Pods",
            Self::Services => "Services",
            Self::Slices => "EndpointSlice",
            Self::Namespaces => "Namespaces",
            Self::Nodes => "Nodes",
            Self::MeshConfig => "MeshConfig",
            Self::Secrets => "Secrets",
            Self::ConfigMaps => "ConfigMaps",
            Self::AuthorizationPolicies => "AuthorizationPolicy",
            Self::PeerAuthentications => "PeerAuthentication",
            Self::RequestAuthentications => "RequestAuthentication",
            Self::ServiceEntries => "ServiceEntry",
            Self::WorkloadEntries => "WorkloadEntry",
            Self::VirtualServices => "VirtualService",
            Self::DestinationRules => "DestinationRule",
            Self::IstioGateways => "Gateway",
            Self::Telemetries => "Telemetry",
            Self::RateLimitPolicies => "RateLimitPolicy",
            Self::GatewayClasses => "GatewayClass",
            Self::Gateways => "KubernetesGateway",
            Self::ListenerSets => "ListenerSet",
            Self::HttpRoutes => "HTTPRoute",
            Self::GrpcRoutes => "GRPCRoute",
            Self::TcpRoutes => "TCPRoute",
            Self::TlsRoutes => "TLSRoute",
            Self::ReferenceGrants => "ReferenceGrant",
            Self::BackendTlsPolicies => "BackendTLSPolicy",
        }
    }
}
