//! The access log of requests: Istio's default line, its JSON, and formats of users (Envoy's `%OPERATOR%` texts).
//!
//! The data path only fills a [`RequestRecord`] in; text is made by the writer thread.

mod format;

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::requests::Flags;
use crate::text::{write_json_string, write_time_millis};
use crate::writer::{self, Line};
use format::{Field, Piece};

pub use format::{FormatError, RequestFormat};

/// What is known of a request, or of a TCP connection, when it ended.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// How it is written.
    pub format: Arc<RequestFormat>,
    /// When it began.
    pub start: SystemTime,
    /// Headers that [`RequestFormat::request_headers`] names, in that order; pseudo-headers included.
    pub request: Vec<Option<Box<str>>>,
    /// Headers that [`RequestFormat::response_headers`] names, in that order.
    pub response: Vec<Option<Box<str>>>,
    /// `HTTP/1.1`, `HTTP/2`; empty for TCP.
    pub protocol: &'static str,
    /// HTTP status, 0 when there was no answer.
    pub code: u16,
    /// What happened on the way.
    pub flags: Flags,
    /// Why this status: `via_upstream`, `rbac_access_denied_matched_policy[...]`, ...
    pub details: Option<Arc<str>>,
    /// Why the client's connection was ended.
    pub termination: Option<Arc<str>>,
    /// Why the endpoint could not be reached.
    pub upstream_failure: Option<Arc<str>>,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// From first byte to last.
    pub duration: Duration,
    /// Until the endpoint's answer began.
    pub upstream_time: Option<Duration>,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// `outbound|80|v1|reviews.default.svc.cluster.local`.
    pub upstream_cluster: Option<Arc<str>>,
    /// Our address towards the endpoint.
    pub upstream_local: Option<SocketAddr>,
    /// The address that the client used.
    pub downstream_local: Option<SocketAddr>,
    /// The client.
    pub downstream_remote: Option<SocketAddr>,
    /// SNI of the client.
    pub server_name: Option<Arc<str>>,
    /// The rule that matched.
    pub route: Option<Arc<str>>,
    /// The client's identity.
    pub peer: Option<Arc<str>>,
    /// `grpc-status`.
    pub grpc_status: Option<u32>,
    /// The trace that the request belongs to.
    pub trace: Option<u128>,
}

impl RequestRecord {
    /// Hands the line to the writer thread, or drops and counts it. Never blocks.
    pub fn write(self) {
        writer::send(Line::Request(Box::new(self)));
    }

    /// Appends the line.
    pub fn write_line(&self, out: &mut String) -> fmt::Result {
        match &*self.format {
            RequestFormat {
                json: Some(keys), ..
            } => self.write_json(keys, out),
            RequestFormat { text, .. } => text.iter().try_for_each(|piece| self.piece(piece, out)),
        }
    }

    /// What the format's text says, without a line feed at its end.
    pub fn text(&self) -> String {
        let mut text = self.made_of(&self.format.text);
        text.truncate(text.trim_end_matches('\n').len());
        text
    }

    /// What the format says by name.
    pub fn labels(&self) -> Vec<(String, String)> {
        let named = self.format.json.iter().flatten();
        named
            .map(|(name, pieces)| (name.to_string(), self.made_of(pieces)))
            .collect()
    }

    fn made_of(&self, pieces: &[Piece]) -> String {
        let mut text = String::new();
        for piece in pieces {
            // Writing to a String cannot fail.
            let _ = self.piece(piece, &mut text);
        }
        text
    }

