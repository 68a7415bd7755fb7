//! Spans and access logs on their way to collectors: OTLP over gRPC or HTTP, in batches, dropped rather than waited for.

mod wire;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderValue, Method, Request, header};
use prost::Message;
use tulle_http::body::Body;
use tulle_policy::settings::{OpenTelemetry, Provider};
use tulle_telemetry::RequestRecord;

use crate::call;
use crate::limits::{SPANS_AT_ONCE, SPANS_INTERVAL, SPANS_WAITING};
use crate::state::Snapshot;
use crate::worker::Worker;

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) trace: u128,
    pub(crate) id: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) client: bool,
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) failed: bool,
}

/// A line of the access log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogLine {
    pub(crate) time: SystemTime,
    pub(crate) body: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) trace: Option<u128>,
    pub(crate) span: Option<u64>,
}

impl LogLine {
    pub(crate) fn of(record: &RequestRecord) -> Self {
        Self {
            time: record.start,
            body: record.text(),
            labels: record.labels(),
            trace: record.trace,
            span: None,
        }
    }
}

/// What is sent together.
enum Batch {
    Spans(Vec<Ended>),
    Logs(Vec<LogLine>),
}

/// What of one worker waits to be sent.
#[derive(Default)]
pub(crate) struct Exports {
    waiting: RefCell<BTreeMap<Arc<str>, Waiting>>,
}

struct Waiting {
    provider: OpenTelemetry,
    spans: Vec<Ended>,
    logs: Vec<LogLine>,
    /// A task will send them.
    tended: bool,
}

impl Exports {
    /// Adds a span; sent with others, in a moment.
    pub(crate) fn span(
        &self,
        worker: &Rc<Worker>,
        snapshot: &Snapshot,
        name: &Arc<str>,
        span: Ended,
    ) {
        self.add(worker, snapshot, name, |waiting| {
            let room = waiting.spans.len() < SPANS_WAITING;
            if room {
                waiting.spans.push(span);
            } else {
                worker.shared.spans_dropped.inc();
            }
        });
    }

    /// Adds a line of the access log.
    pub(crate) fn log(
        &self,
        worker: &Rc<Worker>,
        snapshot: &Snapshot,
        name: &Arc<str>,
        line: LogLine,
    ) {
        self.add(worker, snapshot, name, |waiting| {
            let room = waiting.logs.len() < SPANS_WAITING;
            if room {
                waiting.logs.push(line);
            } else {
                worker.shared.logs_dropped.inc();
            }
        });
    }

    fn add(
        &self,
        worker: &Rc<Worker>,
        snapshot: &Snapshot,
        name: &Arc<str>,
        add: impl FnOnce(&mut Waiting),
    ) {
        let Some(Provider::OpenTelemetry(provider)) = snapshot.settings.providers.get(name) else {
            return;
        };
        let mut waiting = self.waiting.borrow_mut();
        let entry = waiting.entry(name.clone()).or_insert_with(|| Waiting {
            provider: provider.clone(),
            spans: Vec::new(),
            logs: Vec::new(),
            tended: false,
        });
        if entry.provider != *provider {
            entry.provider.clone_from(provider);
        }
        add(entry);
        if !std::mem::replace(&mut entry.tended, true) {
            tokio::task::spawn_local(tend(worker.clone(), name.clone()));
        }
    }

    fn take(&self, name: &str) -> Option<(OpenTelemetry, Batch)> {
        let mut waiting = self.waiting.borrow_mut();
        let entry = waiting.get_mut(name)?;
        let batch = if !entry.spans.is_empty() {
            Batch::Spans(some(&mut entry.spans))
        } else if !entry.logs.is_empty() {
            Batch::Logs(some(&mut entry.logs))
        } else {
            // What comes next calls another task.
            entry.tended = false;
            return None;
        };
        Some((entry.provider.clone(), batch))
    }
}

fn some<T>(all: &mut Vec<T>) -> Vec<T> {
    let rest = all.split_off(all.len().min(SPANS_AT_ONCE));
    std::mem::replace(all, rest)
}

/// Sends batches as long as there are any.
async fn tend(worker: Rc<Worker>, name: Arc<str>) {
    tokio::time::sleep(SPANS_INTERVAL).await;
    while let Some((provider, batch)) = worker.exports.take(&name) {
        let (count, dropped) = match &batch {
            Batch::Spans(spans) => (spans.len(), &worker.shared.spans_dropped),
            Batch::Logs(logs) => (logs.len(), &worker.shared.logs_dropped),
        };
        let full = count == SPANS_AT_ONCE;
        if let Err(error) = export(&worker, &provider, batch).await {
            dropped.inc_by(count as u64);
            tracing::debug!(
                provider = &*name,
                error,
                "a collector did not take what was sent"
            );
        }
        if !full {
            // More are worth waiting for.
            tokio::time::sleep(SPANS_INTERVAL).await;
        }
    }
}

async fn export(worker: &Rc<Worker>, provider: &OpenTelemetry, batch: Batch) -> Result<(), String> {
    const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let method = match &batch {
        Batch::Spans(_) => TRACES,
        Batch::Logs(_) => LOGS,
    };
    let message = message(worker, provider, batch);
    let snapshot = worker.shared.state.load();
    let headers: Vec<(Arc<str>, Arc<str>)> = provider
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let upstream = &provider.upstream;
    let Some(http) = &provider.http else {
        let sent = call::unary(worker, &snapshot, upstream, method, &message, &headers);
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

fn message(worker: &Worker, provider: &OpenTelemetry, batch: Batch) -> Vec<u8> {
    let longest = provider
        .longest_tag
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let resource = Some(resource(worker));
    match batch {
        Batch::Spans(spans) => {
            let spans = spans.into_iter();
            let spans = spans.map(|span| wire::span(span, longest)).collect();
            let of_scopes = vec![wire::ScopeSpans { spans }];
            let of_resources = vec![wire::ResourceSpans {
                resource,
                of_scopes,
            }];
            wire::Traces { of_resources }.encode_to_vec()
        }
        Batch::Logs(lines) => {
            let records = lines.into_iter().map(wire::log).collect();
            let of_scopes = vec![wire::ScopeLogs { records }];
            let of_resources = vec![wire::ResourceLogs {
                resource,
                of_scopes,
            }];
            wire::Logs { of_resources }.encode_to_vec()
        }
    }
}

/// Who we are, to a collector.
fn resource(worker: &Worker) -> wire::Resource {
    let snapshot = worker.shared.state.load();
    let options = &worker.shared.options;
    let own = snapshot.own.workload.as_ref();
    let name = own.map_or_else(|| options.node.pod.clone(), |w| w.workload_name.to_string());
    let namespace = &options.identity.namespace;
    let pairs = [
        ("service.name", format!("{name}.{namespace}")),
        ("k8s.pod.name", options.node.pod.clone()),
        ("k8s.namespace.name", namespace.to_string()),
    ];
    wire::Resource {
        attributes: pairs
            .iter()
            .map(|(key, value)| wire::pair(key, value, usize::MAX))
            .collect(),
    }
}
