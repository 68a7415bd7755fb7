//! `telemetry.istio.io`: what proxies report.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::selector::{PolicyTargetReference, WorkloadSelector};
use crate::shape::{Duration, choice, shape};
use crate::status::IstioStatus;

shape! {
    /// What proxies report.
    #[derive(CustomResource)]
    #[kube(
        group = "telemetry.istio.io",
        version = "v1",
        kind = "Telemetry",
        plural = "telemetries",
        shortname = "telemetry",
        category = "istio-io",
        category = "telemetry-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "What proxies report: metrics, access logs, traces.",
        printcolumn = r#"{"name":"Age","type":"date","description":"When the resource was made.","jsonPath":".metadata.creationTimestamp"}"#
    )]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
        "message": "only one of selector, targetRef and targetRefs can be given",
    }]))]
    TelemetrySpec {
        selector: Option<WorkloadSelector>,
        target_ref: Option<PolicyTargetReference>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        tracing: Vec<Tracing>,
        metrics: Vec<Metrics>,
        access_logging: Vec<AccessLogging>,
    }
}

shape! {
    /// Traces.
    Tracing {
        #[serde(rename = "match")]
        matches: Option<ModeSelector>,
        providers: Vec<ProviderRef>,
        #[schemars(range(min = 0, max = 100))]
        random_sampling_percentage: Option<f64>,
        disable_span_reporting: Option<bool>,
        disable_context_propagation: Option<bool>,
        custom_tags: BTreeMap<String, CustomTag>,
        enable_istio_tags: Option<bool>,
        use_request_id_for_trace_sampling: Option<bool>,
    }
}

shape! {
    /// Which side reports.
    ModeSelector {
        mode: Option<WorkloadMode>,
    }
}

choice! {
    /// Which side reports.
    WorkloadMode {
        ClientAndServer = "CLIENT_AND_SERVER",
        Client = "CLIENT",
        Server = "SERVER",
    }
}

shape! {
    /// A provider of the mesh configuration.
    ProviderRef {
        = #[schemars(length(min = 1))] name: String,
    }
}

shape! {
    /// A tag of a span, from one of four places.
    CustomTag {
        literal: Option<Literal>,
        environment: Option<NamedDefault>,
        header: Option<NamedDefault>,
        formatter: Option<Literal>,
    }
}

shape! {
    /// A text.
    Literal {
        = #[schemars(length(min = 1))] value: String,
    }
}

shape! {
    /// A variable or header.
    NamedDefault {
        = #[schemars(length(min = 1))] name: String,
        default_value: Option<String>,
    }
}

shape! {
    /// Metrics.
    Metrics {
        providers: Vec<ProviderRef>,
        overrides: Vec<MetricsOverrides>,
        reporting_interval: Option<Duration>,
    }
}

shape! {
    /// Changes of metrics.
    MetricsOverrides {
        #[serde(rename = "match")]
        matches: Option<MetricSelector>,
        disabled: Option<bool>,
        tag_overrides: BTreeMap<String, TagOverride>,
    }
}

shape! {
    /// Which metrics.
    MetricSelector {
        metric: Option<IstioMetric>,
        #[schemars(length(min = 1))]
        custom_metric: Option<String>,
        mode: Option<WorkloadMode>,
    }
}

choice! {
    /// Istio's metrics.
    IstioMetric {
        AllMetrics = "ALL_METRICS",
        RequestCount = "REQUEST_COUNT",
        RequestDuration = "REQUEST_DURATION",
        RequestSize = "REQUEST_SIZE",
        ResponseSize = "RESPONSE_SIZE",
        TcpOpenedConnections = "TCP_OPENED_CONNECTIONS",
        TcpClosedConnections = "TCP_CLOSED_CONNECTIONS",
        TcpSentBytes = "TCP_SENT_BYTES",
        TcpReceivedBytes = "TCP_RECEIVED_BYTES",
        GrpcRequestMessages = "GRPC_REQUEST_MESSAGES",
        GrpcResponseMessages = "GRPC_RESPONSE_MESSAGES",
    }
}

shape! {
    /// Change of a tag.
    TagOverride {
        operation: Option<TagOperation>,
        value: Option<String>,
    }
}

choice! {
    /// What happens to a tag.
    TagOperation {
        Upsert = "UPSERT",
        Remove = "REMOVE",
    }
}

shape! {
    /// Access logs.
    AccessLogging {
        #[serde(rename = "match")]
        matches: Option<ModeSelector>,
        providers: Vec<ProviderRef>,
        disabled: Option<bool>,
        filter: Option<AccessLogFilter>,
    }
}

shape! {
    /// Which lines are written.
    AccessLogFilter {
        expression: Option<String>,
    }
}
