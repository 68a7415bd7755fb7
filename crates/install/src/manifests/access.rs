//! Accounts and their rights: each the least that its part can work with, with the reason.

use tulle_api::contract::{
    CONFIGMAP_MESH, CONFIGMAP_ROOT, CONTROL_PLANE, NODE_AGENT, SECRET_CA, SECRET_PLUGGED_CA,
    ZTUNNEL as ZTUNNEL_NAME,
};
use tulle_api::k8s_openapi::api::core::v1::ServiceAccount;
use tulle_api::k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use super::metadata::{CNI, ISTIOD, Part, ZTUNNEL};
use super::pod::pull_secrets;
use super::webhook::NAME as WEBHOOK;
use crate::values::Values;

/// Account of the node agent; Istio's name for it differs from the DaemonSet's.
pub(super) const NODE_AGENT_ACCOUNT: &str = "istio-cni";
/// Istio's name for the control plane's role, with the namespace at its end.
const CONTROL_PLANE_ROLE: &str = "istiod-clusterrole-istio-system";
/// Istio's name for the role of what deploys gateways.
const DEPLOYER_ROLE: &str = "istiod-gateway-controller-istio-system";

const READ: &[&str] = &["get", "list", "watch"];
const ISTIO_GROUPS: &[&str] = &[
    "security.istio.io",
    "networking.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    // Ours.
    "policy.tulle.mesh",
];
/// Kinds of the Gateway API that show a status.
const GATEWAY_STATUSES: &[&str] = &[
    "gatewayclasses/status",
    "gateways/status",
    "listenersets/status",
    "httproutes/status",
    "grpcroutes/status",
    "tcproutes/status",
    "tlsroutes/status",
    "backendtlspolicies/status",
];
const WRITE_STATUS: &[&str] = &["get", "update", "patch"];
const OWN: &[&str] = &[
    "get", "list", "watch", "create", "update", "patch", "delete",
];

/// `istiod`, `istio-cni`, `ztunnel`. The node proxy has no rights at all.
pub(super) fn service_accounts(values: &Values) -> Vec<ServiceAccount> {
    let account = |part: &Part, name: &str| ServiceAccount {
        metadata: part.metadata(name),
        image_pull_secrets: pull_secrets(values),
        ..Default::default()
    };
    vec![
        account(&ISTIOD, CONTROL_PLANE),
        account(&CNI, NODE_AGENT_ACCOUNT),
        account(&ZTUNNEL, ZTUNNEL_NAME),
    ]
}

pub(super) fn cluster_roles() -> Vec<ClusterRole> {
    vec![
        ClusterRole {
            metadata: ISTIOD.cluster_metadata(CONTROL_PLANE_ROLE),
            rules: Some(control_plane_rules()),
            ..Default::default()
        },
        ClusterRole {
            metadata: ISTIOD.cluster_metadata(DEPLOYER_ROLE),
            rules: Some(deployer_rules()),
            ..Default::default()
        },
        ClusterRole {
            metadata: CNI.cluster_metadata(NODE_AGENT_ACCOUNT),
            rules: Some(node_agent_rules()),
            ..Default::default()
        },
    ]
}

fn control_plane_rules() -> Vec<PolicyRule> {
    vec![
        // Workloads, services and where they run are what the mesh is made of.
        rule("", &["pods", "nodes", "services", "namespaces"], READ),
        rule("discovery.k8s.io", &["endpointslices"], READ),
        // Istio's own resources, and conditions on them: also on those without effect here, which say so.
        rule_in(ISTIO_GROUPS, &["*"], READ),
        rule_in(ISTIO_GROUPS, &["*/status"], WRITE_STATUS),
        // Conditions about waypoints on Services.
        rule("", &["services/status"], WRITE_STATUS),
        // Kinds that appear later, such as the Gateway API's, are noticed; waypoints are Gateways.
        rule("apiextensions.k8s.io", &["customresourcedefinitions"], READ),
        rule("gateway.networking.k8s.io", &["*"], READ),
        rule("gateway.networking.k8s.io", GATEWAY_STATUSES, WRITE_STATUS),
        // The two classes. Creating cannot be limited to a name; what exists is never changed.
        rule(
            "gateway.networking.k8s.io",
            &["gatewayclasses"],
            &["create"],
        ),
        // Certificates of listeners and to backends, wherever users keep them; settings of gateways. Which are named is known
        // from other objects only, so the right cannot be limited to names; what holds no certificate is not kept.
        rule("", &["secrets", "configmaps"], READ),
        // The roots by which the API server knows the webhook.
        named(
            rule(
                "admissionregistration.k8s.io",
                &["mutatingwebhookconfigurations"],
                &["get", "list", "watch", "patch"],
            ),
            &[WEBHOOK],
        ),
        // Who calls: tokens of node proxies.
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        // The root certificates in every namespace. Creating cannot be limited to a name.
        rule("", &["configmaps"], &["create"]),
        named(
            rule(
                "",
                &["configmaps"],
                &["get", "list", "watch", "update", "patch"],
            ),
            &[CONFIGMAP_ROOT],
        ),
    ]
}

