//! The node agent: a DaemonSet, and the quota that some providers want for it.

use tulle_api::contract::{
    NODE_AGENT, NODE_AGENT_CONTAINER, PORT_CONTROL_PLANE_METRICS, PORT_NODE_AGENT_READY,
};
use tulle_api::k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use tulle_api::k8s_openapi::api::core::v1::{
    PodSpec, PodTemplateSpec, ResourceQuota, ResourceQuotaSpec, ScopeSelector,
    ScopedResourceSelectorRequirement, SecurityContext, VolumeMount,
};
use tulle_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tulle_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tulle_api::k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::access::NODE_AGENT_ACCOUNT;
use super::metadata::{CNI, table};
use super::pod::{
    Environment, container, host_path, mount, port, pull_secrets, readiness, tolerate_everything,
};
use crate::values::Values;

/// The directory of [`tulle_api::contract::PLUGIN_SOCKET`].
const PLUGIN_SOCKET_DIRECTORY: &str = "/var/run/istio-cni";
/// The directory of [`tulle_api::contract::ZDS_SOCKET`].
pub(super) const ZDS_SOCKET_DIRECTORY: &str = "/var/run/ztunnel";
pub(super) const CRITICAL: &str = "system-node-critical";

/// DaemonSet `istio-cni-node`.
pub(super) fn daemon_set(values: &Values) -> DaemonSet {
    let annotations = table([
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "15014"),
        ("prometheus.io/path", "/metrics"),
        ("sidecar.istio.io/inject", "false"),
    ]);
    DaemonSet {
        metadata: CNI.metadata(NODE_AGENT),
        spec: Some(DaemonSetSpec {
            selector: CNI.label_selector(),
            // Two agents on one node would fight over sockets and rules.
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::Int(1)),
                    ..Default::default()
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(CNI.pod_labels()),
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
    let cni = &values.cni;
    let mut agent = container(NODE_AGENT_CONTAINER, "node-agent", values, &cni.resources);
    agent.env = Some(
        Environment::new(values)
            .text("EXCLUDE_NAMESPACES", &cni.exclude_namespaces.join(","))
            .text("AMBIENT_IPV6", if cni.ipv6 { "true" } else { "false" })
            .text(
                "AMBIENT_DNS_CAPTURE",
                if cni.dns_capture { "true" } else { "false" },
            )
            // Several threads look at namespaces now and then; a heap for each would double the agent's memory.
            .text("MALLOC_ARENA_MAX", "1")
            .field("NODE_NAME", "spec.nodeName")
            .field("POD_NAME", "metadata.name")
            .field("POD_NAMESPACE", "metadata.namespace")
            .with(&cni.env),
    );
    agent.ports = Some(vec![port("metrics", PORT_CONTROL_PLANE_METRICS)]);
    agent.readiness_probe = Some(readiness("/readyz", PORT_NODE_AGENT_READY));
    // It enters the network namespaces of all pods and of the node, sets switches under /proc/sys there, and writes
    // the runtime's CNI directories, whoever owns them.
    agent.security_context = Some(SecurityContext {
        privileged: Some(true),
        run_as_user: Some(0),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        ..Default::default()
    });
    agent.volume_mounts = Some(vec![
        mount("cni-bin-dir", "/host/opt/cni/bin"),
        mount("cni-net-dir", "/host/etc/cni/net.d"),
        mount("cni-host-procfs", "/host/proc"),
        mount("cni-socket-dir", PLUGIN_SOCKET_DIRECTORY),
        mount("cni-ztunnel-sock-dir", ZDS_SOCKET_DIRECTORY),
        // Namespaces made later must appear here too. The same path as on the node: the plugin names them by it.
        VolumeMount {
            mount_propagation: Some("HostToContainer".to_owned()),
            ..mount("cni-netns-dir", &cni.cni_netns_dir)
        },
    ]);
    PodSpec {
        node_selector: Some(table([("kubernetes.io/os", "linux")])),
        service_account_name: Some(NODE_AGENT_ACCOUNT.to_owned()),
        image_pull_secrets: pull_secrets(values),
        priority_class_name: Some(CRITICAL.to_owned()),
        tolerations: Some(tolerate_everything()),
        termination_grace_period_seconds: Some(30),
        containers: vec![agent],
        volumes: Some(vec![
            host_path("cni-bin-dir", &cni.cni_bin_dir, "DirectoryOrCreate"),
            host_path("cni-net-dir", &cni.cni_conf_dir, "DirectoryOrCreate"),
            host_path("cni-host-procfs", "/proc", "Directory"),
            host_path(
                "cni-socket-dir",
                PLUGIN_SOCKET_DIRECTORY,
                "DirectoryOrCreate",
            ),
            host_path(
                "cni-ztunnel-sock-dir",
                ZDS_SOCKET_DIRECTORY,
                "DirectoryOrCreate",
            ),
            host_path("cni-netns-dir", &cni.cni_netns_dir, "DirectoryOrCreate"),
        ]),
        ..Default::default()
    }
}

/// Permits node-critical pods in `istio-system`, where a cluster admits them only under a quota.
pub(super) fn resource_quota() -> ResourceQuota {
    let critical = ScopedResourceSelectorRequirement {
        operator: "In".to_owned(),
        scope_name: "PriorityClass".to_owned(),
        values: Some(vec![CRITICAL.to_owned()]),
    };
    ResourceQuota {
        metadata: CNI.metadata("tulle-node-critical"),
        spec: Some(ResourceQuotaSpec {
            hard: Some([("pods".to_owned(), Quantity("10000".to_owned()))].into()),
            scope_selector: Some(ScopeSelector {
                match_expressions: Some(vec![critical]),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
