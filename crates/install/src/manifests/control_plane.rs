//! The control plane: Deployment, Service and mesh configuration.

use serde_json::{Map, Value};
use tulle_api::contract::{
    CONFIGMAP_MESH, CONTROL_PLANE, CONTROL_PLANE_CONTAINER, MESH_KEY, PORT_CONTROL_PLANE_METRICS,
    PORT_DEBUG, PORT_WEBHOOK, PORT_XDS, PORT_XDS_PLAIN, SYSTEM_NAMESPACE,
};
use tulle_api::k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use tulle_api::k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
    SecurityContext, Service, ServicePort, ServiceSpec, Toleration,
};
use tulle_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata::{ISTIOD, table};
use super::pod::{Environment, container, port, pull_secrets, readiness};
use super::proxies::template;
use crate::values::{SetError, Values};

/// The user and group that the control plane runs as; Istio's number.
const USER: i64 = 1337;

/// ConfigMap `istio`: the mesh configuration, as YAML under the key `mesh`.
pub(super) fn mesh_config(values: &Values) -> Result<ConfigMap, SetError> {
    let mut mesh = Map::new();
    mesh.insert("trustDomain".to_owned(), values.trust_domain().into());
    mesh.insert("rootNamespace".to_owned(), SYSTEM_NAMESPACE.into());
    // Waypoints and gateways log requests, as node proxies log connections; an empty text turns it off.
    mesh.insert("accessLogFile".to_owned(), "/dev/stdout".into());
    mesh.extend(values.mesh_config.clone());
    let yaml = serde_saphyr::to_string(&Value::Object(mesh))
        .map_err(|error| SetError::Misfit(error.to_string()))?;
    Ok(ConfigMap {
        metadata: ISTIOD.metadata(CONFIGMAP_MESH),
        data: Some(
            [
                (MESH_KEY.to_owned(), yaml),
                ("meshNetworks".to_owned(), "networks: {}\n".to_owned()),
            ]
            .into(),
        ),
        ..Default::default()
    })
}

/// Service `istiod`.
pub(super) fn service() -> Service {
    let port = |name: &str, port: u16, target: u16| ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::Int(target.into())),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    Service {
        metadata: ISTIOD.metadata(CONTROL_PLANE),
        spec: Some(ServiceSpec {
            selector: Some(table(ISTIOD.selector.iter().copied())),
            ports: Some(vec![
                port("grpc-xds", PORT_XDS_PLAIN, PORT_XDS_PLAIN),
                port("https-dns", PORT_XDS, PORT_XDS),
                port("https-webhook", 443, PORT_WEBHOOK),
                port(
                    "http-monitoring",
                    PORT_CONTROL_PLANE_METRICS,
                    PORT_CONTROL_PLANE_METRICS,
                ),
            ]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Deployment `istiod`.
pub(super) fn deployment(values: &Values) -> Deployment {
    let annotations = table([
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "15014"),
        ("sidecar.istio.io/inject", "false"),
    ]);
    Deployment {
        metadata: ISTIOD.metadata(CONTROL_PLANE),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: ISTIOD.label_selector(),
            // A new one is up before the old one goes.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("100%".to_owned())),
                    max_unavailable: Some(IntOrString::String("25%".to_owned())),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(ISTIOD.pod_labels()),
                    annotations: Some(annotations),
                    ..Default::default()
                }),
                spec: Some(pod(values)),
            },
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn pod(values: &Values) -> PodSpec {
    let mut discovery = container(
        CONTROL_PLANE_CONTAINER,
        "control-plane",
        values,
        &values.pilot.resources,
    );
    discovery.env = Some(
        Environment::new(values)
            .text("REVISION", "default")
            .text("CLUSTER_ID", &values.cluster_id)
            .text("DNS_DOMAIN", &values.cluster_domain)
            // Who may ask for certificates of other identities: the node proxy, for pods of its own node.
            .text("CA_TRUSTED_NODE_ACCOUNTS", "istio-system/ztunnel")
            // How waypoints and gateways are deployed.
            .text("PROXY_TEMPLATE", &template(values))
            .field("POD_NAME", "metadata.name")
            .field("POD_NAMESPACE", "metadata.namespace")
            .field("SERVICE_ACCOUNT", "spec.serviceAccountName")
            .with(&values.pilot.env),
    );
    discovery.ports = Some(vec![
        port("http-debug", PORT_DEBUG),
        port("grpc-xds", PORT_XDS_PLAIN),
        port("tls-xds", PORT_XDS),
        port("https-webhooks", PORT_WEBHOOK),
        port("http-monitoring", PORT_CONTROL_PLANE_METRICS),
    ]);
    discovery.readiness_probe = Some(readiness("/ready", PORT_DEBUG));
    discovery.security_context = Some(SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..Default::default()
    });
    PodSpec {
        service_account_name: Some(CONTROL_PLANE.to_owned()),
        image_pull_secrets: pull_secrets(values),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        // Nodes may be tainted until the node agent runs, which must not wait for the control plane.
        tolerations: Some(vec![Toleration {
            key: Some("cni.istio.io/not-ready".to_owned()),
            operator: Some("Exists".to_owned()),
            ..Default::default()
        }]),
        containers: vec![discovery],
        ..Default::default()
    }
}
