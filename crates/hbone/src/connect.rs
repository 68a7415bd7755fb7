//! The CONNECT request and its answer, as header lists (RFC 9113, section 8.5).

use crate::hpack;
use crate::limits;

#[cfg(test)]
mod tests;

/// What a client asks for: one connection to `authority`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// `ip:port` or `host:port`.
    pub authority: String,
    /// The source workload, as `baggage` says it.
    pub baggage: Option<String>,
    /// `forwarded`.
    pub forwarded: Option<String>,
    /// `traceparent`.
    pub traceparent: Option<String>,
}

impl Connect {
    /// The header block; an error says what cannot be sent.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, &'static str> {
        let optional = [
            ("baggage", &self.baggage),
            ("forwarded", &self.forwarded),
            ("traceparent", &self.traceparent),
        ];
        if !authority_is_valid(&self.authority) {
            return Err("its authority is not host:port");
        }
        let mut block = Vec::with_capacity(256);
        hpack::literal(&mut block, ":method", "CONNECT");
        hpack::literal(&mut block, ":authority", &self.authority);
        for (name, value) in optional {
            if let Some(value) = value {
                if !value_is_valid(value.as_bytes()) {
                    return Err("a header value holds a control character");
                }
                hpack::literal(&mut block, name, value);
            }
        }
        if block.len() > limits::MAX_REQUEST {
            return Err("its headers are too large");
        }
        Ok(block)
    }
}

/// What a server saw in a header block.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: Option<Vec<u8>>,
    pub(crate) authority: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) baggage: Option<String>,
    pub(crate) forwarded: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) x_forwarded_network: Option<String>,
    regular_seen: bool,
    malformed: bool,
}

impl Head {
    /// Takes in one field.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        if !value_is_valid(value) {
            self.malformed = true;
            return;
        }
        if name.first() == Some(&b':') {
            return self.pseudo(name, value);
        }
        self.regular_seen = true;
        match name {
            b"baggage" => self.malformed |= !append(&mut self.baggage, value),
            b"forwarded" => self.malformed |= !append(&mut self.forwarded, value),
            b"traceparent" => self.malformed |= !append(&mut self.traceparent, value),
            b"x-forwarded-network" => {
                self.malformed |= !append(&mut self.x_forwarded_network, value)
            }
            // Connection-specific fields have no place in HTTP/2 (§8.2.2).
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => {
                self.malformed = true;
            }
            b"te" => self.malformed |= value != b"trailers",
            other => self.malformed |= !name_is_valid(other),
        }
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        let text = || std::str::from_utf8(value).ok().map(str::to_owned);
        let fine = !self.regular_seen
            && match name {
                b":method" => self.method.replace(value.to_vec()).is_none(),
                b":authority" => {
                    let first = self.authority.is_none();
                    self.authority = text();
                    first && self.authority.is_some()
                }
                b":status" => {
                    let first = self.status.is_none();
                    self.status = text()
                        .filter(|text| text.len() == 3)
                        .and_then(|text| text.parse().ok());
                    first && self.status.is_some()
                }
                // :path and :scheme must not be there (§8.5), :protocol we did not offer.
                _ => false,
            };
        self.malformed |= !fine;
    }

    /// Whether this is a CONNECT as it must be.
    pub(crate) fn is_connect(&self) -> bool {
        !self.malformed
            && self.status.is_none()
            && self.method.as_deref() == Some(b"CONNECT")
            && self.authority.as_deref().is_some_and(authority_is_valid)
    }

    /// The status, if this is a well-formed answer.
    pub(crate) fn answer(&self) -> Option<u16> {
        if self.malformed || self.method.is_some() || self.authority.is_some() {
            return None;
        }
        self.status
    }
}

/// Lists may be spread over fields (RFC 9110 §5.3). False if the value is no text.
fn append(list: &mut Option<String>, value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else {
        return false;
    };
    match list {
        Some(list) => {
            list.push(',');
            list.push_str(value);
        }
        None => *list = Some(value.to_owned()),
    }
    true
}

fn name_is_valid(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && *byte != b':')
}

/// RFC 9113 §8.2.1, and no control character at all: values end up in logs.
fn value_is_valid(value: &[u8]) -> bool {
    !value
        .iter()
        .any(|&byte| byte < 0x20 && byte != b'\t' || byte == 0x7f)
}

/// `host:port`: an IPv4 address, an IPv6 address in brackets, or a DNS name; no user, no zone, a port from 1 to 65535.
fn authority_is_valid(authority: &str) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    let port_is_valid = port.len() <= 5
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port
            .parse::<u32>()
            .is_ok_and(|port| (1..=65535).contains(&port));
    let host_is_valid = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => host_name_is_valid(host),
    };
    port_is_valid && host_is_valid
}

fn host_name_is_valid(host: &str) -> bool {
    if host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}
