//! The node proxy: a DaemonSet.

use tulle_api::contract::{
    CONFIGMAP_ROOT, PORT_METRICS, PORT_READY, PORT_XDS, READY_PAGE, TOKEN_AUDIENCE, ZTUNNEL,
    ZTUNNEL_CONTAINER,
};
use tulle_api::k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use tulle_api::k8s_openapi::api::core::v1::{
    Capabilities, PodSpec, PodTemplateSpec, SecurityContext,
};
use tulle_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata::{ZTUNNEL as PART, table};
use super::node_agent::{CRITICAL, ZDS_SOCKET_DIRECTORY};
use super::pod::{
    Environment, config_map, container, empty_dir, host_path, mount, port, pull_secrets, read_only,
    readiness, token, tolerate_everything,
};
use crate::values::Values;

/// DaemonSet `ztunnel`. A new pod is ready before the old one drains: for a while there are two on a node.
pub(super) fn daemon_set(values: &Values) -> DaemonSet {
    let annotations = table([
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "15020"),
        ("sidecar.istio.io/inject", "false"),
    ]);
    DaemonSet {
        metadata: PART.metadata(ZTUNNEL),
        spec: Some(DaemonSetSpec {
            selector: PART.label_selector(),
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(PART.pod_labels()),
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
    let own = &values.ztunnel;
    let control_plane = format!("istiod.{}.svc:{PORT_XDS}", super::NAMESPACE);
    let mut proxy = container(ZTUNNEL_CONTAINER, "ztunnel", values, &own.resources);
    proxy.env = Some(
        Environment::new(values)
            .text("CA_ADDRESS", &control_plane)
            .text("XDS_ADDRESS", &control_plane)
            .text("ISTIO_META_CLUSTER_ID", &values.cluster_id)
            .text("CLUSTER_ID", &values.cluster_id)
            .text("CLUSTER_DOMAIN", &values.cluster_domain)
            .text("NETWORK", &values.network)
            .text("TRUST_DOMAIN", values.trust_domain())
            .text("INPOD_ENABLED", "true")
            .text(
                "ISTIO_META_DNS_CAPTURE",
                if values.cni.dns_capture {
                    "true"
                } else {
                    "false"
                },
            )
            .text(
                "TERMINATION_GRACE_PERIOD_SECONDS",
                &own.termination_grace_period_seconds.to_string(),
            )
            .field("POD_NAME", "metadata.name")
            .field("POD_NAMESPACE", "metadata.namespace")
            .field("NODE_NAME", "spec.nodeName")
            .field("INSTANCE_IP", "status.podIP")
            .field("SERVICE_ACCOUNT", "spec.serviceAccountName")
            .cpu_limit("ZTUNNEL_CPU_LIMIT")
            .with(&own.env),
    );
    proxy.ports = Some(vec![port("ztunnel-stats", PORT_METRICS)]);
    proxy.readiness_probe = Some(readiness(READY_PAGE, PORT_READY));
    proxy.security_context = Some(SecurityContext {
        // Kubernetes demands it to be true beside SYS_ADMIN.
        allow_privilege_escalation: Some(true),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_user: Some(0),
        run_as_group: Some(1337),
        run_as_non_root: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            // Marks and transparent sockets; entering pods' network namespaces; transparent binds.
            add: Some(
                ["NET_ADMIN", "SYS_ADMIN", "NET_RAW"]
                    .map(str::to_owned)
                    .into(),
            ),
        }),
        ..Default::default()
    });
    proxy.volume_mounts = Some(vec![
        read_only("istiod-ca-cert", "/var/run/secrets/istio"),
        read_only("istio-token", "/var/run/secrets/tokens"),
        mount("cni-ztunnel-sock-dir", ZDS_SOCKET_DIRECTORY),
        mount("tmp", "/tmp"),
    ]);
    PodSpec {
        node_selector: Some(table([("kubernetes.io/os", "linux")])),
        service_account_name: Some(ZTUNNEL.to_owned()),
        image_pull_secrets: pull_secrets(values),
        // It never asks the Kubernetes API.
        automount_service_account_token: Some(false),
        priority_class_name: Some(CRITICAL.to_owned()),
        tolerations: Some(tolerate_everything()),
        termination_grace_period_seconds: Some(own.termination_grace_period_seconds),
        containers: vec![proxy],
        volumes: Some(vec![
            token("istio-token", "istio-token", TOKEN_AUDIENCE),
            config_map("istiod-ca-cert", CONFIGMAP_ROOT),
            host_path(
                "cni-ztunnel-sock-dir",
                ZDS_SOCKET_DIRECTORY,
                "DirectoryOrCreate",
            ),
            empty_dir("tmp"),
        ]),
        ..Default::default()
    }
}
