//! What the environment says, by upstream's names and defaults.

mod threads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tulle_api::contract;
use tulle_dns::{Resolvers, Zone};
use tulle_hbone::Settings;
use tulle_xds::endpoint::{Endpoint, RootSource};
use tulle_xds::node::NodeInfo;

use crate::error::Error;

/// How the node proxy runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who we say we are to the control plane.
    pub node: NodeInfo,
    /// Discovery.
    pub discovery: Endpoint,
    /// Certificates.
    pub authority: Endpoint,
    /// `CLUSTER_ID`.
    pub cluster_id: String,
    /// `TRUST_DOMAIN`: of pods that discovery has not told of yet.
    pub trust_domain: String,
    /// `NETWORK`; empty is the default one.
    pub network: String,
    /// `INPOD_UDS`: where the node agent listens.
    pub agent_socket: PathBuf,
    /// `PACKET_MARK`.
    pub mark: u32,
    /// `ENABLE_ORIG_SRC` is not `false`: the application sees the client's address.
    pub original_source: bool,
    /// Worker threads for data.
    pub workers: usize,
    /// `HTTP2_*`, `POOL_*`.
    pub hbone: Settings,
    /// `ENABLE_RESPONSE_BAGGAGE`.
    pub response_baggage: bool,
    /// `SECRET_TTL`.
    pub certificate_lifetime: Duration,
    /// `COMPLIANCE_POLICY=pqc`.
    pub post_quantum: bool,
    /// `ISTIO_META_DNS_CAPTURE` is not `false`: pods may ask this proxy for names. Which do, the redirect rules decide.
    pub dns: bool,
    /// `CLUSTER_DOMAIN`, `IPV6_ENABLED`, `PREFERED_SERVICE_NAMESPACE` (upstream's spelling): how names are read.
    pub zone: Zone,
    /// From `/etc/resolv.conf`, or the file that `TULLE_RESOLV_CONF` names.
    pub resolvers: Resolvers,
    /// How long connections may go on after the process was asked to end.
    pub drain: Duration,
    /// Port of the admin pages, on loopback.
    pub admin_port: u16,
    /// Port of the metrics.
    pub metrics_port: u16,
    /// Port of the readiness page.
    pub ready_port: u16,
}

type Vars = BTreeMap<String, String>;

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
        let text = |name: &str| vars.get(name).filter(|v| !v.is_empty()).cloned();
        let cluster_id = text("ISTIO_META_CLUSTER_ID")
            .or_else(|| text("CLUSTER_ID"))
            .unwrap_or_else(|| contract::CLUSTER_ID.to_owned());
        let mut node = NodeInfo::from_env(vars.clone());
        node.cluster_id.clone_from(&cluster_id);
        let defaults = Settings::default();
        Ok(Self {
            node,
            discovery: endpoint(&vars, &cluster_id, &DISCOVERY),
            authority: endpoint(&vars, &cluster_id, &AUTHORITY),
            cluster_id,
            trust_domain: text("TRUST_DOMAIN").unwrap_or_else(|| contract::TRUST_DOMAIN.to_owned()),
            network: text("NETWORK").unwrap_or_default(),
            agent_socket: text("INPOD_UDS").map_or_else(|| contract::ZDS_SOCKET.into(), Into::into),
            mark: parse(&vars, "PACKET_MARK")?.unwrap_or(contract::MARK_PROXY),
            original_source: parse(&vars, "ENABLE_ORIG_SRC")?.unwrap_or(true),
            workers: threads::workers(&vars)?,
            hbone: Settings {
                stream_window: parse(&vars, "HTTP2_STREAM_WINDOW_SIZE")?
                    .unwrap_or(defaults.stream_window),
                connection_window: parse(&vars, "HTTP2_CONNECTION_WINDOW_SIZE")?
                    .unwrap_or(defaults.connection_window),
                max_frame: parse(&vars, "HTTP2_FRAME_SIZE")?.unwrap_or(defaults.max_frame),
                pool_max_streams: parse(&vars, "POOL_MAX_STREAMS_PER_CONNECTION")?
                    .unwrap_or(defaults.pool_max_streams),
                pool_idle: duration(&vars, "POOL_UNUSED_RELEASE_TIMEOUT")?
                    .unwrap_or(defaults.pool_idle),
                ..defaults
            },
            response_baggage: parse(&vars, "ENABLE_RESPONSE_BAGGAGE")?.unwrap_or(false),
            certificate_lifetime: duration(&vars, "SECRET_TTL")?
                .unwrap_or(Duration::from_secs(24 * 3600)),
            post_quantum: text("COMPLIANCE_POLICY").is_some_and(|p| p == "pqc"),
            dns: text("ISTIO_META_DNS_CAPTURE").is_none_or(|v| v.eq_ignore_ascii_case("true")),
            zone: Zone {
                cluster_domain: text("CLUSTER_DOMAIN")
                    .unwrap_or_else(|| contract::CLUSTER_DOMAIN.to_owned())
                    .trim_matches('.')
                    .into(),
                ipv6: parse(&vars, "IPV6_ENABLED")?.unwrap_or(true),
                preferred_namespace: text("PREFERED_SERVICE_NAMESPACE").map(Into::into),
            },
            resolvers: resolvers(text("TULLE_RESOLV_CONF").as_deref()),
            drain: drain(&vars)?,
            admin_port: contract::PORT_ADMIN,
            metrics_port: contract::PORT_METRICS,
            ready_port: contract::PORT_READY,
        })
    }
}