/// What waypoints and gateways are made of, in the namespaces of their Gateways. Only objects that were made for a Gateway
/// are changed.
fn deployer_rules() -> Vec<PolicyRule> {
    vec![
        rule("apps", &["deployments"], OWN),
        rule("", &["services", "serviceaccounts"], OWN),
        rule("autoscaling", &["horizontalpodautoscalers"], OWN),
        rule("policy", &["poddisruptionbudgets"], OWN),
    ]
}

fn node_agent_rules() -> Vec<PolicyRule> {
    vec![
        // Which pods of its node are to be enrolled.
        rule("", &["pods", "nodes", "namespaces"], READ),
        // The annotation that tells so; the status subresource is the narrower right.
        rule("", &["pods/status"], &["get", "patch", "update"]),
        // Is this an upgrade (keep the CNI entry) or a removal (take it away)?
        named(rule("apps", &["daemonsets"], &["get"]), &[NODE_AGENT]),
        // A pod that could not be enrolled says why.
        rule("", &["events"], &["create", "patch"]),
    ]
}

pub(super) fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    let binding = |part: &Part, role: &str, account: &str| ClusterRoleBinding {
        metadata: part.cluster_metadata(role),
        role_ref: reference("ClusterRole", role),
        subjects: Some(vec![subject(account)]),
    };
    vec![
        binding(&ISTIOD, CONTROL_PLANE_ROLE, CONTROL_PLANE),
        binding(&ISTIOD, DEPLOYER_ROLE, CONTROL_PLANE),
        binding(&CNI, NODE_AGENT_ACCOUNT, NODE_AGENT_ACCOUNT),
    ]
}

/// What the control plane keeps in its own namespace.
pub(super) fn control_plane_role() -> Role {
    Role {
        metadata: ISTIOD.metadata(CONTROL_PLANE),
        rules: Some(vec![
            // The CA: its own Secret, or a plugged-in one. Creating cannot be limited to a name.
            rule("", &["secrets"], &["create"]),
            named(
                rule(
                    "",
                    &["secrets"],
                    &["get", "list", "watch", "update", "patch"],
                ),
                &[SECRET_CA, SECRET_PLUGGED_CA],
            ),
            // Mesh configuration, changed at run time.
            named(rule("", &["configmaps"], READ), &[CONFIGMAP_MESH]),
            // One replica writes statuses.
            rule(
                "coordination.k8s.io",
                &["leases"],
                &["get", "create", "update", "patch"],
            ),
        ]),
    }
}

pub(super) fn control_plane_role_binding() -> RoleBinding {
    RoleBinding {
        metadata: ISTIOD.metadata(CONTROL_PLANE),
        role_ref: reference("Role", CONTROL_PLANE),
        subjects: Some(vec![subject(CONTROL_PLANE)]),
    }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    rule_in(&[group], resources, verbs)
}

fn rule_in(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    PolicyRule {
        api_groups: Some(owned(groups)),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..Default::default()
    }
}

fn named(rule: PolicyRule, names: &[&str]) -> PolicyRule {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    PolicyRule {
        resource_names: Some(names),
        ..rule
    }
}

fn reference(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

fn subject(account: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        namespace: Some(super::NAMESPACE.to_owned()),
        ..Default::default()
    }
}
