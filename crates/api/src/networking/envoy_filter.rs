//! Kinds that configure Envoy, and groups of workloads. Kept so that manifests apply; answered with a condition.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LabelSelector, WorkloadEntrySpec};
use crate::selector::{PolicyTargetReference, WorkloadSelector};
use crate::shape::{FreeForm, choice, shape};
use crate::status::IstioStatus;

shape! {
    /// Patches of Envoy's configuration. Without effect here.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io",
        version = "v1alpha3",
        kind = "EnvoyFilter",
        plural = "envoyfilters",
        category = "istio-io",
        category = "networking-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "Patches of Envoy's configuration. Without effect here."
    )]
    EnvoyFilterSpec {
        workload_selector: Option<LabelSelector>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        config_patches: Vec<EnvoyConfigObjectPatch>,
        priority: Option<i32>,
    }
}

shape! {
    /// One patch.
    EnvoyConfigObjectPatch {
        apply_to: Option<ApplyTo>,
        #[serde(rename = "match")]
        matches: Option<EnvoyConfigObjectMatch>,
        patch: Option<Patch>,
    }
}

choice! {
    /// What is patched.
    ApplyTo {
        Invalid = "INVALID",
        Listener = "LISTENER",
        FilterChain = "FILTER_CHAIN",
        NetworkFilter = "NETWORK_FILTER",
        HttpFilter = "HTTP_FILTER",
        RouteConfiguration = "ROUTE_CONFIGURATION",
        VirtualHost = "VIRTUAL_HOST",
        HttpRoute = "HTTP_ROUTE",
        Cluster = "CLUSTER",
        ExtensionConfig = "EXTENSION_CONFIG",
        Bootstrap = "BOOTSTRAP",
        ListenerFilter = "LISTENER_FILTER",
    }
}

shape! {
    /// Where a patch applies.
    EnvoyConfigObjectMatch {
        context: Option<PatchContext>,
        proxy: Option<ProxyMatch>,
        listener: Option<ListenerMatch>,
        route_configuration: Option<RouteConfigurationMatch>,
        cluster: Option<ClusterMatch>,
        waypoint: Option<WaypointMatch>,
    }
}

choice! {
    /// Which proxies a patch concerns.
    PatchContext {
        Any = "ANY",
        SidecarInbound = "SIDECAR_INBOUND",
        SidecarOutbound = "SIDECAR_OUTBOUND",
        Gateway = "GATEWAY",
        Waypoint = "WAYPOINT",
    }
}

shape! {
    /// Proxies by version and metadata.
    ProxyMatch {
        proxy_version: Option<String>,
        metadata: BTreeMap<String, String>,
    }
}

shape! {
    /// A listener.
    ListenerMatch {
        port_number: Option<u32>,
        port_name: Option<String>,
        filter_chain: Option<FilterChainMatch>,
        listener_filter: Option<String>,
        name: Option<String>,
    }
}

shape! {
    /// A filter chain.
    FilterChainMatch {
        name: Option<String>,
        sni: Option<String>,
        transport_protocol: Option<String>,
        application_protocols: Option<String>,
        filter: Option<FilterMatch>,
        destination_port: Option<u32>,
    }
}

shape! {
    /// A filter.
    FilterMatch {
        name: Option<String>,
        sub_filter: Option<NameMatch>,
    }
}

shape! {
    /// Something by name.
    NameMatch {
        name: Option<String>,
    }
}

shape! {
    /// A route configuration.
    RouteConfigurationMatch {
        port_number: Option<u32>,
        port_name: Option<String>,
        gateway: Option<String>,
        vhost: Option<VirtualHostMatch>,
        name: Option<String>,
    }
}

shape! {
    /// A virtual host.
    VirtualHostMatch {
        name: Option<String>,
        domain_name: Option<String>,
        route: Option<RouteMatch>,
    }
}

shape! {
    /// A route.
    RouteMatch {
        name: Option<String>,
        action: Option<RouteAction>,
    }
}

choice! {
    /// What a route does.
    RouteAction {
        Any = "ANY",
        Route = "ROUTE",
        Redirect = "REDIRECT",
        DirectResponse = "DIRECT_RESPONSE",
    }
}

shape! {
    /// A cluster.
    ClusterMatch {
        port_number: Option<u32>,
        service: Option<String>,
        subset: Option<String>,
        name: Option<String>,
    }
}

