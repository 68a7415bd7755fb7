//! Traffic policies, field by field.
//!
//! What is set for a port replaces balancing, pools, outlier detection and TLS as a whole, as in Istio: a field that is left out
//! there is a default. A subset's fields replace the rule's one by one.

use std::sync::Arc;
use std::time::Duration;

use tulle_api::networking::{
    ClientTlsSettings, ConnectionPoolSettings, ConsistentHashLb, H2UpgradePolicy,
    LoadBalancerSettings, LocalityLbSetting, OutlierDetection as ApiOutliers, PortTrafficPolicy,
    ProxyProtocolVersion, RetryBudget, SimpleLb, TrafficPolicy as ApiPolicy,
};
use tulle_route::resource::{
    Balancing, CircuitBreaker, ConsistentHash, HashKey, HttpSettings, LocalityBalancing,
    LocalityShare, OutlierDetection, PortPolicy, TcpSettings, TrafficPolicy, UpgradeHttp2,
};

use super::by_port;
use crate::cluster::Cluster;
use crate::networking::findings::{Findings, shown};
use crate::networking::names::duration;
use crate::service::ServiceFacts;

/// Share of retries that Istio allows when only a budget is asked for.
const BUDGET_PERCENT: f64 = 20.0;

/// Reads policies for one service.
pub(super) struct Reader<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) service: &'a ServiceFacts,
    /// Namespace of the proxies that the policy is for.
    pub(super) client: &'a str,
    pub(super) findings: &'a mut Findings,
}

/// The fields that a port can have, too.
#[derive(Clone, Copy, Default)]
struct Fields<'a> {
    balancer: Option<&'a LoadBalancerSettings>,
    pool: Option<&'a ConnectionPoolSettings>,
    outliers: Option<&'a ApiOutliers>,
    tls: Option<&'a ClientTlsSettings>,
}

impl<'a> Fields<'a> {
    fn of(policy: &'a ApiPolicy) -> Self {
        Self {
            balancer: policy.load_balancer.as_ref(),
            pool: policy.connection_pool.as_ref(),
            outliers: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
        }
    }

    fn of_port(policy: &'a PortTrafficPolicy) -> Self {
        Self {
            balancer: policy.load_balancer.as_ref(),
            pool: policy.connection_pool.as_ref(),
            outliers: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            balancer: self.balancer.or(other.balancer),
            pool: self.pool.or(other.pool),
            outliers: self.outliers.or(other.outliers),
            tls: self.tls.or(other.tls),
        }
    }
}

