//! Services and workloads that Kubernetes does not know.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::{IstioCondition, IstioStatus, ValidationMessage};

/// Adds services to the mesh's registry.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    shortname = "se",
    category = "istio-io",
    category = "networking-istio-io",
    namespaced,
    status = "ServiceEntryStatus",
    derive = "PartialEq",
    doc = "Adds services to the mesh's registry.",
    printcolumn = r#"{"name":"Hosts","type":"string","description":"The hosts of the entry.","jsonPath":".spec.hosts"}"#,
    printcolumn = r#"{"name":"Location","type":"string","description":"Inside or outside of the mesh.","jsonPath":".spec.location"}"#,
    printcolumn = r#"{"name":"Resolution","type":"string","description":"How addresses are found (NONE, STATIC or DNS).","jsonPath":".spec.resolution"}"#,
    printcolumn = r#"{"name":"Age","type":"date","description":"When the entry was made.","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(has(self.workloadSelector) && has(self.endpoints))",
        "message": "only one of workloadSelector and endpoints can be given",
    },
    {
        "rule": "(has(self.resolution) ? self.resolution : 'NONE') != 'NONE' || !has(self.endpoints)",
        "message": "resolution NONE goes without endpoints",
    },
]))]
pub struct ServiceEntrySpec {
    /// Host names, each a service.
    #[schemars(length(min = 1, max = 256))]
    pub hosts: Vec<String>,
    /// Virtual addresses or ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub addresses: Vec<String>,
    /// Ports of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub ports: Vec<ServicePort>,
    /// Inside or outside of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How addresses of endpoints are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Endpoints, when they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub endpoints: Vec<WorkloadEntrySpec>,
    /// Endpoints by label, instead of `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<LabelSelector>,
    /// Namespaces that see the entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Further identities that endpoints may present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
}

/// Status of a ServiceEntry, with the addresses that were allocated for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntryStatus {
    /// Current state, one entry per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<IstioCondition>,
    /// Messages of an analysis, kept as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_messages: Vec<ValidationMessage>,
    /// Generation that the status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::status::IntOrText>")]
    pub observed_generation: Option<serde_json::Value>,
    /// Allocated addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<ServiceEntryAddress>,
}

/// An address allocated for a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceEntryAddress {
    /// The address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// The host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// A port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Number on the service.
    #[schemars(range(min = 1, max = 65535))]
    pub number: u32,
    /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub protocol: String,
    /// Name, unique in the entry.
    #[schemars(length(max = 256))]
    pub name: String,
    /// Number on the endpoints, when it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<u32>,
}

/// Inside or outside of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside.
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
    /// A newer Istio's.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How addresses of endpoints are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// Not at all: connections go to the address that was dialled.
    #[default]
    None,
    /// They are written down.
    Static,
    /// By DNS.
    Dns,
    /// By DNS, first address only.
    DnsRoundRobin,
    /// By DNS, for wildcard hosts.
    DynamicDns,
    /// A newer Istio's.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Workloads by label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelSelector {
    /// All must be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 256,
        "additionalProperties" = {"type": "string", "maxLength": 63},
    ))]
    pub labels: BTreeMap<String, String>,
}

/// Describes a workload that is no pod.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "WorkloadEntry",
    plural = "workloadentries",
    shortname = "we",
    category = "istio-io",
    category = "networking-istio-io",
    namespaced,
    status = "IstioStatus",
    derive = "PartialEq",
    doc = "Describes a workload that is no pod, for example a virtual machine.",
    printcolumn = r#"{"name":"Age","type":"date","description":"When the entry was made.","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Address","type":"string","description":"Where the workload is.","jsonPath":".spec.address"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEntrySpec {
    /// IP address, host name, or `unix://` path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub address: String,
    /// Ports by the names that services use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub ports: BTreeMap<String, u32>,
    /// Labels that selectors see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    pub labels: BTreeMap<String, String>,
    /// Network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub network: String,
    /// `region/zone/subzone`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub locality: String,
    /// Share of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Identity.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub service_account: String,
}
