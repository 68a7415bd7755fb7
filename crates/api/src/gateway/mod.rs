//! The Gateway API: gateways, classes, listener sets, routes, grants and policies, version 1.6, experimental fields included.
//!
//! Values that a newer version may add are texts here, so that one odd value is refused where it stands instead of hiding the
//! whole object. Fields that are not listed have no meaning to this mesh.

mod policy;
mod route;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

pub use policy::{
    BackendTlsPolicySpec, BackendTlsValidation, GrantFrom, GrantTo, PolicyTarget,
    ReferenceGrantSpec, SubjectAltName,
};
pub use route::{
    BackendRef, CorsFilter, ExternalAuth, Fraction, GrpcBackendRef, GrpcFilter, GrpcMatch,
    GrpcMethodMatch, GrpcRouteSpec, GrpcRule, HeaderFilter, HeaderMatch, HeaderValue,
    HttpBackendRef, HttpFilter, HttpMatch, HttpRouteSpec, HttpRule, MirrorFilter, ObjectRefTo,
    ParentReference, PathMatch, PathModifier, RedirectFilter, RetryPolicy, RewriteFilter,
    RouteTimeouts, StreamRouteRule, StreamRouteSpec,
};

/// API group of the Gateway API.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// An object: metadata and the part that users write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Object<S, T = NoStatus> {
    /// Names, labels, generation.
    pub metadata: ObjectMeta,
    /// What users want.
    pub spec: S,
    /// What was found out, as far as it is read here.
    #[serde(default)]
    pub status: Option<T>,
}

/// The status is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoStatus {}

/// A Gateway. Of its status, addresses count: a waypoint that was ready once stays one.
pub type Gateway = Object<GatewaySpec, GatewayStatus>;
/// A GatewayClass.
pub type GatewayClass = Object<GatewayClassSpec>;
/// A ListenerSet.
pub type ListenerSet = Object<ListenerSetSpec>;
/// An HTTPRoute.
pub type HttpRoute = Object<HttpRouteSpec>;
/// A GRPCRoute.
pub type GrpcRoute = Object<GrpcRouteSpec>;
/// A TCPRoute.
pub type TcpRoute = Object<StreamRouteSpec>;
/// A TLSRoute.
pub type TlsRoute = Object<StreamRouteSpec>;
/// A ReferenceGrant.
pub type ReferenceGrant = Object<ReferenceGrantSpec>;
/// A BackendTLSPolicy.
pub type BackendTlsPolicy = Object<BackendTlsPolicySpec>;

/// A struct whose fields may be left out.
macro_rules! part {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        #[expect(missing_docs, reason = "the fields are the Gateway API's, explained in its reference")]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(default, skip_serializing_if = "crate::shape::absent")]
                pub $field: $type,
            )*
        }
    };
}
pub(crate) use part;

part!(
    /// What a Gateway listens on.
    GatewaySpec {
        gateway_class_name: String,
        listeners: Vec<Listener>,
        addresses: Vec<Address>,
        infrastructure: Option<Infrastructure>,
        allowed_listeners: Option<AllowedListeners>,
        tls: Option<GatewayTls>,
        default_scope: String,
    }
);

part!(
    /// What of a Gateway's status is read.
    GatewayStatus {
        addresses: Vec<Address>,
    }
);

part!(
    /// Of which controller a class is.
    GatewayClassSpec {
        controller_name: String,
        parameters_ref: Option<ParametersRef>,
    }
);

part!(
    /// Listeners that are added to a Gateway.
    ListenerSetSpec {
        parent_ref: ParentGatewayRef,
        listeners: Vec<Listener>,
    }
);

part!(
    /// The Gateway of a ListenerSet.
    ParentGatewayRef {
        group: Option<String>,
        kind: Option<String>,
        name: String,
        namespace: Option<String>,
    }
);

part!(
    /// A port, a protocol, and perhaps a host.
    Listener {
        name: String,
        hostname: Option<String>,
        port: i64,
        protocol: String,
        tls: Option<ListenerTls>,
        allowed_routes: Option<AllowedRoutes>,
    }
);

part!(
    /// How a listener treats TLS.
    ListenerTls {
        mode: Option<String>,
        certificate_refs: Vec<ObjectRefTo>,
        options: BTreeMap<String, String>,
    }
);

part!(
    /// Which routes may attach.
    AllowedRoutes {
        namespaces: Option<FromNamespaces>,
        kinds: Vec<RouteKind>,
    }
);

part!(
    /// Which ListenerSets may attach.
    AllowedListeners {
        namespaces: Option<FromNamespaces>,
    }
);

part!(
    /// Namespaces: `All`, `Same`, `None`, or `Selector`.
    FromNamespaces {
        from: Option<String>,
        selector: Option<LabelSelector>,
    }
);

part!(
    /// A kind of routes.
    RouteKind {
        group: Option<String>,
        kind: String,
    }
);

part!(
    /// An address, asked for or given.
    Address {
        #[serde(rename = "type")]
        type_: Option<String>,
        value: String,
    }
);

part!(
    /// What the objects made for a Gateway look like.
    Infrastructure {
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        parameters_ref: Option<ParametersRef>,
    }
);

part!(
    /// An object with settings.
    ParametersRef {
        group: String,
        kind: String,
        name: String,
        namespace: Option<String>,
    }
);

part!(
    /// TLS towards backends and clients.
    GatewayTls {
        backend: Option<GatewayBackendTls>,
        frontend: Option<FrontendTls>,
    }
);

part!(
    /// What the gateway presents to backends.
    GatewayBackendTls {
        client_certificate_ref: Option<ObjectRefTo>,
    }
);

part!(
    /// What clients must present.
    FrontendTls {
        default: FrontendTlsConfig,
        per_port: Vec<FrontendTlsPort>,
    }
);

part!(
    /// The same for one port.
    FrontendTlsPort {
        port: i64,
        tls: FrontendTlsConfig,
    }
);

part!(
    /// Whether client certificates are validated.
    FrontendTlsConfig {
        validation: Option<FrontendValidation>,
    }
);

part!(
    /// How client certificates are validated.
    FrontendValidation {
        #[serde(rename = "caCertificateRefs")]
        ca_certificate_refs: Vec<ObjectRefTo>,
        mode: Option<String>,
    }
);
