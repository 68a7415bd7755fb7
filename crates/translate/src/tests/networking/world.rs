//! A small Bookinfo with a waypoint and a gateway that a user made.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Cluster, Settings};

/// Namespaces, services, pods, a ready waypoint of `default`, and an ingress gateway in `istio-system`.
const BOOKINFO: &str = r#"
kind: Namespace
metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}
---
kind: Namespace
metadata: {name: istio-system}
---
kind: Namespace
metadata: {name: other}
---
kind: GatewayClass
metadata: {name: istio-waypoint}
spec: {controllerName: istio.io/mesh-controller}
---
kind: KubernetesGateway
metadata: {name: waypoint, namespace: default, generation: 1, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status:
  addresses: [{type: IPAddress, value: 10.96.0.99}]
---
kind: Service
metadata: {name: reviews, namespace: default}
spec: {clusterIP: 10.96.0.1, selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
kind: Service
metadata: {name: ratings, namespace: default}
spec: {clusterIP: 10.96.0.2, selector: {app: ratings}, ports: [{name: http, port: 9080}]}
---
kind: Service
metadata: {name: productpage, namespace: default}
spec: {clusterIP: 10.96.0.3, selector: {app: productpage}, ports: [{name: http, port: 9080}]}
---
kind: Service
metadata: {name: tcp-echo, namespace: default}
spec: {clusterIP: 10.96.0.4, selector: {app: tcp-echo}, ports: [{name: tcp, port: 9000}, {name: tcp-other, port: 9001}]}
---
kind: Service
metadata: {name: httpbin, namespace: other}
spec: {clusterIP: 10.96.0.5, selector: {app: httpbin}, ports: [{name: http, port: 8000}]}
---
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  clusterIP: 10.96.0.6
  selector: {istio: ingressgateway}
  ports: [{name: http2, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: 8443}, {name: tcp, port: 31400}]
---
kind: Pod
metadata: {name: reviews-v1-0-0, namespace: default, labels: {app: reviews, version: v1}}
---
kind: Pod
metadata: {name: reviews-v2-0-0, namespace: default, labels: {app: reviews, version: v2}}
---
kind: Pod
metadata: {name: reviews-v3-0-0, namespace: default, labels: {app: reviews, version: v3}}
---
kind: Pod
metadata: {name: ratings-v1-0-0, namespace: default, labels: {app: ratings, version: v1}}
---
kind: Pod
metadata:
  name: istio-ingressgateway-5d4-x
  generateName: istio-ingressgateway-5d4-
  namespace: istio-system
  labels: {app: istio-ingressgateway, istio: ingressgateway, pod-template-hash: 5d4}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: istio-ingressgateway-5d4, uid: u, controller: true}]
"#;

pub(super) fn bookinfo() -> Cluster {
    let mut cluster = Cluster::new(Settings::default());
    apply(&mut cluster, BOOKINFO);
    cluster.take_changes();
    cluster
}

/// Tells a cluster of manifests, as `kubectl apply` would.
pub(super) fn apply(cluster: &mut Cluster, manifests: &str) {
    for (at, text) in manifests.split("\n---").enumerate() {
        let mut object: Value =
            serde_saphyr::from_str(text).unwrap_or_else(|why| panic!("manifest {at}: {why}"));
        if object.is_null() {
            continue;
        }
        let metadata = &mut object["metadata"];
        if metadata["namespace"].is_null() {
            metadata["namespace"] = "default".into();
        }
        if metadata["generation"].is_null() {
            metadata["generation"] = 1.into();
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = "2025-01-01T00:00:00Z".into();
        }
        one(cluster, object);
    }
}

fn one(cluster: &mut Cluster, mut object: Value) {
    let kind = object["kind"].as_str().unwrap().to_owned();
    match kind.as_str() {
        "Namespace" => cluster.upsert_namespace(&typed(object)),
        "Pod" => {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let sum = name
                .bytes()
                .fold(0u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
            object["spec"] =
                serde_json::json!({"nodeName": "n", "serviceAccountName": "sa", "containers": []});
            object["status"] = serde_json::json!({
                "podIP": format!("10.0.{}.{}", sum / 251 % 251, sum % 251),
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
            });
            cluster.upsert_pod(&typed(object));
        }
        "Service" => cluster.upsert_service(&typed(object)),
        "Secret" => cluster.upsert_secret(&typed(object)),
        "GatewayClass" => cluster.upsert_gateway_class(&typed(object)),
        "KubernetesGateway" => {
            object["apiVersion"] = "gateway.networking.k8s.io/v1".into();
            object["kind"] = "Gateway".into();
            cluster.upsert_gateway(&typed(object));
        }
        "Gateway" => cluster.upsert_istio_gateway(&typed(object)),
        "VirtualService" => cluster.upsert_virtual_service(&typed(object)),
        "DestinationRule" => cluster.upsert_destination_rule(&typed(object)),
        "ServiceEntry" => cluster.upsert_service_entry(&typed(object)),
        "WorkloadEntry" => cluster.upsert_workload_entry(&typed(object)),
        "AuthorizationPolicy" => cluster.upsert_authorization_policy(&typed(object)),
        "RequestAuthentication" => cluster.upsert_request_authentication(&typed(object)),
        "Telemetry" => cluster.upsert_telemetry(&typed(object)),
        "RateLimitPolicy" => cluster.upsert_rate_limit_policy(&typed(object)),
        other => panic!("{other} is not told here"),
    }
}

fn typed<T: DeserializeOwned>(mut object: Value) -> T {
    let kind = object["kind"].as_str().unwrap().to_owned();
    if object["apiVersion"].is_null() {
        let version = match kind.as_str() {
            "Gateway" | "VirtualService" | "DestinationRule" | "ServiceEntry" | "WorkloadEntry" => {
                "networking.istio.io/v1"
            }
            "AuthorizationPolicy" | "RequestAuthentication" => "security.istio.io/v1",
            "Telemetry" => "telemetry.istio.io/v1",
            "RateLimitPolicy" => "policy.tulle.mesh/v1alpha1",
            "GatewayClass" => "gateway.networking.k8s.io/v1",
            _ => "v1",
        };
        object["apiVersion"] = version.into();
    }
    serde_json::from_value(object).unwrap_or_else(|why| panic!("{kind}: {why}"))
}