impl Reader<'_> {
    /// For all ports, or for each: a rule's policy, and the subset's above it.
    pub(super) fn parts(
        &mut self,
        rule: &ApiPolicy,
        subset: Option<&ApiPolicy>,
        path: &str,
    ) -> (TrafficPolicy, Vec<PortPolicy>) {
        let own = subset.unwrap_or(rule);
        self.unsupported(own, path);
        let with_ports =
            !rule.port_level_settings.is_empty() || !own.port_level_settings.is_empty();
        if !with_ports {
            // Of a subset only what it sets itself; the rule's is below it anyway.
            return (self.policy(Fields::of(own), own, path), Vec::new());
        }
        let service = self.service;
        let ports = by_port(service, |port| {
            let mut fields = of_port(rule, port).map_or_else(|| Fields::of(rule), Fields::of_port);
            if let Some(subset) = subset {
                fields = Fields::of(subset).or(fields);
                if let Some(own) = of_port(subset, port) {
                    fields = Fields::of_port(own);
                }
            }
            self.policy(fields, own, path)
        });
        (TrafficPolicy::default(), ports)
    }

    fn unsupported(&mut self, policy: &ApiPolicy, path: &str) {
        if policy.tunnel.is_some() {
            self.findings
                .unsupported(format!("{path}.tunnel"), "has no effect");
        }
        let balancers = policy.load_balancer.iter().chain(
            policy
                .port_level_settings
                .iter()
                .filter_map(|p| p.load_balancer.as_ref()),
        );
        for balancer in balancers {
            if balancer.zone_aware_lb_setting.is_some() {
                self.findings.unsupported(
                    format!("{path}.loadBalancer.zoneAwareLbSetting"),
                    "has no effect in ambient mode",
                );
            }
        }
        for port in &policy.port_level_settings {
            let number = port
                .port
                .as_ref()
                .and_then(|port| port.number)
                .unwrap_or_default();
            if !self
                .service
                .ports
                .iter()
                .any(|port| u32::from(port.number) == number)
            {
                let why = format!("{} has no port {number}", self.service.key);
                self.findings
                    .invalid(format!("{path}.portLevelSettings"), why);
            }
        }
    }

    fn policy(&mut self, fields: Fields<'_>, whole: &ApiPolicy, path: &str) -> TrafficPolicy {
        let (balancing, locality, warm_up) = match fields.balancer {
            Some(balancer) => self.balancer(balancer, path),
            None => (None, None, None),
        };
        let breaker = breaker(fields.pool, whole.retry_budget.as_ref());
        let (tcp, http) = match fields.pool {
            Some(pool) => self.pool(pool, path),
            None => (None, None),
        };
        TrafficPolicy {
            balancing,
            locality,
            warm_up,
            breaker: (breaker != CircuitBreaker::default()).then_some(breaker),
            tcp,
            http,
            outliers: fields
                .outliers
                .map(|outliers| self.outliers(outliers, path)),
            tls: fields.tls.and_then(|tls| self.tls(tls, path)),
            proxy_protocol: whole
                .proxy_protocol
                .as_ref()
                .map(|proxy| match proxy.version {
                    Some(ProxyProtocolVersion::V2) => 2,
                    _ => 1,
                }),
            protocol: None,
        }
    }

    fn balancer(
        &mut self,
        balancer: &LoadBalancerSettings,
        path: &str,
    ) -> (
        Option<Balancing>,
        Option<LocalityBalancing>,
        Option<Duration>,
    ) {
        let simple = balancer.simple.and_then(|simple| match simple {
            SimpleLb::RoundRobin => Some(Balancing::RoundRobin),
            SimpleLb::LeastRequest | SimpleLb::LeastConn => Some(Balancing::LeastRequest),
            SimpleLb::Random => Some(Balancing::Random),
            SimpleLb::Passthrough => Some(Balancing::Passthrough),
            SimpleLb::Unspecified | SimpleLb::Unknown => None,
        });
        let hash = balancer
            .consistent_hash
            .as_ref()
            .and_then(|hash| self.hash(hash, path));
        let warm_up = match (&balancer.warmup, &balancer.warmup_duration_secs) {
            (Some(warmup), _) => self.span(
                &format!("{path}.loadBalancer.warmup.duration"),
                Some(&warmup.duration),
            ),
            (None, text) => self.span(
                &format!("{path}.loadBalancer.warmupDurationSecs"),
                text.as_ref(),
            ),
        };
        (
            hash.or(simple),
            balancer.locality_lb_setting.as_ref().map(locality),
            warm_up,
        )
    }

    fn hash(&mut self, hash: &ConsistentHashLb, path: &str) -> Option<Balancing> {
        let path = format!("{path}.loadBalancer.consistentHash");
        let key = if let Some(name) = &hash.http_header_name {
            HashKey::Header(name.to_ascii_lowercase().into())
        } else if let Some(cookie) = &hash.http_cookie {
            if !cookie.attributes.is_empty() {
                self.findings
                    .unsupported(format!("{path}.httpCookie.attributes"), "has no effect");
            }
            HashKey::Cookie {
                name: cookie.name.as_str().into(),
                path: cookie
                    .path
                    .as_deref()
                    .filter(|path| !path.is_empty())
                    .map(Arc::from),
                ttl: self.span(&format!("{path}.httpCookie.ttl"), cookie.ttl.as_ref()),
            }
        } else if hash.use_source_ip == Some(true) {
            HashKey::SourceAddress
        } else if let Some(name) = &hash.http_query_parameter_name {
            HashKey::Query(name.as_str().into())
        } else {
            self.findings.invalid(path, "has no key");
            return None;
        };
        let ring = hash
            .ring_hash
            .as_ref()
            .and_then(|ring| ring.minimum_ring_size);
        Some(Balancing::Consistent(ConsistentHash {
            key,
            maglev: hash
                .maglev
                .as_ref()
                .map(|maglev| maglev.table_size.unwrap_or(MAGLEV)),
            minimum_ring: ring.or(hash.minimum_ring_size).filter(|size| *size > 0),
        }))
    }

    fn pool(
        &mut self,
        pool: &ConnectionPoolSettings,
        path: &str,
    ) -> (Option<TcpSettings>, Option<HttpSettings>) {
        let path = format!("{path}.connectionPool");
        let tcp = pool.tcp.as_ref().map(|tcp| {
            if tcp.tcp_keepalive.is_some() {
                self.findings
                    .unsupported(format!("{path}.tcp.tcpKeepalive"), "has no effect");
            }
            TcpSettings {
                connect_timeout: self.span(
                    &format!("{path}.tcp.connectTimeout"),
                    tcp.connect_timeout.as_ref(),
                ),
                max_connection_duration: self.span(
                    &format!("{path}.tcp.maxConnectionDuration"),
                    tcp.max_connection_duration.as_ref(),
                ),
                idle_timeout: self.span(
                    &format!("{path}.tcp.idleTimeout"),
                    tcp.idle_timeout.as_ref(),
                ),
            }
        });
        let http = pool.http.as_ref().map(|http| {
            if http.http2_keep_alive.is_some() {
                self.findings
                    .unsupported(format!("{path}.http.http2KeepAlive"), "has no effect");
            }
            HttpSettings {
                max_requests_per_connection: count(http.max_requests_per_connection),
                idle_timeout: self.span(
                    &format!("{path}.http.idleTimeout"),
                    http.idle_timeout.as_ref(),
                ),
                max_concurrent_streams: count(http.max_concurrent_streams),
                upgrade: http.h2_upgrade_policy.and_then(|upgrade| match upgrade {
                    H2UpgradePolicy::Upgrade => Some(UpgradeHttp2::Always),
                    H2UpgradePolicy::DoNotUpgrade => Some(UpgradeHttp2::Never),
                    H2UpgradePolicy::Default | H2UpgradePolicy::Unknown => None,
                }),
                use_client_protocol: http.use_client_protocol.unwrap_or_default(),
            }
        });
        (tcp, http)
    }

    fn outliers(&mut self, outliers: &ApiOutliers, path: &str) -> OutlierDetection {
        let path = format!("{path}.outlierDetection");
        if !outliers.outlier_detection_http_error_codes.is_empty() {
            self.findings.unsupported(
                format!("{path}.outlierDetectionHttpErrorCodes"),
                "has no effect",
            );
        }
        OutlierDetection {
            consecutive_5xx_errors: outliers.consecutive_5xx_errors,
            // Istio's older name counts gateway errors.
            consecutive_gateway_errors: outliers
                .consecutive_gateway_errors
                .or(count(outliers.consecutive_errors)),
            consecutive_local_origin_failures: outliers.consecutive_local_origin_failures,
            split_external_local_origin_errors: outliers
                .split_external_local_origin_errors
                .unwrap_or_default(),
            interval: self.span(&format!("{path}.interval"), outliers.interval.as_ref()),
            base_ejection_time: self.span(
                &format!("{path}.baseEjectionTime"),
                outliers.base_ejection_time.as_ref(),
            ),
            max_ejection_percent: count(outliers.max_ejection_percent),
            min_health_percent: count(outliers.min_health_percent),
        }
    }

    fn span(&mut self, path: &str, text: Option<&String>) -> Option<Duration> {
        let text = text?;
        let span = duration(text);
        if span.is_none() {
            self.findings.invalid(
                path,
                format!("{:?} is no time span such as 1.5s", shown(text)),
            );
        }
        span
    }
}

