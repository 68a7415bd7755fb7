//! What the node agent counts.

use tulle_telemetry::{CounterFamily, Gauge, Registry};

/// The node agent's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Rules that were found damaged and were put back, by `type`: `pod` or `host`.
    pub(crate) repairs: CounterFamily,
    /// Pods taken in, by `result`.
    pub(crate) enrolments: CounterFamily,
    /// Calls of the CNI plugin, by `result`.
    pub(crate) plugin_calls: CounterFamily,
    /// CNI program and configuration written, by `result`.
    pub(crate) installs: CounterFamily,
    /// Pods enrolled now.
    pub(crate) pods: Gauge,
    /// Proxies connected now.
    pub(crate) proxies: Gauge,
    /// 1 while program and configuration are in place.
    pub(crate) install_ready: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            repairs: registry.counter(
                "nodeagent_reconcile_events",
                "Redirect rules that were damaged and have been put back.",
                &["type"],
            ),
            enrolments: registry.counter(
                "nodeagent_enrolments",
                "Pods taken into the mesh.",
                &["result"],
            ),
            plugin_calls: registry.counter(
                "nodeagent_cni_requests",
                "Calls of the CNI plugin.",
                &["result"],
            ),
            installs: registry.counter(
                "istio_cni_installs",
                "Installations of the CNI plugin.",
                &["result"],
            ),
            pods: registry
                .gauge(
                    "nodeagent_enrolled_pods",
                    "Pods in the mesh on this node.",
                    &[],
                )
                .get(),
            proxies: registry
                .gauge("ztunnel_connected", "Node proxies connected.", &[])
                .get(),
            install_ready: registry
                .gauge(
                    "istio_cni_install_ready",
                    "Whether the CNI plugin is installed and configured.",
                    &[],
                )
                .get(),
        }
    }
}
