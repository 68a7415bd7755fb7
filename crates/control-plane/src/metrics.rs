//! What is counted, under istiod's names.
//!
//! istiod writes its counters without the `_total` that counters of our registry always have, and
//! its dashboards ask for those names. So they are kept as gauges that only grow: names, labels and
//! `rate()` are the same.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tulle_identity::Authority;
use tulle_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use tulle_telemetry::{Encoder, Gauge, GaugeFamily, Histogram, Registry};
use tulle_xds::server::{Counters, TypeCounts};

use crate::pods::Pods;

/// Upper bounds in seconds, as istiod's panels expect them.
const DEBOUNCE: &[f64] = &[0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];

/// Likewise, for the way to the proxies.
const CONVERGENCE: &[f64] = &[0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];

/// What the parts count themselves.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    /// `pilot_k8s_reg_events`: objects that workloads and services are made of.
    pub(crate) registry_events: GaugeFamily,
    /// `pilot_k8s_cfg_events`: policies and settings.
    pub(crate) config_events: GaugeFamily,
    /// `pilot_push_triggers`.
    pub(crate) push_triggers: GaugeFamily,
    /// `pilot_inbound_updates`.
    pub(crate) inbound_updates: GaugeFamily,
    /// `pilot_debounce_time`: from the first change of a batch to its translation.
    pub(crate) debounce_time: Histogram,
    /// `pilot_xds_push_time`: translating, encoding and publishing one batch.
    pub(crate) push_time: Histogram,
    /// `pilot_proxy_convergence_time`.
    pub(crate) convergence_time: Histogram,
    /// `pilot_services`.
    pub(crate) services: Gauge,
    /// `pilot_total_rejected_configs`.
    pub(crate) rejected_configs: GaugeFamily,
    /// `tulle_status_errors`: statuses that could not be written.
    pub(crate) status_errors: Gauge,
    /// `tulle_deploy_errors`: gateways that could not be deployed.
    pub(crate) deploy_errors: Gauge,
    pub(crate) csr: Gauge,
    pub(crate) issued: Gauge,
    pub(crate) sign_errors: GaugeFamily,
    pub(crate) parse_errors: Gauge,
    pub(crate) authentication_failures: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter = |name, help| registry.gauge(name, help, &[]).get();
        let counters = |name, help, labels| registry.gauge(name, help, labels);
        let histogram = |name, help| registry.histogram(name, help, &[], DEBOUNCE).get();
        registry.build_info("pilot", env!("CARGO_PKG_VERSION"));
        let info = registry.gauge(
            "pilot_info",
            "Pilot version and build information.",
            &["version"],
        );
        info.with(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            registry_events: counters(
                "pilot_k8s_reg_events",
                "Events from k8s registry.",
                &["type", "event"],
            ),
            config_events: counters(
                "pilot_k8s_cfg_events",
                "Events from k8s config.",
                &["type", "event"],
            ),
            push_triggers: counters(
                "pilot_push_triggers",
                "Total number of times a push was triggered, labeled by reason for the push.",
                &["type"],
            ),
            inbound_updates: counters(
                "pilot_inbound_updates",
                "Total number of updates received by pilot.",
                &["type"],
            ),
            debounce_time: histogram(
                "pilot_debounce_time",
                "Delay in seconds between the first config enters debouncing and the merged push request is pushed into the push queue.",
            ),
            push_time: histogram(
                "pilot_xds_push_time",
                "Total time in seconds Pilot takes to push.",
            ),
            convergence_time: registry
                .histogram(
                    "pilot_proxy_convergence_time",
                    "Delay in seconds between config change and a proxy receiving all required configuration.",
                    &[],
                    CONVERGENCE,
                )
                .get(),
            services: registry
                .gauge("pilot_services", "Total services known to pilot.", &[])
                .get(),
            rejected_configs: counters(
                "pilot_total_rejected_configs",
                "Total number of configs that Pilot had to reject or ignore.",
                &["type"],
            ),
            status_errors: counter(
                "tulle_status_errors",
                "Status conditions that could not be written.",
            ),
            deploy_errors: counter(
                "tulle_deploy_errors",
                "Attempts to deploy a waypoint or gateway that failed.",
            ),
            csr: counter(
                "citadel_server_csr_count",
                "The number of CSRs received by the CA.",
            ),
            issued: counter(
                "citadel_server_success_cert_issuance_count",
                "The number of certificates issuances that have succeeded.",
            ),
            sign_errors: counters(
                "citadel_server_csr_sign_err_count",
                "The number of errors occurred when signing the CSR.",
                &["error"],
            ),
            parse_errors: counter(
                "citadel_server_csr_parsing_err_count",
                "The number of errors occurred when parsing the CSR.",
            ),
            authentication_failures: counter(
                "citadel_server_authentication_failure_count",
                "The number of authentication failures.",
            ),
            registry,
        }
    }

    /// Values that others hold and that are read at each scrape.
    pub(crate) fn observe(
        &self,
        counters: Arc<Counters>,
        authority: Arc<ArcSwap<Authority>>,
        pods: Pods,
    ) {
        let started = Instant::now();
        self.registry.collector(move |out| {
            discovery(out, &counters);
            expiry(out, authority.load().not_after());
            gauge(
                out,
                "istiod_uptime_seconds",
                "Current istiod server uptime in seconds",
                started.elapsed().as_secs_f64(),
            );
            gauge(
                out,
                "tulle_known_pods",
                "Pods that the certificate authority knows",
                pods.len() as f64,
            );
        });
    }
}