/// Without a readable file nobody can be asked: names of the mesh are answered all the same.
fn resolvers(path: Option<&str>) -> Resolvers {
    let path = path.unwrap_or("/etc/resolv.conf");
    match std::fs::read_to_string(path) {
        Ok(text) => Resolvers::parse(&text),
        Err(error) => {
            tracing::warn!(path, %error, "no resolver is known");
            Resolvers::default()
        }
    }
}

/// The names of one of the two connections to the control plane.
struct EndpointNames {
    address: &'static str,
    roots: &'static str,
    server_name: &'static str,
    headers: &'static str,
}

const DISCOVERY: EndpointNames = EndpointNames {
    address: "XDS_ADDRESS",
    roots: "XDS_ROOT_CA",
    server_name: "ALT_XDS_HOSTNAME",
    headers: "XDS_HEADER_",
};

const AUTHORITY: EndpointNames = EndpointNames {
    address: "CA_ADDRESS",
    roots: "CA_ROOT_CA",
    server_name: "ALT_CA_HOSTNAME",
    headers: "CA_HEADER_",
};

fn endpoint(vars: &Vars, cluster_id: &str, names: &EndpointNames) -> Endpoint {
    let text = |name: &str| vars.get(name).filter(|v| !v.is_empty()).cloned();
    let default = if vars.contains_key("KUBERNETES_SERVICE_HOST") {
        "https://istiod.istio-system.svc:15012"
    } else {
        "https://localhost:15012"
    };
    let address = text(names.address).unwrap_or_else(|| default.to_owned());
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

/// The last seconds of the grace period are for cutting what is left, in order.
fn drain(vars: &Vars) -> Result<Duration, Error> {
    if let Some(deadline) = duration(vars, "CONNECTION_TERMINATION_DEADLINE")? {
        return Ok(deadline);
    }
    Ok(
        match parse::<u64>(vars, "TERMINATION_GRACE_PERIOD_SECONDS")? {
            None => Duration::from_secs(5),
            Some(grace) if grace > 10 => Duration::from_secs(grace - 5),
            Some(grace) => Duration::from_secs(grace.saturating_sub(1).max(1)),
        },
    )
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    vars: &Vars,
    name: &'static str,
) -> Result<Option<T>, Error> {
    let Some(value) = vars.get(name).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let parsed = value
        .parse()
        .map_err(|error: T::Err| invalid(name, value, error));
    parsed.map(Some)
}

fn invalid(name: &'static str, value: &str, why: impl std::fmt::Display) -> Error {
    Error::Option {
        name,
        value: value.to_owned(),
        why: why.to_string(),
    }
}

/// `90s`, `5m`, `1h30m`, `500ms`, or plain seconds.
fn duration(vars: &Vars, name: &'static str) -> Result<Option<Duration>, Error> {
    let Some(value) = vars.get(name).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let wrong = || invalid(name, value, "it is no duration such as 90s, 5m or 24h");
    let mut total = Duration::ZERO;
    let mut rest = value.trim();
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let milliseconds = match unit.trim() {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(milliseconds).ok_or_else(wrong)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(Some(total))
}

#[cfg(test)]
mod tests;