shape! {
    /// A waypoint.
    WaypointMatch {
        #[schemars(range(min = 1, max = 65535))]
        port_number: Option<u32>,
        filter: Option<FilterMatch>,
        route: Option<NameMatch>,
    }
}

shape! {
    /// What the patch does.
    Patch {
        operation: Option<PatchOperation>,
        value: Option<FreeForm>,
        filter_class: Option<FilterClass>,
    }
}

choice! {
    /// What the patch does.
    PatchOperation {
        Invalid = "INVALID",
        Merge = "MERGE",
        Add = "ADD",
        Remove = "REMOVE",
        InsertBefore = "INSERT_BEFORE",
        InsertAfter = "INSERT_AFTER",
        InsertFirst = "INSERT_FIRST",
        Replace = "REPLACE",
        MergeAndReplaceList = "MERGE_AND_REPLACE_LIST",
    }
}

choice! {
    /// Where a filter goes.
    FilterClass {
        Unspecified = "UNSPECIFIED",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }
}

shape! {
    /// Settings of proxies.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io",
        version = "v1beta1",
        kind = "ProxyConfig",
        plural = "proxyconfigs",
        category = "istio-io",
        category = "networking-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "Settings of proxies. Without effect here."
    )]
    ProxyConfigSpec {
        selector: Option<WorkloadSelector>,
        #[schemars(range(min = 0))]
        concurrency: Option<i32>,
        #[schemars(extend("additionalProperties" = {"type": "string", "maxLength": 2048}))]
        environment_variables: BTreeMap<String, String>,
        image: Option<ProxyImage>,
    }
}

shape! {
    /// Image of a proxy.
    ProxyImage {
        image_type: Option<String>,
    }
}

shape! {
    /// A template for WorkloadEntries that register themselves.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io",
        version = "v1",
        kind = "WorkloadGroup",
        plural = "workloadgroups",
        shortname = "wg",
        category = "istio-io",
        category = "networking-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "A template for WorkloadEntries that register themselves.",
        printcolumn = r#"{"name":"Age","type":"date","description":"When the resource was made.","jsonPath":".metadata.creationTimestamp"}"#
    )]
    WorkloadGroupSpec {
        = template: WorkloadEntrySpec,
        metadata: Option<GroupMetadata>,
        probe: Option<ReadinessProbe>,
    }
}

shape! {
    /// Labels and annotations of the entries.
    GroupMetadata {
        #[schemars(extend("maxProperties" = 256))]
        labels: BTreeMap<String, String>,
        #[schemars(extend("maxProperties" = 256))]
        annotations: BTreeMap<String, String>,
    }
}

shape! {
    /// How the health of an entry is found out.
    ReadinessProbe {
        #[schemars(range(min = 0))]
        initial_delay_seconds: Option<i32>,
        #[schemars(range(min = 0))]
        timeout_seconds: Option<i32>,
        #[schemars(range(min = 0))]
        period_seconds: Option<i32>,
        #[schemars(range(min = 0))]
        success_threshold: Option<i32>,
        #[schemars(range(min = 0))]
        failure_threshold: Option<i32>,
        http_get: Option<HttpHealthCheck>,
        tcp_socket: Option<TcpHealthCheck>,
        exec: Option<ExecHealthCheck>,
        grpc: Option<GrpcHealthCheck>,
    }
}

shape! {
    /// By HTTP.
    HttpHealthCheck {
        = #[schemars(range(min = 1, max = 65535))] port: u32,
        path: Option<String>,
        host: Option<String>,
        scheme: Option<String>,
        http_headers: Vec<HttpHeader>,
    }
}

shape! {
    /// A header of a probe.
    HttpHeader {
        #[schemars(regex(pattern = "^[-_A-Za-z0-9]+$"))]
        name: Option<String>,
        value: Option<String>,
    }
}

shape! {
    /// By TCP.
    TcpHealthCheck {
        = #[schemars(range(min = 1, max = 65535))] port: u32,
        host: Option<String>,
    }
}

shape! {
    /// By a command.
    ExecHealthCheck {
        = #[schemars(inner(length(min = 1)))] command: Vec<String>,
    }
}

shape! {
    /// By gRPC.
    GrpcHealthCheck {
        #[schemars(range(min = 1, max = 65535))]
        port: Option<u32>,
        service: Option<String>,
    }
}