/// Short names of types, as istiod labels them.
pub(crate) fn short(type_url: &str) -> &str {
    match type_url {
        ADDRESS_TYPE => "wds",
        AUTHORIZATION_TYPE => "wads",
        other => other.rsplit('.').next().unwrap_or(other),
    }
}

fn discovery(out: &mut Encoder, counters: &Counters) {
    let streams = counters.connected().len() as f64;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let help = "Number of endpoints connected to this pilot using XDS.";
    out.describe("pilot_xds", "gauge", help);
    out.sample("pilot_xds", "", &version, streams);
    let types = counters.types();
    let mut family = |name, help, value: fn(&TypeCounts) -> u64| {
        out.describe(name, "gauge", help);
        for (type_url, counts) in &types {
            let labels = [("type", short(type_url))];
            out.sample(name, "", &labels, value(counts) as f64);
        }
    };
    family("pilot_xds_pushes", "Answers sent to proxies.", |counts| {
        counts.answers
    });
    family(
        "pilot_total_xds_rejects",
        "Total number of XDS responses from pilot rejected by proxy.",
        |counts| counts.rejected,
    );
    family(
        "tulle_xds_resources",
        "Resources sent to proxies.",
        |counts| counts.resources,
    );
    family(
        "tulle_xds_removals",
        "Removals sent to proxies.",
        |counts| counts.removals,
    );
    family(
        "tulle_xds_bytes",
        "Bytes of resources sent to proxies.",
        |counts| counts.bytes,
    );
    let failed = counters.failed_handshakes() as f64;
    gauge(
        out,
        "tulle_xds_failed_handshakes",
        "TLS handshakes with proxies that failed.",
        failed,
    );
}

fn expiry(out: &mut Encoder, not_after: SystemTime) {
    let seconds = |duration: Duration| duration.as_secs() as f64;
    let stamp = not_after.duration_since(UNIX_EPOCH).map_or(0.0, seconds);
    let left = match not_after.duration_since(SystemTime::now()) {
        Ok(left) => seconds(left),
        Err(gone) => -seconds(gone.duration()),
    };
    // The chain ends with the signing certificate; it cannot outlive its root in use.
    for which in ["root_cert", "cert_chain"] {
        let name = format!("citadel_server_{which}_expiry_timestamp");
        gauge(
            out,
            &name,
            "The unix timestamp, in seconds, when it will expire.",
            stamp,
        );
        let name = format!("citadel_server_{which}_expiry_seconds");
        gauge(
            out,
            &name,
            "The time remaining, in seconds, before it will expire.",
            left,
        );
    }
}

fn gauge(out: &mut Encoder, name: &str, help: &str, value: f64) {
    out.describe(name, "gauge", help);
    out.sample(name, "", &[], value);
}
