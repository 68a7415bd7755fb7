//! What the environment says, by the names and defaults of Istio's gateway pods.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tulle_api::contract;
use tulle_hbone::Settings;
use tulle_model::Identity;
use tulle_xds::endpoint::{Endpoint, RootSource};
use tulle_xds::node::{NodeInfo, ProxyKind};

use crate::error::Error;
use crate::limits::{DEFAULT_WORKERS, KEYS_FRESH};

/// How the proxy runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who we say we are to the control plane.
    pub node: NodeInfo,
    /// Discovery.
    pub discovery: Endpoint,
    /// Certificates.
    pub authority: Endpoint,
    /// Our own identity.
    pub identity: Identity,
    /// `ISTIO_META_CLUSTER_ID`.
    pub cluster_id: String,
    /// `ISTIO_META_NETWORK`; empty is the default one.
    pub network: String,
    /// Worker threads.
    pub workers: usize,
    /// `HTTP2_*`, `POOL_*`.
    pub hbone: Settings,
    /// `SECRET_TTL`.
    pub certificate_lifetime: Duration,
    /// `COMPLIANCE_POLICY=pqc`.
    pub post_quantum: bool,
    /// `BLOCKED_CIDRS_IN_JWKS_URIS`: networks where no keys of issuers are asked for.
    pub blocked_key_networks: Vec<IpNet>,
    /// `PILOT_JWT_PUB_KEY_REFRESH_INTERVAL`: after this time, fetched keys of issuers are fetched again.
    pub key_refresh: Duration,
    /// How long requests may go on after the process was asked to end.
    pub drain: Duration,
    /// Where HBONE is accepted, when we are a waypoint.
    pub hbone_port: u16,
    /// Port of the admin pages, on loopback.
    pub admin_port: u16,
    /// Ports of the metrics.
    pub metrics_ports: [u16; 2],
    /// Port of the readiness page.
    pub ready_port: u16,
}

type Vars = BTreeMap<String, String>;

/// Envoy's own port of metrics; ours says the same on both.
const PORT_PROXY_METRICS: u16 = 15090;

impl Options {
    /// Reads the environment of the process.
    pub fn from_env() -> Result<Self, Error> {
        // Names and values that are not UTF-8 are none of ours.
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::from_vars(vars.collect())
    }

    /// Reads any environment.
    pub fn from_vars(vars: Vars) -> Result<Self, Error> {
        let any = |names: &[&str]| first(&vars, names).map(str::to_owned);
        let needed =
            |names: &'static [&'static str]| any(names).ok_or(Error::Missing { name: names[0] });
        let cluster_id = any(&["ISTIO_META_CLUSTER_ID", "CLUSTER_ID"])
            .unwrap_or_else(|| contract::CLUSTER_ID.to_owned());
        let mut node = NodeInfo::from_env(vars.clone());
        node.cluster_id.clone_from(&cluster_id);
        node.kind = match any(&["PROXY_ROLE"]).as_deref() {
            Some("router") => ProxyKind::Router,
            _ => ProxyKind::Waypoint,
        };
        if let Some(name) = any(&["NODE_NAME", "ISTIO_META_NODE_NAME"]) {
            node.node = name;
        }
        let identity = Identity::new(
            any(&["TRUST_DOMAIN"]).unwrap_or_else(|| contract::TRUST_DOMAIN.to_owned()),
            needed(&["POD_NAMESPACE"])?,
            needed(&["SERVICE_ACCOUNT", "ISTIO_META_SERVICE_ACCOUNT"])?,
        );
        let defaults = Settings::default();
        Ok(Self {
            node,
            discovery: endpoint(&vars, &cluster_id, &DISCOVERY),
            authority: endpoint(&vars, &cluster_id, &AUTHORITY),
            identity,
            network: any(&["ISTIO_META_NETWORK", "NETWORK"]).unwrap_or_default(),
            workers: workers(&vars)?,
            hbone: Settings {
                stream_window: parse(&vars, "HTTP2_STREAM_WINDOW_SIZE")?
                    .unwrap_or(defaults.stream_window),
                connection_window: parse(&vars, "HTTP2_CONNECTION_WINDOW_SIZE")?
                    .unwrap_or(defaults.connection_window),
                max_frame: parse(&vars, "HTTP2_FRAME_SIZE")?.unwrap_or(defaults.max_frame),
                pool_max_streams: parse(&vars, "POOL_MAX_STREAMS_PER_CONNECTION")?
                    .unwrap_or(defaults.pool_max_streams),
                ..defaults
            },
            certificate_lifetime: seconds(&vars, "SECRET_TTL")?
                .unwrap_or(Duration::from_secs(24 * 3600)),
            post_quantum: any(&["COMPLIANCE_POLICY"]).is_some_and(|p| p == "pqc"),
            blocked_key_networks: networks(&vars, "BLOCKED_CIDRS_IN_JWKS_URIS")?,
            key_refresh: seconds(&vars, "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL")?
                .filter(|time| !time.is_zero())
                .unwrap_or(KEYS_FRESH),
            drain: drain(&vars)?,
            hbone_port: contract::PORT_HBONE,
            admin_port: contract::PORT_ADMIN,
            metrics_ports: [contract::PORT_METRICS, PORT_PROXY_METRICS],
            ready_port: contract::PORT_READY,
            cluster_id,
        })
    }

    /// Whether a port of this pod is the proxy's own: nobody may be led there.
    pub(crate) fn is_own_port(&self, port: u16) -> bool {
        [self.hbone_port, self.admin_port, self.ready_port].contains(&port)
            || self.metrics_ports.contains(&port)
    }
}

