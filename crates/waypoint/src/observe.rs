//! What requests and connections leave behind, as the Telemetry API wants it.

mod attributes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::request::Parts;
use tulle_model::{Service, ServiceKey};
use tulle_policy::expression::Expression;
use tulle_policy::observe::{Metric, Observe, Telemetry, Tracing};
use tulle_policy::settings::{AccessLogFormat, Provider, ProxySettings};
use tulle_route::balance::stable_hash;
use tulle_route::resource::{Balancing, HashKey};
use tulle_telemetry::{Flags, RequestFormat, RequestRecord, TagEdits};

use crate::destination::{Destination, Hop};
use crate::exchange::Exchange;
use crate::inbound::Client;
use crate::state::Snapshot;
use crate::trace::Span;

/// Formats of access logs, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    standard: Arc<RequestFormat>,
    by_provider: BTreeMap<Arc<str>, Arc<RequestFormat>>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            standard: Arc::new(RequestFormat::default_text()),
            by_provider: BTreeMap::new(),
        }
    }
}

impl Logs {
    pub(crate) fn new(settings: &ProxySettings) -> Self {
        let standard = Arc::new(compile(&settings.access_log));
        let providers = settings.providers.iter().filter_map(|(name, provider)| {
            let Provider::File { format, .. } = provider else {
                return None;
            };
            let compiled = match format {
                Some(format) => Arc::new(compile(format)),
                None => standard.clone(),
            };
            Some((name.clone(), compiled))
        });
        Self {
            by_provider: providers.collect(),
            standard,
        }
    }

    fn get(&self, provider: &str) -> Option<&Arc<RequestFormat>> {
        self.by_provider
            .get(provider)
            .or_else(|| (provider == "envoy").then_some(&self.standard))
    }
}

fn compile(format: &AccessLogFormat) -> RequestFormat {
    let compiled = match format {
        AccessLogFormat::Text => return RequestFormat::default_text(),
        AccessLogFormat::Json => return RequestFormat::default_json(),
        AccessLogFormat::CustomText(text) => RequestFormat::text(text),
        AccessLogFormat::CustomJson(keys) => {
            RequestFormat::json(keys.iter().map(|(key, text)| (&**key, &**text)))
        }
    };
    compiled.unwrap_or_else(|error| {
        tracing::warn!(%error, "Istio's access log format is used instead");
        RequestFormat::default_text()
    })
}

/// What counts for a request or connection.
fn wanted<'s>(
    snapshot: &'s Snapshot,
    gateway: &str,
    service: Option<&Arc<Service>>,
) -> Option<&'s Observe> {
    let telemetry: &Arc<Telemetry> = snapshot.telemetry(gateway)?;
    let key: Option<ServiceKey> = match telemetry.services.is_empty() {
        true => None,
        false => service.map(|s| s.key()),
    };
    Some(telemetry.of(key.as_ref()))
}

/// Headers for one line of the access log.
pub(crate) struct Captured {
    /// Only if this expression is true.
    filter: Option<Arc<str>>,
    format: Arc<RequestFormat>,
    request: Vec<Option<Box<str>>>,
    response: Vec<Option<Box<str>>>,
}

/// Notes what the log will show of a request's head.
pub(crate) fn captures(exchange: &Exchange, head: &Parts) -> Vec<Captured> {
    let snapshot = &exchange.snapshot;
    let observe = wanted(
        snapshot,
        &exchange.client.gateway,
        exchange.service.as_ref(),
    );
    let logs = observe.map(|o| &o.access_logs[..]).unwrap_or_default();
    let formats = logs
        .iter()
        .filter_map(|log| Some((snapshot.logs.get(&log.provider)?, log.filter.clone())));
    formats
        .map(|(format, filter)| Captured {
            filter,
            request: format
                .request_headers()
                .map(|name| header(head, name))
                .collect(),
            response: Vec::new(),
            format: format.clone(),
        })
        .collect()
}

fn header(head: &Parts, name: &str) -> Option<Box<str>> {
    let text = |name: &str| {
        let value = head.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into())
    };
    match name {
        ":method" => Some(head.method.as_str().into()),
        ":path" => head.uri.path_and_query().map(|path| path.as_str().into()),
        ":authority" => text("host"),
        ":scheme" => head.uri.scheme_str().map(Into::into),
        other => text(other),
    }
}

/// The identity of a request is made after its head was noted.
pub(crate) fn captured_request_id(logged: &mut [Captured], id: &str) {
    for captured in logged {
        let names = captured.format.request_headers();
        for (name, value) in names.zip(&mut captured.request) {
            if name == "x-request-id" {
                *value = Some(id.into());
            }
        }
    }
}

