//! Spans on their way to a collector: OTLP over gRPC or HTTP, in batches, dropped rather than waited for. The messages are our
//! own words for the names and numbers that the wire fixes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use prost::Message;
use tulle_http::body::Body;
use tulle_policy::settings::OpenTelemetry;

use super::Ended;
use crate::call;
use crate::limits::{SPANS_AT_ONCE, SPANS_INTERVAL, SPANS_WAITING};
use crate::worker::Worker;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "bytes", tag = "1")]
    trace_id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    span_id: Bytes,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "bytes", tag = "4")]
    parent_span_id: Bytes,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    string_value: String,
}

/// Spans of one worker that wait to be sent.
#[derive(Default)]
pub(crate) struct Spans {
    waiting: RefCell<BTreeMap<Arc<str>, Waiting>>,
}

struct Waiting {
    provider: OpenTelemetry,
    spans: Vec<Ended>,
    /// A task will send them.
    tended: bool,
}

impl Spans {
    /// Adds one; sent with others, in a moment.
    pub(super) fn send(
        &self,
        worker: &Rc<Worker>,
        name: &Arc<str>,
        provider: &OpenTelemetry,
        span: Ended,
    ) {
        let mut waiting = self.waiting.borrow_mut();
        let entry = waiting.entry(name.clone()).or_insert_with(|| Waiting {
            provider: provider.clone(),
            spans: Vec::new(),
            tended: false,
        });
        if entry.spans.len() >= SPANS_WAITING {
            worker.shared.spans_dropped.inc();
            return;
        }
        entry.provider.clone_from(provider);
        entry.spans.push(span);
        if !std::mem::replace(&mut entry.tended, true) {
            tokio::task::spawn_local(tend(worker.clone(), name.clone()));
        }
    }

    fn take(&self, name: &str) -> Option<(OpenTelemetry, Vec<Ended>)> {
        let mut waiting = self.waiting.borrow_mut();
        let entry = waiting.get_mut(name)?;
        if entry.spans.is_empty() {
            // The next span calls another task.
            entry.tended = false;
            return None;
        }
        let rest = entry.spans.split_off(entry.spans.len().min(SPANS_AT_ONCE));
        let some = std::mem::replace(&mut entry.spans, rest);
        Some((entry.provider.clone(), some))
    }
}

/// Sends batches as long as there are spans.
async fn tend(worker: Rc<Worker>, name: Arc<str>) {
    loop {
        tokio::time::sleep(SPANS_INTERVAL).await;
        let Some((provider, spans)) = worker.spans.take(&name) else {
            return;
        };
        let count = spans.len() as u64;
        let message = message(&worker, &provider, spans).encode_to_vec();
        if let Err(error) = export(&worker, &provider, message).await {
            worker.shared.spans_dropped.inc_by(count);
            tracing::debug!(provider = &*name, error, "spans were not taken");
        }
    }
}

async fn export(
    worker: &Rc<Worker>,
    provider: &OpenTelemetry,
    message: Vec<u8>,
) -> Result<(), String> {
    let snapshot = worker.shared.state.load();
    let headers: Vec<(Arc<str>, Arc<str>)> = provider
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let upstream = &provider.upstream;
    let Some(http) = &provider.http else {
        let sent = call::unary(worker, &snapshot, upstream, EXPORT, &message, &headers);
        return sent.await.map(drop);
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&*http.path)
        .header(header::HOST, &*upstream.host)
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
    for (name, value) in &headers {
        request = request.header(&**name, &**value);
    }
    let request = request
        .body(Body::full(message))
        .map_err(|error| error.to_string())?;
    let response = call::send(worker, &snapshot, upstream, request, false).await?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("status {status}")),
    }
}

fn message(worker: &Worker, provider: &OpenTelemetry, spans: Vec<Ended>) -> ExportRequest {
    let longest = provider
        .longest_tag
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let snapshot = worker.shared.state.load();
    let own = snapshot.own.workload.as_ref();
    let name = own.map_or_else(
        || worker.shared.options.node.pod.clone(),
        |w| w.workload_name.to_string(),
    );
    let namespace = &worker.shared.options.identity.namespace;
    ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![pair(
                    "service.name",
                    format!("{name}.{namespace}"),
                    usize::MAX,
                )],
            }),
            scope_spans: vec![ScopeSpans {
                spans: spans.into_iter().map(|span| wire(span, longest)).collect(),
            }],
        }],
    }
}

fn pair(key: &str, value: String, longest: usize) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            string_value: value.chars().take(longest).collect(),
        }),
    }
}

fn wire(span: Ended, longest: usize) -> Span {
    const SERVER: i32 = 2;
    const CLIENT: i32 = 3;
    const ERROR: i32 = 2;
    let nanos = |time: SystemTime| {
        let since = time.duration_since(std::time::UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
    };
    let id = |id: u64| Bytes::copy_from_slice(&id.to_be_bytes());
    Span {
        trace_id: Bytes::copy_from_slice(&span.trace.to_be_bytes()),
        span_id: id(span.id),
        trace_state: span.state,
        parent_span_id: span.parent.map(id).unwrap_or_default(),
        name: span.name,
        kind: if span.client { CLIENT } else { SERVER },
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: span
            .attributes
            .into_iter()
            .map(|(key, value)| pair(&key, value, longest))
            .collect(),
        status: span.failed.then_some(Status { code: ERROR }),
    }
}