/// The names of one of the two connections to the control plane.
struct EndpointNames {
    address: [&'static str; 3],
    roots: &'static str,
    server_name: &'static str,
    headers: &'static str,
}

const DISCOVERY: EndpointNames = EndpointNames {
    address: ["XDS_ADDRESS", "CA_ADDRESS", "CA_ADDR"],
    roots: "XDS_ROOT_CA",
    server_name: "ALT_XDS_HOSTNAME",
    headers: "XDS_HEADER_",
};

const AUTHORITY: EndpointNames = EndpointNames {
    address: ["CA_ADDRESS", "CA_ADDR", "XDS_ADDRESS"],
    roots: "CA_ROOT_CA",
    server_name: "ALT_CA_HOSTNAME",
    headers: "CA_HEADER_",
};

fn endpoint(vars: &Vars, cluster_id: &str, names: &EndpointNames) -> Endpoint {
    let text = |name: &str| first(vars, &[name]).map(str::to_owned);
    let address = first(vars, &names.address)
        .unwrap_or("https://istiod.istio-system.svc:15012")
        .to_owned();
    let roots = match text(names.roots) {
        Some(pem) if pem.contains("-----BEGIN") => RootSource::Inline(pem),
        Some(path) => RootSource::File(path.into()),
        None => RootSource::File(contract::ROOT_PATH.into()),
    };
    let token = text("AUTH_TOKEN").unwrap_or_else(|| contract::TOKEN_PATH.to_owned());
    let headers = vars.iter().filter_map(|(name, value)| {
        let header = name.strip_prefix(names.headers)?;
        Some((header.to_ascii_lowercase(), value.clone()))
    });
    Endpoint {
        address: if address.contains("://") {
            address
        } else {
            format!("https://{address}")
        },
        roots,
        server_name: text(names.server_name),
        token: std::path::Path::new(&token).exists().then(|| token.into()),
        cluster_id: cluster_id.to_owned(),
        headers: headers.collect(),
    }
}

/// `PROXY_CONCURRENCY`, else by the pod's CPU limit, else [`DEFAULT_WORKERS`]; never more than there are CPUs, unless asked for.
fn workers(vars: &Vars) -> Result<usize, Error> {
    let found = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if let Some(asked) = parse::<usize>(vars, "PROXY_CONCURRENCY")? {
        return Ok(if asked == 0 { found } else { asked });
    }
    let limit: Option<usize> = parse(vars, "ISTIO_CPU_LIMIT")?;
    Ok(limit
        .filter(|n| *n > 0)
        .unwrap_or(DEFAULT_WORKERS)
        .min(found))
}

/// The last seconds of the grace period are for cutting what is left, in order.
fn drain(vars: &Vars) -> Result<Duration, Error> {
    if let Some(asked) = seconds(vars, "TERMINATION_DRAIN_DURATION_SECONDS")? {
        return Ok(asked);
    }
    let grace: Option<u64> = parse(vars, "TERMINATION_GRACE_PERIOD_SECONDS")?;
    Ok(Duration::from_secs(match grace {
        None => 5,
        Some(grace) if grace > 10 => grace - 5,
        Some(grace) => grace.saturating_sub(1).max(1),
    }))
}

fn first<'v>(vars: &'v Vars, names: &[&str]) -> Option<&'v str> {
    let mut values = names.iter().filter_map(|name| vars.get(*name));
    values.find(|v| !v.is_empty()).map(String::as_str)
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    vars: &Vars,
    name: &'static str,
) -> Result<Option<T>, Error> {
    let Some(value) = first(vars, &[name]) else {
        return Ok(None);
    };
    let parsed = value.parse().map_err(|error: T::Err| Error::Option {
        name,
        value: value.to_owned(),
        why: error.to_string(),
    });
    parsed.map(Some)
}

/// With commas between them.
fn networks(vars: &Vars, name: &'static str) -> Result<Vec<IpNet>, Error> {
    let value = first(vars, &[name]).unwrap_or_default();
    let parts = value.split(',').map(str::trim).filter(|p| !p.is_empty());
    parts
        .map(|part| {
            part.parse().map_err(|_| Error::Option {
                name,
                value: part.to_owned(),
                why: "it is no network such as 10.0.0.0/8".to_owned(),
            })
        })
        .collect()
}

/// `90s`, `5m`, `24h`, `500ms`, or plain seconds.
fn seconds(vars: &Vars, name: &'static str) -> Result<Option<Duration>, Error> {
    let Some(value) = first(vars, &[name]) else {
        return Ok(None);
    };
    let wrong = || Error::Option {
        name,
        value: value.to_owned(),
        why: "it is no duration such as 90s, 5m or 24h".to_owned(),
    };
    let digits = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit.trim_end_matches("0s").trim_end_matches("0m") {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(milliseconds)
        .map(|ms| Some(Duration::from_millis(ms)))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