/// Notes what the log will show of an answer's head.
pub(crate) fn captured_response(logged: &mut [Captured], headers: &HeaderMap) {
    for captured in logged {
        let text = |name: &str| {
            let value = headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into())
        };
        captured.response = captured.format.response_headers().map(text).collect();
    }
}

/// Whether a request is counted, and under which changed labels.
pub(crate) enum Counting {
    Off,
    On(Option<Arc<TagEdits>>),
}

/// What users changed about the labels of a request. What they say of the count of requests counts for all its metrics.
pub(crate) fn edits(exchange: &Exchange, duration: Duration) -> Counting {
    let Some(observe) = of(exchange) else {
        return Counting::On(None);
    };
    let changed = observe.metrics.overrides.get(&Metric::RequestCount);
    if observe.metrics.disabled || changed.is_some_and(|c| c.disabled) {
        return Counting::Off;
    }
    let Some(changed) = changed.filter(|c| !c.tags.is_empty()) else {
        return Counting::On(None);
    };
    let seen = attributes::Seen { exchange, duration };
    let mut edits = TagEdits::default();
    for (tag, value) in &changed.tags {
        match value {
            None => edits.remove.push(tag.clone()),
            Some(expression) => {
                let found = exchange.snapshot.expressions.get(expression);
                let value = found.and_then(|e| e.value(&seen));
                let text = value.map_or_else(|| "unknown".to_owned(), |v| v.to_string());
                edits.upsert.push((tag.clone(), text.into()));
            }
        }
    }
    Counting::On(Some(Arc::new(edits)))
}

fn of(exchange: &Exchange) -> Option<&Observe> {
    wanted(
        &exchange.snapshot,
        &exchange.client.gateway,
        exchange.service.as_ref(),
    )
}

/// How spans are made, if they are.
pub(crate) fn tracing(exchange: &Exchange) -> Option<Tracing> {
    let tracing = of(exchange)?.tracing.as_ref()?;
    (!tracing.providers.is_empty()).then(|| tracing.clone())
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

/// A request's lines in the access log.
pub(crate) fn request(exchange: &mut Exchange, duration: Duration) {
    let logged = std::mem::take(&mut exchange.seen.logged);
    let seen = &exchange.seen;
    for captured in logged {
        if let Some(filter) = &captured.filter {
            let attributes = attributes::Seen { exchange, duration };
            let filter = exchange.snapshot.expressions.get(filter);
            // One that cannot be parsed filters nothing out.
            if filter.is_some_and(|filter| !filter.holds(&attributes)) {
                continue;
            }
        }
        let record = RequestRecord {
            format: captured.format,
            start: exchange.start,
            request: captured.request,
            response: captured.response,
            protocol: match seen.version {
                http::Version::HTTP_10 => "HTTP/1.0",
                http::Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            },
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
        };
        record.write();
    }
}

/// What is known of a connection at its end.
pub(crate) struct Line<'a> {
    pub(crate) start: SystemTime,
    pub(crate) duration: Duration,
    pub(crate) service: Option<&'a Arc<Service>>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) flags: Flags,
    pub(crate) details: Option<Arc<str>>,
    pub(crate) upstream_failure: Option<Arc<str>>,
    pub(crate) upstream_host: Option<std::net::SocketAddr>,
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) route: Option<Arc<str>>,
}

/// A connection's lines in the access log.
pub(crate) fn connection(snapshot: &Snapshot, client: &Client, line: Line<'_>) {
    let observe = wanted(snapshot, &client.gateway, line.service);
    let logs = observe.map(|o| &o.access_logs[..]).unwrap_or_default();
    for format in logs
        .iter()
        .filter_map(|log| snapshot.logs.get(&log.provider))
    {
        let record = RequestRecord {
            format: format.clone(),
            start: line.start,
            request: Vec::new(),
            response: Vec::new(),
            protocol: "",
            code: 0,
            flags: line.flags,
            details: line.details.clone(),
            termination: None,
            upstream_failure: line.upstream_failure.clone(),
            bytes_received: line.received,
            bytes_sent: line.sent,
            duration: line.duration,
            upstream_time: None,
            upstream_host: line.upstream_host,
            upstream_cluster: line.cluster.clone(),
            upstream_local: None,
            downstream_local: Some(client.local),
            downstream_remote: Some(client.source),
            server_name: client.server_name.clone(),
            route: line.route.clone(),
            peer: peer(client),
            grpc_status: None,
            trace: None,
        };
        record.write();
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
