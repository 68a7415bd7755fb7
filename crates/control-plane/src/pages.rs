//! Pages for people and tools: readiness, version, who is connected, what is published.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};
use tulle_daemon::Readiness;
use tulle_daemon::admin::{Page, Pages};
use tulle_telemetry::Registry;
use tulle_xds::server::{Connected, Counters, Publisher};

use crate::metrics::short;

/// Port 15014.
pub(crate) fn metrics(registry: &Registry) -> Pages {
    Pages::new()
        .with_metrics(registry)
        .on("/version", |_| async { version() })
}

/// Port 8080.
pub(crate) fn ready(registry: &Registry, readiness: &Readiness) -> Pages {
    metrics(registry).with_readiness_at("/ready", readiness)
}

/// Port 9876 of the loopback interface.
pub(crate) fn local(counters: Arc<Counters>, publisher: Publisher) -> Pages {
    let published = publisher.clone();
    Pages::new()
        .with_logging()
        .on("/debug/syncz", move |_| {
            let page = Page::json(&connected(&counters.connected(), publisher.sequence()));
            async move { page }
        })
        .on("/debug/published", move |_| {
            let page = Page::json(&sizes(&published));
            async move { page }
        })
}

fn version() -> Page {
    Page::text(200, concat!(env!("CARGO_PKG_VERSION"), "\n"))
}

/// Every stream: who, since when, and what it has taken. `sequence` is the newest change.
fn connected(streams: &[Connected], sequence: u64) -> Value {
    let list: Vec<Value> = streams
        .iter()
        .map(|stream| {
            let since = stream
                .since
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            let types: serde_json::Map<String, Value> = stream
                .acknowledged
                .iter()
                .map(|(type_url, (acknowledged, complaint))| {
                    let state = json!({ "acknowledged": acknowledged, "rejected": complaint });
                    (short(type_url).to_owned(), state)
                })
                .collect();
            json!({
                "proxy": stream.node,
                "gateway": stream.gateway,
                "address": stream.address.map(|address| address.to_string()),
                "connected_at": since,
                "types": types,
            })
        })
        .collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "sequence": sequence, "clients": list })
}

fn sizes(publisher: &Publisher) -> Value {
    let types: serde_json::Map<String, Value> = publisher
        .published()
        .into_iter()
        .map(|of| {
            let sizes =
                json!({ "resources": of.resources, "bytes": of.bytes, "removals": of.removals });
            (of.type_url, sizes)
        })
        .collect();
    json!({ "types": types })
}
