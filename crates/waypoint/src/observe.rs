//! What requests and connections leave behind, as the Telemetry API wants it.

mod attributes;
mod connection;
mod counting;
mod logs;

use std::sync::Arc;
use std::time::Duration;

use tulle_model::{Service, ServiceKey};
use tulle_policy::expression::Expression;
use tulle_policy::observe::{Observe, Telemetry, Tracing};
use tulle_route::balance::stable_hash;
use tulle_route::resource::{Balancing, HashKey};
use tulle_telemetry::RequestRecord;

use crate::destination::{Destination, Hop};
use crate::exchange::Exchange;
use crate::inbound::Client;
use crate::otlp::LogLine;
use crate::trace::Span;
pub(crate) use connection::{Known, Line, Series, connection};
pub(crate) use counting::Counting;
use logs::To;
pub(crate) use logs::{Captured, Logs, captured_request_id, captured_response, captures};

/// What counts for a request or connection.
fn wanted<'t>(telemetry: &'t Telemetry, service: Option<&Arc<Service>>) -> &'t Observe {
    let key: Option<ServiceKey> = match telemetry.services.is_empty() {
        true => None,
        false => service.map(|s| s.key()),
    };
    telemetry.of(key.as_ref())
}

/// In which series a request is counted.
pub(crate) fn counting(exchange: &Exchange, duration: Duration) -> Counting {
    let Some(observe) = of(exchange) else {
        return Counting::Plain;
    };
    let seen = attributes::Request { exchange, duration };
    counting::counting(
        &observe.metrics,
        &counting::REQUESTS,
        &exchange.snapshot,
        &seen,
    )
}

fn of(exchange: &Exchange) -> Option<&Observe> {
    let telemetry = exchange.telemetry.as_ref()?;
    Some(wanted(telemetry, exchange.service.as_ref()))
}

/// How spans are made, if they are.
pub(crate) fn tracing(exchange: &Exchange) -> Option<Tracing> {
    let tracing = of(exchange)?.tracing.as_ref()?;
    (!tracing.providers.is_empty()).then(|| tracing.clone())
}

/// As access logs and spans write it.
pub(crate) fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// Expressions that Telemetry resources hold, parsed: filters of access logs and values of tags.
pub(crate) fn expressions(telemetry: &Telemetry) -> Vec<(Arc<str>, Arc<Expression>)> {
    let all = std::iter::once(&telemetry.all).chain(telemetry.services.values());
    let texts = all.flat_map(|observe| {
        let filters = observe.access_logs.iter().filter_map(|l| l.filter.clone());
        let overrides = observe.metrics.overrides.values();
        let tags = overrides.flat_map(|o| o.tags.values().flatten().cloned());
        filters.chain(tags)
    });
    let parsed = texts.filter_map(|text| match Expression::parse(&text) {
        Ok(expression) => Some((text, Arc::new(expression))),
        Err(error) => {
            tracing::warn!(expression = &*text, %error, "an expression of a Telemetry resource has no effect");
            None
        }
    });
    parsed.collect()
}

/// Whether users look at the heads of requests.
pub(crate) fn looks_at_heads(exchange: &Exchange) -> bool {
    of(exchange).is_some_and(|observe| {
        observe.access_logs.iter().any(|log| log.filter.is_some())
            || observe
                .metrics
                .overrides
                .values()
                .any(|o| !o.tags.is_empty())
    })
}

/// A request's lines in the access log, and the attributes of its span that are written in the same way.
pub(crate) fn request(exchange: &mut Exchange, duration: Duration) {
    for captured in std::mem::take(&mut exchange.seen.logged) {
        if let Some(filter) = &captured.filter {
            let attributes = attributes::Request { exchange, duration };
            let filter = exchange.snapshot.expressions.get(filter);
            // One that cannot be parsed filters nothing out.
            if filter.is_some_and(|filter| !filter.holds(&attributes)) {
                continue;
            }
        }
        let to = captured.log.to.clone();
        let record = record(exchange, captured, duration);
        match to {
            To::Stdout => record.write(),
            To::Collector(name) => {
                let mut line = LogLine::of(&record);
                line.span = exchange.seen.span.as_ref().map(Span::id);
                let worker = &exchange.worker;
                worker.exports.log(worker, &exchange.snapshot, &name, line);
            }
            To::Attribute(name) => {
                if let Some(span) = &mut exchange.seen.span {
                    span.add(name, record.text());
                }
            }
        }
    }
}

fn record(exchange: &Exchange, captured: Captured, duration: Duration) -> RequestRecord {
    let seen = &exchange.seen;
    RequestRecord {
        format: captured.log.format,
        start: exchange.start(),
        request: captured.request,
        response: captured.response,
        protocol: version(seen.version),
        code: seen.code,
        flags: seen.flags,
        details: seen.details.clone(),
        termination: None,
        upstream_failure: seen.upstream_failure.clone(),
        bytes_received: exchange.request.bytes(),
        bytes_sent: exchange.response.bytes(),
        duration,
        upstream_time: seen.upstream_time,
        upstream_host: seen.hop.as_ref().and_then(Hop::address),
        upstream_cluster: seen.cluster.clone(),
        upstream_local: None,
        downstream_local: Some(exchange.client.local),
        downstream_remote: Some(exchange.client.source),
        server_name: exchange.client.server_name.clone(),
        route: seen.route.clone(),
        peer: peer(&exchange.client),
        grpc_status: seen.grpc_status,
        trace: seen.span.as_ref().map(Span::trace),
    }
}

fn peer(client: &Client) -> Option<Arc<str>> {
    let peer = client.peer.as_ref()?;
    Some(peer.to_string().into())
}

/// What a connection is hashed by: its address, if the destination wants that; it has nothing else.
pub(crate) fn source_hash(destination: &Destination, client: &Client) -> Option<u64> {
    match &destination.policy.balancing {
        Some(Balancing::Consistent(hash)) if hash.key == HashKey::SourceAddress => {
            let address = client.source.ip().to_canonical().to_string();
            Some(stable_hash(address.as_bytes()))
        }
        _ => None,
    }
}
