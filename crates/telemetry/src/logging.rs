//! The process log: Istio's tab-separated layout or JSON, with levels that change at run time.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry as Spans, reload};

use crate::text::{write_json_string, write_time};
use crate::writer::{self, Line};
use crate::{access, registry::Registry};

pub use tracing::Level;

static LEVELS: OnceLock<reload::Handle<Targets, Spans>> = OnceLock::new();

/// Why a log level did not change.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The caller's text.
    #[error(
        "log level {0:?} is not <level> or <scope>:<level> with level off, error, warn, info, debug or trace"
    )]
    Level(String),
    /// [`init_logging`] was not called, or failed.
    #[error("the log of this process is not running")]
    NotRunning,
}

/// Starts the log of this process, on standard output. `component`, for example `ztunnel`, is left out of scopes.
/// `LOG_FORMAT=json` and `RUST_LOG` apply. A second call changes nothing.
pub fn init_logging(component: &'static str) {
    let json = std::env::var("LOG_FORMAT").is_ok_and(|f| f == "json");
    if !writer::start(json) {
        return;
    }
    let levels = initial_levels();
    note_access_level(&levels);
    let (filter, handle) = reload::Layer::new(levels);
    let lines = Lines { component, json };
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if started.is_ok() {
        // Set once: `writer::start` let only one caller through.
        let _ = LEVELS.set(handle);
    }
}

/// Writes out what waits, for the end of the process.
pub fn flush_logs() {
    writer::flush();
}

/// Adds the counter of dropped log lines to `registry`.
pub fn register_log_metrics(registry: &Registry) {
    writer::register(registry);
}

/// The levels in force, as `RUST_LOG` would write them.
pub fn log_levels() -> Result<String, LogError> {
    let handle = LEVELS.get().ok_or(LogError::NotRunning)?;
    handle
        .with_current(ToString::to_string)
        .map_err(|_| LogError::NotRunning)
}

/// Adds levels to those in force: `debug`, or `access:debug,xds:trace`.
pub fn set_log_levels(levels: &str) -> Result<(), LogError> {
    let handle = LEVELS.get().ok_or(LogError::NotRunning)?;
    let current = log_levels()?;
    let new = parse(&format!("{current},{}", directives(levels)?))?;
    note_access_level(&new);
    handle.reload(new).map_err(|_| LogError::NotRunning)
}

/// Back to the levels of the start.
pub fn reset_log_levels() -> Result<(), LogError> {
    let handle = LEVELS.get().ok_or(LogError::NotRunning)?;
    let new = initial_levels();
    note_access_level(&new);
    handle.reload(new).map_err(|_| LogError::NotRunning)
}

fn initial_levels() -> Targets {
    std::env::var("RUST_LOG")
        .ok()
        .filter(|levels| !levels.is_empty())
        .and_then(|levels| parse(&levels).ok())
        .unwrap_or_else(|| Targets::new().with_default(Level::INFO))
}

fn parse(levels: &str) -> Result<Targets, LogError> {
    levels
        .parse()
        .map_err(|_| LogError::Level(levels.to_owned()))
}

/// Admin clients write `scope:level`, the filter wants `scope=level`.
fn directives(levels: &str) -> Result<String, LogError> {
    let known =
        |level: &str| matches!(level, "off" | "error" | "warn" | "info" | "debug" | "trace");
    let one = |clause: &str| {
        let split = clause.rfind(['=', ':']).map(|at| clause.split_at(at));
        match split {
            None if known(clause) => Ok(clause.to_owned()),
            Some((scope, level)) if known(&level[1..]) && !scope.is_empty() => {
                Ok(format!("{scope}={}", &level[1..]))
            }
            _ => Err(LogError::Level(clause.to_owned())),
        }
    };
    let all: Result<Vec<String>, LogError> = levels.split(',').map(one).collect();
    Ok(all?.join(","))
}

fn note_access_level(levels: &Targets) {
    let order = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG];
    let on = order
        .iter()
        .take_while(|l| levels.would_enable("access", l));
    access::set_level(u8::try_from(on.count()).unwrap_or(0));
}

struct Lines {
    component: &'static str,
    json: bool,
}

/// A span's fields as text, kept with the span.
struct SpanFields(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new(false);
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields.pairs));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new(self.json);
        event.record(&mut fields);
        let mut scope = self.scope(event.metadata().target()).to_owned();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|s| s.from_root())
        {
            scope.push(':');
            scope.push_str(span.metadata().name());
            let extensions = span.extensions();
            match extensions.get::<SpanFields>() {
                Some(SpanFields(text)) if !text.is_empty() => {
                    // Writing to a String cannot fail.
                    let _ = write!(scope, "{{{text}}}");
                }
                _ => {}
            }
        }
        let mut line = String::with_capacity(160);
        if self
            .line(&mut line, event.metadata().level(), &scope, &fields)
            .is_ok()
        {
            writer::send(Line::Text(line));
        }
    }
}

impl Lines {
    /// `tulle_ztunnel::xds` is `xds` in the ztunnel and `ztunnel::xds` elsewhere.
    fn scope<'t>(&self, target: &'t str) -> &'t str {
        let target = target.strip_prefix("tulle_").unwrap_or(target);
        match target.strip_prefix(self.component) {
            Some(inner) => inner.strip_prefix("::").unwrap_or(target),
            None => target,
        }
    }

    fn line(
        &self,
        out: &mut String,
        level: &Level,
        scope: &str,
        fields: &Fields,
    ) -> std::fmt::Result {
        let level = match *level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        if self.json {
            write!(out, "{{\"level\":\"{level}\",\"time\":\"")?;
            write_time(out, SystemTime::now())?;
            out.push_str("\",\"scope\":");
            write_json_string(out, scope)?;
            out.push_str(",\"message\":");
            write_json_string(out, &fields.message)?;
            writeln!(out, "{}}}", fields.pairs)
        } else {
            write_time(out, SystemTime::now())?;
            writeln!(
                out,
                "\t{level}\t{scope}\t{}\t{}",
                fields.message, fields.pairs
            )
        }
    }
}

struct Fields {
    json: bool,
    message: String,
    pairs: String,
}

impl Fields {
    fn new(json: bool) -> Self {
        Self {
            json,
            message: String::new(),
            pairs: String::new(),
        }
    }

    fn pair(&mut self, key: &str, value: &str, quoted: bool) {
        // Writing to a String cannot fail.
        let _ = if self.json {
            let wrote = write!(self.pairs, ",\"{key}\":");
            if quoted {
                wrote.and_then(|()| write_json_string(&mut self.pairs, value))
            } else {
                wrote.and_then(|()| self.pairs.write_str(value))
            }
        } else {
            let space = if self.pairs.is_empty() { "" } else { " " };
            write!(self.pairs, "{space}{key}={value}")
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            name if name.starts_with("log.") => {}
            // One line per event, whatever it says.
            "message" => self.message = format!("{value:?}").replace(['\n', '\r'], " "),
            name => self.pair(name, &format!("{value:?}").replace(['\n', '\r'], " "), true),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.replace(['\n', '\r'], " "),
            name if self.json => self.pair(name, value, true),
            name => self.pair(name, &format!("{value:?}"), true),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.pair(field.name(), &value.to_string(), false);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.pair(field.name(), &value.to_string(), false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.pair(field.name(), &value.to_string(), false);
    }
}

#[cfg(test)]
mod tests;