    fn write_json(&self, keys: &[(Box<str>, Vec<Piece>)], out: &mut String) -> fmt::Result {
        out.push('{');
        for (at, (key, pieces)) in keys.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_json_string(out, key)?;
            out.push(':');
            if let [Piece::Field(field)] = &pieces[..]
                && field.is_number()
            {
                match self.number(field) {
                    Some(number) => write!(out, "{number}")?,
                    None => out.push_str("null"),
                }
                continue;
            }
            let mut text = String::new();
            for piece in pieces {
                self.piece(piece, &mut text)?;
            }
            match text.as_str() {
                // Envoy knows no flags, never null ones.
                "-" if !matches!(&pieces[..], [Piece::Field(Field::Flags)]) => {
                    out.push_str("null");
                }
                text => write_json_string(out, text)?,
            }
        }
        out.push_str("}\n");
        Ok(())
    }

    fn piece(&self, piece: &Piece, out: &mut String) -> fmt::Result {
        match piece {
            Piece::Text(text) => {
                out.push_str(text);
                Ok(())
            }
            Piece::Field(field) if field.is_number() => match self.number(field) {
                Some(number) => write!(out, "{number}"),
                None => out.write_char('-'),
            },
            Piece::Field(field) => self.field(field, out),
        }
    }

    fn number(&self, field: &Field) -> Option<u64> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        match field {
            Field::Code => Some(self.code.into()),
            Field::BytesReceived => Some(self.bytes_received),
            Field::BytesSent => Some(self.bytes_sent),
            Field::Duration => Some(millis(self.duration)),
            Field::UpstreamTime => self.upstream_time.map(millis),
            Field::GrpcStatus => self.grpc_status.map(u64::from),
            _ => None,
        }
    }

    fn field(&self, field: &Field, out: &mut String) -> fmt::Result {
        let text = |out: &mut String, value: Option<&str>| match value {
            Some(value) if !value.is_empty() => write_plain(out, value),
            _ => out.write_char('-'),
        };
        let address = |out: &mut String, value: Option<SocketAddr>| match value {
            Some(value) => write!(out, "{value}"),
            None => out.write_char('-'),
        };
        match field {
            Field::Start => write_time_millis(out, self.start),
            Field::Request { at, or, cut } => {
                let get = |at: usize| self.request.get(at)?.as_deref();
                let value = get(*at).or_else(|| get((*or)?));
                text(out, value.map(|v| shorten(v, *cut)))
            }
            Field::PathWithoutQuery { at, or } => {
                let get = |at: usize| self.request.get(at)?.as_deref();
                let value = get(*at).or_else(|| get((*or)?));
                text(out, value.map(|v| v.split('?').next().unwrap_or(v)))
            }
            Field::Response { at, cut } => {
                let value = self.response.get(*at).and_then(|v| v.as_deref());
                text(out, value.map(|v| shorten(v, *cut)))
            }
            Field::Protocol => text(out, Some(self.protocol)),
            Field::Flags => write!(out, "{}", self.flags),
            Field::Details => text(out, self.details.as_deref()),
            Field::Termination => text(out, self.termination.as_deref()),
            Field::UpstreamFailure => text(out, self.upstream_failure.as_deref()),
            Field::UpstreamHost => address(out, self.upstream_host),
            Field::UpstreamCluster => text(out, self.upstream_cluster.as_deref()),
            Field::UpstreamLocal => address(out, self.upstream_local),
            Field::DownstreamLocal => address(out, self.downstream_local),
            Field::DownstreamRemote => address(out, self.downstream_remote),
            Field::DownstreamRemoteIp => match self.downstream_remote {
                Some(remote) => write!(out, "{}", remote.ip()),
                None => out.write_char('-'),
            },
            Field::ServerName => text(out, self.server_name.as_deref()),
            Field::Route => text(out, self.route.as_deref()),
            Field::Peer => text(out, self.peer.as_deref()),
            Field::Trace => match self.trace {
                Some(trace) => write!(out, "{trace:032x}"),
                None => out.write_char('-'),
            },
            Field::Unknown => out.write_char('-'),
            Field::Code
            | Field::BytesReceived
            | Field::BytesSent
            | Field::Duration
            | Field::UpstreamTime
            | Field::GrpcStatus => Ok(()),
        }
    }
}

fn shorten(text: &str, cut: Option<usize>) -> &str {
    match cut.and_then(|cut| text.char_indices().nth(cut)) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// What peers sent must not make a second line of one, nor end a quoted text.
fn write_plain(out: &mut String, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.push(c),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
