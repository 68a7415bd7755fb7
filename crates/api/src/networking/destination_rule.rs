//! How connections to a host are made.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::virtual_service::PortSelector;
use crate::shape::{Duration, choice, shape};
use crate::status::IstioStatus;

shape! {
    /// How connections to a host are made.
    #[derive(CustomResource)]
    #[kube(
        group = "networking.istio.io",
        version = "v1",
        kind = "DestinationRule",
        plural = "destinationrules",
        shortname = "dr",
        category = "istio-io",
        category = "networking-istio-io",
        namespaced,
        status = "IstioStatus",
        doc = "How connections to a host are made: balancing, limits, TLS, subsets.",
        printcolumn = r#"{"name":"Host","type":"string","description":"The host that the rule is about.","jsonPath":".spec.host"}"#,
        printcolumn = r#"{"name":"Age","type":"date","description":"When the resource was made.","jsonPath":".metadata.creationTimestamp"}"#
    )]
    DestinationRuleSpec {
        = host: String,
        traffic_policy: Option<TrafficPolicy>,
        subsets: Vec<Subset>,
        export_to: Vec<String>,
        workload_selector: Option<crate::selector::WorkloadSelector>,
    }
}

shape! {
    /// Endpoints of a host that share labels.
    Subset {
        = name: String,
        labels: BTreeMap<String, String>,
        traffic_policy: Option<TrafficPolicy>,
    }
}

shape! {
    /// Balancing, limits and TLS.
    TrafficPolicy {
        load_balancer: Option<LoadBalancerSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTlsSettings>,
        #[schemars(length(max = 4096))]
        port_level_settings: Vec<PortTrafficPolicy>,
        tunnel: Option<TunnelSettings>,
        proxy_protocol: Option<ProxyProtocol>,
        retry_budget: Option<RetryBudget>,
    }
}

shape! {
    /// The same for one port.
    PortTrafficPolicy {
        port: Option<PortSelector>,
        load_balancer: Option<LoadBalancerSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTlsSettings>,
    }
}

shape! {
    /// Carries TCP in HTTP CONNECT.
    TunnelSettings {
        = target_host: String,
        = target_port: u32,
        protocol: Option<String>,
    }
}

shape! {
    /// PROXY protocol towards the endpoint.
    ProxyProtocol {
        version: Option<ProxyProtocolVersion>,
    }
}

choice! {
    /// Version of the PROXY protocol.
    ProxyProtocolVersion {
        V1 = "V1",
        V2 = "V2",
    }
}

shape! {
    /// Share of requests that may be retries.
    RetryBudget {
        #[schemars(range(min = 0, max = 100))]
        percent: Option<f64>,
        min_retry_concurrency: Option<u32>,
        budget_interval: Option<Duration>,
    }
}

shape! {
    /// How an endpoint is chosen.
    LoadBalancerSettings {
        simple: Option<SimpleLb>,
        consistent_hash: Option<ConsistentHashLb>,
        locality_lb_setting: Option<LocalityLbSetting>,
        zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
        warmup_duration_secs: Option<Duration>,
        warmup: Option<WarmupConfiguration>,
    }
}

choice! {
    /// Ways to choose that need no settings.
    SimpleLb {
        Unspecified = "UNSPECIFIED",
        LeastConn = "LEAST_CONN",
        Random = "RANDOM",
        Passthrough = "PASSTHROUGH",
        RoundRobin = "ROUND_ROBIN",
        LeastRequest = "LEAST_REQUEST",
    }
}

shape! {
    /// The same endpoint for the same key.
    ConsistentHashLb {
        http_header_name: Option<String>,
        http_cookie: Option<HttpCookie>,
        use_source_ip: Option<bool>,
        http_query_parameter_name: Option<String>,
        ring_hash: Option<RingHash>,
        maglev: Option<Maglev>,
        minimum_ring_size: Option<u64>,
    }
}

shape! {
    /// A cookie as key.
    HttpCookie {
        = name: String,
        path: Option<String>,
        ttl: Option<Duration>,
        attributes: Vec<CookieAttribute>,
    }
}

shape! {
    /// An attribute of a cookie.
    CookieAttribute {
        = name: String,
        value: Option<String>,
    }
}

shape! {
    /// Settings of the ring.
    RingHash {
        minimum_ring_size: Option<u64>,
    }
}

