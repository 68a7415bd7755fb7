//! Access logs: forms, compiled, and where their lines go.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use tulle_policy::observe::CustomTag;
use tulle_policy::settings::{AccessLogFormat, OpenTelemetry, Provider, ProxySettings};
use tulle_telemetry::{FormatError, RequestFormat};

use super::of;
use crate::exchange::Exchange;

/// A form of lines, and who gets them.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) format: Arc<RequestFormat>,
    pub(super) to: To,
}

/// Who gets a line.
#[derive(Clone, Debug)]
pub(super) enum To {
    Stdout,
    /// A collector, by its provider's name.
    Collector(Arc<str>),
    /// The span of the request: it is the value of this attribute.
    Attribute(Arc<str>),
}

/// Forms of access logs, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    standard: Log,
    by_provider: BTreeMap<Arc<str>, Log>,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            standard: Log {
                format: Arc::new(RequestFormat::default_text()),
                to: To::Stdout,
            },
            by_provider: BTreeMap::new(),
        }
    }
}

impl Logs {
    pub(crate) fn new(settings: &ProxySettings) -> Self {
        let standard = Log {
            format: Arc::new(compile(&settings.access_log)),
            to: To::Stdout,
        };
        let providers = settings.providers.iter().filter_map(|(name, provider)| {
            let log = match provider {
                Provider::File { format: None, .. } => standard.clone(),
                Provider::File {
                    format: Some(format),
                    ..
                } => Log {
                    format: Arc::new(compile(format)),
                    to: To::Stdout,
                },
                Provider::OpenTelemetry(collector) => Log {
                    format: Arc::new(record(collector)),
                    to: To::Collector(name.clone()),
                },
                _ => return None,
            };
            Some((name.clone(), log))
        });
        Self {
            by_provider: providers.collect(),
            standard,
        }
    }

    pub(super) fn get(&self, provider: &str) -> Option<&Log> {
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
    or_standard(compiled, RequestFormat::default_text)
}

/// Of a collector: a text and attributes.
fn record(collector: &OpenTelemetry) -> RequestFormat {
    let labels = collector.log_labels.iter();
    let compiled = RequestFormat::labelled(
        collector.log_text.as_deref(),
        labels.map(|(key, text)| (&**key, &**text)),
    );
    or_standard(compiled, RequestFormat::default_text)
}

fn or_standard(
    compiled: Result<RequestFormat, FormatError>,
    standard: fn() -> RequestFormat,
) -> RequestFormat {
    compiled.unwrap_or_else(|error| {
        tracing::warn!(%error, "Istio's access log format is used instead");
        standard()
    })
}

/// Headers for one line.
pub(crate) struct Captured {
    /// Only if this expression is true.
    pub(super) filter: Option<Arc<str>>,
    pub(super) log: Log,
    pub(super) request: Vec<Option<Box<str>>>,
    pub(super) response: Vec<Option<Box<str>>>,
}

/// Notes what the log, and attributes of the span, will show of a request's head.
pub(crate) fn captures(exchange: &Exchange, head: &Parts) -> Vec<Captured> {
    let observe = of(exchange);
    let logs = observe.map(|o| &o.access_logs[..]).unwrap_or_default();
    let logged = logs.iter().filter_map(|log| {
        let found = exchange.snapshot.logs.get(&log.provider)?;
        Some((found.clone(), log.filter.clone()))
    });
    let tracing = observe.and_then(|observe| observe.tracing.as_ref());
    let attributes = tracing.into_iter().flat_map(|tracing| &tracing.tags);
    let formats = attributes.filter_map(|(name, tag)| {
        let CustomTag::Format(text) = tag else {
            return None;
        };
        // Checked where it is translated; one that is broken says nothing.
        let format = Arc::new(RequestFormat::text(text).ok()?);
        let to = To::Attribute(name.clone());
        Some((Log { format, to }, None))
    });
    logged
        .chain(formats)
        .map(|(log, filter)| Captured {
            filter,
            request: log
                .format
                .request_headers()
                .map(|name| header(head, name))
                .collect(),
            response: Vec::new(),
            log,
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
        let names = captured.log.format.request_headers();
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
        captured.response = captured.log.format.response_headers().map(text).collect();
    }
}
