//! Objects for waypoints and gateways, on their way into the cluster's facts.
//!
//! One that cannot be read changes nothing: what was known of it stays in force, and the log says so.

use serde::de::DeserializeOwned;
use tracing::warn;
use tulle_api::gateway as gateway_api;
use tulle_api::k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tulle_api::{networking, rate_limit, security, telemetry};
use tulle_cluster::Key;
use tulle_cluster::kube::api::DynamicObject;
use tulle_translate::{Cluster, ObjectKind};

use super::{Source, Translation};
use crate::typed;

/// A method that takes an object in, one that takes it out, and the kind whose status is forgotten with it.
macro_rules! kinds {
    ($($(#[$doc:meta])* $method:ident: $object:ty = $source:ident, $upsert:ident, $remove:ident, $kind:expr;)*) => {
        impl Translation {
            $(
                $(#[$doc])*
                pub(crate) fn $method(&mut self, change: Result<DynamicObject, Key>) {
                    self.take_in::<$object>(
                        Source::$source,
                        change,
                        |cluster, object| cluster.$upsert(object),
                        |cluster, key| cluster.$remove(&key.namespace, &key.name),
                        $kind,
                    );
                }
            )*
        }
    };
}

kinds! {
    gateway: gateway_api::Gateway =
        Gateways, upsert_gateway, remove_gateway, Some(ObjectKind::Gateway);
    listener_set: gateway_api::ListenerSet =
        ListenerSets, upsert_listener_set, remove_listener_set, Some(ObjectKind::ListenerSet);
    http_route: gateway_api::HttpRoute =
        HttpRoutes, upsert_http_route, remove_http_route, Some(ObjectKind::HttpRoute);
    grpc_route: gateway_api::GrpcRoute =
        GrpcRoutes, upsert_grpc_route, remove_grpc_route, Some(ObjectKind::GrpcRoute);
    tcp_route: gateway_api::TcpRoute =
        TcpRoutes, upsert_tcp_route, remove_tcp_route, Some(ObjectKind::TcpRoute);
    tls_route: gateway_api::TlsRoute =
        TlsRoutes, upsert_tls_route, remove_tls_route, Some(ObjectKind::TlsRoute);
    reference_grant: gateway_api::ReferenceGrant =
        ReferenceGrants, upsert_reference_grant, remove_reference_grant, None;
    backend_tls_policy: gateway_api::BackendTlsPolicy =
        BackendTlsPolicies, upsert_backend_tls_policy, remove_backend_tls_policy,
        Some(ObjectKind::BackendTlsPolicy);
    virtual_service: networking::VirtualService =
        VirtualServices, upsert_virtual_service, remove_virtual_service,
        Some(ObjectKind::VirtualService);
    destination_rule: networking::DestinationRule =
        DestinationRules, upsert_destination_rule, remove_destination_rule,
        Some(ObjectKind::DestinationRule);
    istio_gateway: networking::Gateway =
        IstioGateways, upsert_istio_gateway, remove_istio_gateway, Some(ObjectKind::IstioGateway);
    request_authentication: security::RequestAuthentication =
        RequestAuthentications, upsert_request_authentication, remove_request_authentication,
        Some(ObjectKind::RequestAuthentication);
    telemetry: telemetry::Telemetry =
        Telemetries, upsert_telemetry, remove_telemetry, Some(ObjectKind::Telemetry);
    rate_limit_policy: rate_limit::RateLimitPolicy =
        RateLimitPolicies, upsert_rate_limit_policy, remove_rate_limit_policy,
        Some(ObjectKind::RateLimitPolicy);
}

impl Translation {
    pub(crate) fn gateway_class(&mut self, change: Result<DynamicObject, Key>) {
        self.take_in::<gateway_api::GatewayClass>(
            Source::GatewayClasses,
            change,
            |cluster, object| cluster.upsert_gateway_class(object),
            |cluster, key| cluster.remove_gateway_class(&key.name),
            Some(ObjectKind::GatewayClass),
        );
    }

    pub(crate) fn secret(&mut self, change: Result<Secret, Key>) {
        match change {
            Ok(secret) => self.cluster.upsert_secret(&secret),
            Err(key) => self.cluster.remove_secret(&key.namespace, &key.name),
        }
    }

    pub(crate) fn config_map(&mut self, change: Result<ConfigMap, Key>) {
        self.deployments.config_map(&change);
        match change {
            Ok(map) => self.cluster.upsert_config_map(&map),
            Err(key) => self.cluster.remove_config_map(&key.namespace, &key.name),
        }
    }

    fn take_in<K: DeserializeOwned>(
        &mut self,
        source: Source,
        change: Result<DynamicObject, Key>,
        upsert: impl FnOnce(&mut Cluster, &K),
        remove: impl FnOnce(&mut Cluster, &Key),
        kind: Option<ObjectKind>,
    ) {
        match change {
            Ok(object) => {
                let key = Key::of(&object);
                if let Some(kind) = kind {
                    self.seen(kind, &key, &object);
                }
                match typed::with_status(object) {
                    Ok(object) => upsert(&mut self.cluster, &object),
                    Err(why) => {
                        self.metrics.rejected_configs.with(&[source.name()]).inc();
                        warn!(kind = source.name(), object = %key, "not usable, what was known of it stays: {why}");
                    }
                }
            }
            Err(key) => {
                remove(&mut self.cluster, &key);
                if let Some(kind) = kind {
                    self.forget(kind, key);
                }
            }
        }
    }
}