/// Envoy's default size of Maglev's table.
const MAGLEV: u64 = 65537;

fn of_port(policy: &ApiPolicy, port: u16) -> Option<&PortTrafficPolicy> {
    let number = |p: &&PortTrafficPolicy| {
        p.port.as_ref().and_then(|port| port.number) == Some(u32::from(port))
    };
    policy.port_level_settings.iter().find(number)
}

fn breaker(pool: Option<&ConnectionPoolSettings>, budget: Option<&RetryBudget>) -> CircuitBreaker {
    let http = pool.and_then(|pool| pool.http.as_ref());
    let tcp = pool.and_then(|pool| pool.tcp.as_ref());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0 to 100"
    )]
    let percent = budget.map(|budget| {
        budget
            .percent
            .unwrap_or(BUDGET_PERCENT)
            .round()
            .clamp(0.0, 100.0) as u32
    });
    CircuitBreaker {
        max_connections: count(tcp.and_then(|tcp| tcp.max_connections)),
        max_pending_requests: count(http.and_then(|http| http.http1_max_pending_requests)),
        max_requests: count(http.and_then(|http| http.http2_max_requests)),
        max_retries: count(http.and_then(|http| http.max_retries)),
        retry_budget_percent: percent,
        retry_budget_minimum: budget.and_then(|budget| budget.min_retry_concurrency),
    }
}

/// Zero and less say nothing.
fn count(number: Option<i32>) -> Option<u32> {
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0)
}

fn locality(setting: &LocalityLbSetting) -> LocalityBalancing {
    let shares = setting.distribute.iter().map(|share| LocalityShare {
        from: share.from.as_deref().unwrap_or_default().into(),
        to: share
            .to
            .iter()
            .map(|(to, percent)| (to.as_str().into(), *percent))
            .collect(),
    });
    let failover = setting.failover.iter().map(|failover| {
        let text = |text: &Option<String>| Arc::<str>::from(text.as_deref().unwrap_or_default());
        (text(&failover.from), text(&failover.to))
    });
    LocalityBalancing {
        enabled: setting.enabled.unwrap_or(true),
        distribute: shares.collect(),
        failover: failover.collect(),
        priority: setting
            .failover_priority
            .iter()
            .map(|label| label.as_str().into())
            .collect(),
    }
}