shape! {
    /// Settings of Maglev's table.
    Maglev {
        table_size: Option<u64>,
    }
}

shape! {
    /// Traffic by place.
    LocalityLbSetting {
        distribute: Vec<Distribute>,
        failover: Vec<Failover>,
        failover_priority: Vec<String>,
        enabled: Option<bool>,
    }
}

shape! {
    /// Traffic by zone.
    ZoneAwareLbSetting {
        enabled: Option<bool>,
        failover: Vec<Failover>,
        failover_priority: Vec<String>,
        #[schemars(range(min = 1))]
        min_cluster_size: Option<u64>,
    }
}

shape! {
    /// Shares of traffic from one place.
    Distribute {
        from: Option<String>,
        to: BTreeMap<String, u32>,
    }
}

shape! {
    /// Where traffic goes when a place fails.
    Failover {
        from: Option<String>,
        to: Option<String>,
    }
}

shape! {
    /// New endpoints get traffic slowly.
    WarmupConfiguration {
        = duration: Duration,
        #[schemars(range(min = 0, max = 100))]
        minimum_percent: Option<f64>,
        #[schemars(range(min = 0))]
        aggression: Option<f64>,
    }
}

shape! {
    /// Limits for connections.
    ConnectionPoolSettings {
        tcp: Option<TcpSettings>,
        http: Option<HttpSettings>,
    }
}

shape! {
    /// Limits for TCP.
    TcpSettings {
        max_connections: Option<i32>,
        connect_timeout: Option<Duration>,
        tcp_keepalive: Option<TcpKeepalive>,
        max_connection_duration: Option<Duration>,
        idle_timeout: Option<Duration>,
    }
}

shape! {
    /// Keepalive of TCP.
    TcpKeepalive {
        probes: Option<u32>,
        time: Option<Duration>,
        interval: Option<Duration>,
    }
}

shape! {
    /// Limits for HTTP.
    HttpSettings {
        #[serde(rename = "http1MaxPendingRequests")]
        http1_max_pending_requests: Option<i32>,
        #[serde(rename = "http2MaxRequests")]
        http2_max_requests: Option<i32>,
        max_requests_per_connection: Option<i32>,
        max_retries: Option<i32>,
        idle_timeout: Option<Duration>,
        #[serde(rename = "h2UpgradePolicy")]
        h2_upgrade_policy: Option<H2UpgradePolicy>,
        use_client_protocol: Option<bool>,
        max_concurrent_streams: Option<i32>,
        #[serde(rename = "http2KeepAlive")]
        http2_keep_alive: Option<Http2KeepAlive>,
    }
}

shape! {
    /// Keepalive of HTTP/2.
    Http2KeepAlive {
        interval: Option<Duration>,
        timeout: Option<Duration>,
    }
}

choice! {
    /// Whether HTTP/1.1 is upgraded.
    H2UpgradePolicy {
        Default = "DEFAULT",
        DoNotUpgrade = "DO_NOT_UPGRADE",
        Upgrade = "UPGRADE",
    }
}

shape! {
    /// When endpoints are left alone for a while.
    OutlierDetection {
        consecutive_errors: Option<i32>,
        split_external_local_origin_errors: Option<bool>,
        consecutive_local_origin_failures: Option<u32>,
        consecutive_gateway_errors: Option<u32>,
        #[serde(rename = "consecutive5xxErrors")]
        consecutive_5xx_errors: Option<u32>,
        interval: Option<Duration>,
        base_ejection_time: Option<Duration>,
        max_ejection_percent: Option<i32>,
        min_health_percent: Option<i32>,
        #[schemars(inner(range(min = 100, max = 599)))]
        outlier_detection_http_error_codes: Vec<u32>,
    }
}

shape! {
    /// TLS towards the endpoint.
    ClientTlsSettings {
        mode: Option<ClientTlsMode>,
        client_certificate: Option<String>,
        private_key: Option<String>,
        ca_certificates: Option<String>,
        credential_name: Option<String>,
        subject_alt_names: Vec<String>,
        sni: Option<String>,
        insecure_skip_verify: Option<bool>,
        ca_crl: Option<String>,
    }
}

choice! {
    /// Kind of TLS.
    ClientTlsMode {
        Disable = "DISABLE",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        IstioMutual = "ISTIO_MUTUAL",
    }
}
