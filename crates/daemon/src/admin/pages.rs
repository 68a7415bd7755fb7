//! Pages and what they answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tulle_telemetry::{Format, Registry};

use crate::readiness::Readiness;

/// A request for a page.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query parameters, decoded.
    pub query: BTreeMap<String, String>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body, complete.
    pub body: Bytes,
}

impl Visit {
    /// Whether it may change something.
    pub fn is_post(&self) -> bool {
        self.method == "POST"
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

impl Page {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// HTML, 200.
    pub fn html(body: impl Into<String>) -> Self {
        Self::new(200, "text/html; charset=utf-8", body.into())
    }

    /// Indented JSON, 200.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::new(200, "application/json", format!("{value:#}\n"))
    }

    /// Anything.
    pub fn new(status: u16, content_type: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: content_type.into(),
            body: body.into(),
        }
    }
}

type Handler = Arc<dyn Fn(Visit) -> Pin<Box<dyn Future<Output = Page> + Send>> + Send + Sync>;

/// Pages by path.
#[derive(Clone, Default)]
pub struct Pages {
    exact: BTreeMap<String, Handler>,
    /// Longest first.
    prefixes: Vec<(String, Handler)>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.exact.keys()).finish()
    }
}

impl Pages {
    /// None yet: every path is 404.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `path` by `handler`. A path that ends in `/*` takes everything below it.
    pub fn on<H, R>(mut self, path: &str, handler: H) -> Self
    where
        H: Fn(Visit) -> R + Send + Sync + 'static,
        R: Future<Output = Page> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |visit| Box::pin(handler(visit)));
        match path.strip_suffix('*') {
            Some(prefix) => {
                self.prefixes.push((prefix.to_owned(), handler));
                self.prefixes
                    .sort_by_key(|(p, _)| std::cmp::Reverse(p.len()));
            }
            None => {
                self.exact.insert(path.to_owned(), handler);
            }
        }
        self
    }

    /// `/metrics` and `/stats/prometheus`, in the format the scraper asks for.
    pub fn with_metrics(self, registry: &Registry) -> Self {
        let page = move |registry: Registry| {
            move |visit: Visit| {
                let format = Format::negotiate(visit.headers.get("accept").map(String::as_str));
                let page = Page::new(200, format.content_type(), registry.encode(format));
                async move { page }
            }
        };
        self.on("/metrics", page(registry.clone()))
            .on("/stats/prometheus", page(registry.clone()))
    }

    /// `/healthz/ready`: 200 `ready`, or 500 with what is missing.
    pub fn with_readiness(self, readiness: &Readiness) -> Self {
        self.with_readiness_at("/healthz/ready", readiness)
    }

    /// Readiness at another path.
    pub fn with_readiness_at(self, path: &str, readiness: &Readiness) -> Self {
        let readiness = readiness.clone();
        self.on(path, move |_| {
            let pending = readiness.pending();
            async move {
                if pending.is_empty() {
                    Page::text(200, "ready\n")
                } else {
                    Page::text(500, format!("not ready, pending: {}\n", pending.join(", ")))
                }
            }
        })
    }

    /// `POST /logging`: says or changes the log levels of the process.
    pub fn with_logging(self) -> Self {
        self.on("/logging", |visit| async move { logging(&visit) })
    }

    pub(super) async fn answer(&self, visit: Visit) -> Page {
        let exact = self.exact.get(&visit.path);
        let below = || {
            self.prefixes
                .iter()
                .find(|(p, _)| visit.path.starts_with(p))
                .map(|(_, h)| h)
        };
        match exact.or_else(below) {
            Some(handler) => handler(visit).await,
            None => Page::text(404, "no such page\n"),
        }
    }
}

const LOGGING_HELP: &str = "usage: POST /logging (lists the levels)
usage: POST /logging?level=<level> (off, error, warn, info, debug or trace)
usage: POST /logging?level=<scope>:<level>,<scope>:<level>
usage: POST /logging?reset (back to the levels of the start)
";

fn logging(visit: &Visit) -> Page {
    if !visit.is_post() {
        return Page::text(405, format!("Invalid HTTP method\n{LOGGING_HELP}"));
    }
    let reset = visit.query.contains_key("reset");
    let change = match visit.query.get("level") {
        _ if reset => tulle_telemetry::reset_log_levels(),
        _ => Ok(()),
    };
    let change = change.and_then(|()| match visit.query.get("level") {
        Some(level) if !level.is_empty() => tulle_telemetry::set_log_levels(level),
        _ => Ok(()),
    });
    match change.and_then(|()| tulle_telemetry::log_levels()) {
        Ok(levels) => Page::text(200, format!("current log level is {levels}\n")),
        Err(error) => Page::text(400, format!("{error}\n{LOGGING_HELP}")),
    }
}

/// `a=b&c` with percent and plus decoding; of two values the last counts.
pub(super) fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'+' => b' ',
            b'%' => {
                let ahead = rest.clone().take(2).collect::<Vec<u8>>();
                let hex = std::str::from_utf8(&ahead).ok().filter(|h| h.len() == 2);
                match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                    Some(value) => {
                        rest.nth(1);
                        value
                    }
                    None => byte,
                }
            }
            other => other,
        };
        bytes.push(decoded);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
