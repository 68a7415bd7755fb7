//! The access log: one line per connection, ztunnel's keys in ztunnel's order.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use tulle_model::{Identity, Service, Workload};

use crate::connections::Reporter;
use crate::text::{write_json_string, write_time};
use crate::writer::{self, Line};

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was opened: `debug`.
    Opened,
    /// It ended: `info`, or `error` when there is one.
    Complete,
    /// It was refused before anything was known of it: `warn`, with the addresses only.
    Failed,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where its packets come from or go to.
    pub address: SocketAddr,
    /// Who that is, when the mesh knows.
    pub workload: Option<Arc<Workload>>,
    /// Its identity, when mTLS proved it.
    pub identity: Option<Identity>,
}

impl Peer {
    /// A peer of which only the address is known.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            workload: None,
            identity: None,
        }
    }
}

/// One line of the access log, not yet text.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When it is written.
    pub time: SystemTime,
    /// What happened.
    pub event: Event,
    /// The client.
    pub source: Peer,
    /// The server, or its node proxy.
    pub destination: Peer,
    /// The authority of the CONNECT.
    pub hbone: Option<Arc<str>>,
    /// The service that was addressed.
    pub service: Option<Arc<Service>>,
    /// Whose line it is.
    pub reporter: Reporter,
    /// Bytes that the reporting workload sent.
    pub bytes_sent: u64,
    /// Bytes that it received.
    pub bytes_received: u64,
    /// From accept to end.
    pub duration: Duration,
    /// Why it failed.
    pub error: Option<Cow<'static, str>>,
}

/// The levels of target `access` that are on: 1 error, 2 warn, 3 info, 4 debug.
static LEVEL: AtomicU8 = AtomicU8::new(3);

pub(crate) fn set_level(level: u8) {
    LEVEL.store(level, Ordering::Relaxed);
}

/// Writes access records. Free to copy; never blocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessLog;

impl AccessLog {
    /// Whether a line would be written: ask before building a record.
    pub fn wants(self, event: Event, error: bool) -> bool {
        LEVEL.load(Ordering::Relaxed) >= level(event, error).0
    }

    /// Hands a line to the writer thread, or drops and counts it.
    pub fn write(self, record: AccessRecord) {
        if self.wants(record.event, record.error.is_some()) {
            writer::send(Line::Access(Box::new(record)));
        }
    }
}

fn level(event: Event, error: bool) -> (u8, &'static str) {
    match event {
        Event::Opened => (4, "debug"),
        Event::Complete if error => (1, "error"),
        Event::Complete => (3, "info"),
        Event::Failed => (2, "warn"),
    }
}

impl AccessRecord {
    fn message(&self) -> &'static str {
        match self.event {
            Event::Opened => "connection opened",
            Event::Complete => "connection complete",
            Event::Failed => "connection failed",
        }
    }

    /// Appends the tab-separated line that Kiali parses.
    pub fn write_text(&self, out: &mut String) -> fmt::Result {
        write_time(out, self.time)?;
        let level = level(self.event, self.error.is_some()).1;
        write!(out, "\t{level}\taccess\t{}\t", self.message())?;
        let mut first = true;
        self.fields(|key, value| {
            if !std::mem::take(&mut first) {
                out.push(' ');
            }
            match value {
                Value::Bare(text) => write!(out, "{key}={text}"),
                Value::Text(text) => write!(out, "{key}={text:?}"),
                Value::Number(number) => write!(out, "{key}={number}"),
            }
        })?;
        out.push('\n');
        Ok(())
    }

    /// Appends the same as one JSON object per line.
    pub fn write_json(&self, out: &mut String) -> fmt::Result {
        let level = level(self.event, self.error.is_some()).1;
        write!(out, "{{\"level\":\"{level}\",\"time\":\"")?;
        write_time(out, self.time)?;
        write!(
            out,
            "\",\"scope\":\"access\",\"message\":\"{}\"",
            self.message()
        )?;
        self.fields(|key, value| {
            write!(out, ",\"{key}\":")?;
            match value {
                Value::Bare(text) => write_json_string(out, &text.to_string()),
                Value::Text(text) => write_json_string(out, text),
                Value::Number(number) => write!(out, "{number}"),
            }
        })?;
        out.push_str("}\n");
        Ok(())
    }

    /// Every field that has a value, in the contract's order.
    fn fields(&self, mut each: impl FnMut(&'static str, Value<'_>) -> fmt::Result) -> fmt::Result {
        let brief = self.event == Event::Failed;
        let keys = [
            "src.addr",
            "src.workload",
            "src.namespace",
            "src.identity",
            "src.cluster",
        ];
        peer(&mut each, keys, &self.source, brief)?;
        each("dst.addr", Value::Bare(&self.destination.address))?;
        if !brief {
            if let Some(authority) = &self.hbone {
                each("dst.hbone_addr", Value::Bare(authority))?;
            }
            if let Some(service) = &self.service {
                each("dst.service", Value::Text(&service.hostname))?;
            }
            let keys = [
                "",
                "dst.workload",
                "dst.namespace",
                "dst.identity",
                "dst.cluster",
            ];
            peer(&mut each, keys, &self.destination, brief)?;
        }
        each("direction", Value::Text(self.reporter.direction()))?;
        if self.event == Event::Complete {
            each("bytes_sent", Value::Number(self.bytes_sent))?;
            each("bytes_recv", Value::Number(self.bytes_received))?;
            let duration = format!("{}ms", self.duration.as_millis());
            each("duration", Value::Text(&duration))?;
        }
        match &self.error {
            Some(error) => each("error", Value::Text(error)),
            None => Ok(()),
        }
    }
}

enum Value<'a> {
    Bare(&'a dyn fmt::Display),
    Text(&'a str),
    Number(u64),
}

fn peer(
    each: &mut impl FnMut(&'static str, Value<'_>) -> fmt::Result,
    [address, workload, namespace, identity, cluster]: [&'static str; 5],
    peer: &Peer,
    brief: bool,
) -> fmt::Result {
    if !address.is_empty() {
        each(address, Value::Bare(&peer.address))?;
    }
    if brief {
        return Ok(());
    }
    if let Some(known) = &peer.workload {
        each(workload, Value::Text(&known.name))?;
        each(namespace, Value::Text(&known.namespace))?;
    }
    if let Some(proved) = &peer.identity {
        each(identity, Value::Text(&proved.to_string()))?;
    }
    match &peer.workload {
        Some(known) if !known.cluster.is_empty() => each(cluster, Value::Text(&known.cluster)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
