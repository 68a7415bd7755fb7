//! What waypoints and gateways report: Telemetry, merged by the control plane (mesh, namespace, target) for each proxy.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tulle_model::ServiceKey;

/// For one proxy; named `namespace/name` of its Gateway on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// `namespace/name` of the Gateway.
    pub gateway: Arc<str>,
    /// For everything that has nothing of its own.
    pub all: Observe,
    /// Instead of [`Telemetry::all`], for requests to these services.
    #[serde(default)]
    pub services: BTreeMap<Arc<str>, Observe>,
}

impl Telemetry {
    /// What counts for requests to a service, or to none.
    pub fn of(&self, service: Option<&ServiceKey>) -> &Observe {
        service
            .and_then(|key| self.services.get(key.as_str()))
            .unwrap_or(&self.all)
    }
}

/// What is reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observe {
    /// Access logs; none writes none.
    #[serde(default)]
    pub access_logs: Vec<AccessLog>,
    /// Metrics for Prometheus.
    #[serde(default)]
    pub metrics: Metrics,
    /// Spans.
    #[serde(default)]
    pub tracing: Option<Tracing>,
}

/// Where lines of the access log go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessLog {
    /// Name of the provider in the settings; `envoy` is the proxy's standard output.
    pub provider: Arc<str>,
    /// Only lines for which this expression (CEL) is true.
    #[serde(default)]
    pub filter: Option<Arc<str>>,
}

/// Changes of the standard metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metrics {
    /// No metric of requests and connections at all.
    #[serde(default)]
    pub disabled: bool,
    /// By metric; what is not listed is as it is.
    #[serde(default)]
    pub overrides: BTreeMap<Metric, MetricOverride>,
}

/// Istio's standard metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are Istio's")]
pub enum Metric {
    RequestCount,
    RequestDuration,
    RequestSize,
    ResponseSize,
    TcpOpenedConnections,
    TcpClosedConnections,
    TcpSentBytes,
    TcpReceivedBytes,
    GrpcRequestMessages,
    GrpcResponseMessages,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::TcpOpenedConnections,
        Self::TcpClosedConnections,
        Self::TcpSentBytes,
        Self::TcpReceivedBytes,
        Self::GrpcRequestMessages,
        Self::GrpcResponseMessages,
    ];
}

/// Changes of one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricOverride {
    /// It is not reported.
    #[serde(default)]
    pub disabled: bool,
    /// By tag: `None` takes it away, an expression (CEL) replaces or adds it.
    #[serde(default)]
    pub tags: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

/// Spans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// Names of providers in the settings.
    #[serde(default)]
    pub providers: Vec<Arc<str>>,
    /// Percent of requests without a decision of their own that are sampled.
    pub sampling: f64,
    /// Spans are not sent; the context is still passed on.
    #[serde(default)]
    pub report_disabled: bool,
    /// The context is not passed on.
    #[serde(default)]
    pub propagation_disabled: bool,
    /// Further attributes of spans.
    #[serde(default)]
    pub tags: BTreeMap<Arc<str>, CustomTag>,
    /// Attributes `istio.*` are added.
    pub istio_tags: bool,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum CustomTag {
    /// Always this.
    Literal(Arc<str>),
    /// A variable of the proxy's environment.
    Environment {
        /// Which.
        name: Arc<str>,
        /// Without it.
        default: Arc<str>,
    },
    /// A header of the request, in lower case.
    Header {
        /// Which.
        name: Arc<str>,
        /// Without it; `None` adds no attribute.
        default: Option<Arc<str>>,
    },
    /// A text in the form of access-log formats.
    Format(Arc<str>),
}
