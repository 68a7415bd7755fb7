//! Envoy with the same job: the same listeners, routes, retries and headers as our proxies have by default.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::control;
use super::mesh::{self, Kind, PORT_APPLICATION, PORT_GATEWAY, ROUTES_PER_SERVICE};

/// Port of HBONE.
const PORT_HBONE: u16 = 15008;

/// Writes the configuration into `directory`.
pub(super) fn configure(
    directory: &Path,
    kind: Kind,
    routes: usize,
    application: IpAddr,
) -> Result<Value> {
    let services = routes.div_ceil(ROUTES_PER_SERVICE);
    let endpoint = match kind {
        Kind::Gateway => socket(application, PORT_APPLICATION),
        Kind::Waypoint => internal("out"),
    };
    let mut clusters: Vec<Value> = (0..services)
        .map(|n| cluster(&format!("s{n}"), &endpoint))
        .collect();
    let mut listeners = Vec::new();
    match kind {
        Kind::Gateway => {
            let filters = json!([manager(kind, routes)]);
            listeners.push(listener(PORT_GATEWAY, json!([{ "filters": filters }])));
        }
        Kind::Waypoint => {
            let certificates = certificates(directory)?;
            let incoming = json!({
                "filters": [tunnels()],
                "transport_socket": tls("DownstreamTlsContext", json!({
                    "require_client_certificate": true,
                    "common_tls_context": certificates,
                })),
            });
            listeners.push(listener(PORT_HBONE, json!([incoming])));
            listeners.push(inside("in", manager(kind, routes)));
            listeners.push(inside("out", tunnelled(application)));
            clusters.push(cluster("in", &internal("in")));
            let mut out = cluster("tunnels", &socket(application, PORT_HBONE));
            out["transport_socket"] = tls(
                "UpstreamTlsContext",
                json!({ "common_tls_context": certificates }),
            );
            out["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": { "allow_connect": true } },
                },
            });
            clusters.push(out);
        }
    }
    Ok(json!({
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            },
        }],
        "static_resources": { "listeners": listeners, "clusters": clusters },
    }))
}

fn socket(ip: IpAddr, port: u16) -> Value {
    json!({ "socket_address": { "address": ip.to_string(), "port_value": port } })
}

fn internal(listener: &str) -> Value {
    json!({ "envoy_internal_address": { "server_listener_name": listener } })
}

fn cluster(name: &str, endpoint: &Value) -> Value {
    // As Istio: no limits unless a user sets some.
    let unlimited = json!({
        "max_connections": u32::MAX, "max_pending_requests": u32::MAX,
        "max_requests": u32::MAX, "max_retries": u32::MAX,
    });
    json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": { "thresholds": [unlimited] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": endpoint } }] }],
        },
    })
}

fn listener(port: u16, chains: Value) -> Value {
    json!({
        "name": format!("port{port}"),
        "address": { "socket_address": { "address": "0.0.0.0", "port_value": port } },
        "filter_chains": chains,
    })
}

fn inside(name: &str, filter: Value) -> Value {
    json!({ "name": name, "internal_listener": {}, "filter_chains": [{ "filters": [filter] }] })
}

fn tls(context: &str, mut settings: Value) -> Value {
    settings["@type"] = json!(format!(
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"
    ));
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": settings })
}

fn http(settings: Value) -> Value {
    let mut settings = settings;
    settings["@type"] = json!(
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    );
    settings["http_filters"] = json!([{
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    }]);
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": settings })
}

/// The requests themselves.
fn manager(kind: Kind, routes: usize) -> Value {
    let hosts: Vec<Value> = (0..routes)
        .map(|n| {
            let to = json!({
                "cluster": format!("s{}", n / ROUTES_PER_SERVICE),
                "timeout": "0s",
                "retry_policy": {
                    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                    "num_retries": 2,
                },
            });
            json!({
                "name": format!("r{n}"),
                "domains": [mesh::host(n)],
                "routes": [{ "match": { "prefix": "/" }, "route": to }],
            })
        })
        .collect();
    http(json!({
        "stat_prefix": "requests",
        "server_name": "istio-envoy",
        "normalize_path": true,
        "use_remote_address": kind == Kind::Gateway,
        "route_config": { "virtual_hosts": hosts },
    }))
}

/// CONNECTs of clients.
fn tunnels() -> Value {
    let to = json!({
        "cluster": "in",
        "timeout": "0s",
        "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }],
    });
    http(json!({
        "stat_prefix": "tunnels",
        "codec_type": "HTTP2",
        "http2_protocol_options": { "allow_connect": true },
        "upgrade_configs": [{ "upgrade_type": "CONNECT" }],
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "connect_matcher": {} }, "route": to }],
        }] },
    }))
}

/// Connections to the application, in tunnels.
fn tunnelled(application: IpAddr) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "out",
            "cluster": "tunnels",
            "tunneling_config": { "hostname": format!("{application}:{PORT_APPLICATION}") },
        },
    })
}

/// Key and certificate for the proxy's identity, and the roots, in files of this run.
fn certificates(directory: &Path) -> Result<Value> {
    let identity = mesh::identity("proxy");
    let (key, csr) = (directory.join("key.pem"), directory.join("csr.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-subj", "/", "-addext"])
        .arg(format!("subjectAltName=critical,URI:{identity}"))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&csr)
        .output()
        .context("openssl, which makes Envoy's key")?;
    ensure!(
        made.status.success(),
        "openssl req: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let authority = control::authority()?;
    let chain = authority.sign_workload(&fs::read_to_string(csr)?, &identity, None)?;
    let (certificate, roots) = (directory.join("chain.pem"), directory.join("roots.pem"));
    fs::write(&certificate, chain.first().context("an empty chain")?)?;
    fs::write(&roots, authority.root_pem())?;
    Ok(json!({
        "alpn_protocols": ["h2"],
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": { "filename": certificate },
            "private_key": { "filename": key },
        }],
        "validation_context": { "trusted_ca": { "filename": roots } },
    }))
}
