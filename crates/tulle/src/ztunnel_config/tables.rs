//! istioctl's columns.

use jiff::Timestamp;
use serde_json::Value;

use super::dump::{Dump, text, texts, without_network};
use crate::cli::Direction;
use crate::table::Table;

/// Which workloads.
#[derive(Clone, Debug, Default)]
pub(super) struct Workloads<'a> {
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) node: Option<&'a str>,
    pub(super) address: Option<&'a str>,
}

impl Workloads<'_> {
    pub(super) fn matches(&self, item: &Value) -> bool {
        let is = |wanted: Option<&str>, field| {
            wanted.is_none_or(|wanted| text(item, field).eq_ignore_ascii_case(wanted))
        };
        let address = |wanted: &str| texts(&item["workloadIps"]).any(|ip| ip == wanted);
        is(self.namespace, "namespace")
            && is(self.name, "name")
            && is(self.node, "node")
            && self.address.is_none_or(address)
    }
}

/// Which connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections<'a> {
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) direction: Option<Direction>,
    pub(super) raw: bool,
}

impl Connections<'_> {
    pub(super) fn matches(&self, pod: &Value) -> bool {
        let info = &pod["info"];
        let is = |wanted: Option<&str>, field| {
            wanted.is_none_or(|wanted| text(info, field).eq_ignore_ascii_case(wanted))
        };
        is(self.namespace, "namespace") && is(self.name, "name")
    }
}

pub(super) fn workloads(dumps: &[Dump], filter: &Workloads<'_>) -> Table {
    let mut table = Table::new(&[
        "NAMESPACE",
        "POD NAME",
        "ADDRESS",
        "NODE",
        "WAYPOINT",
        "PROTOCOL",
    ]);
    for dump in dumps {
        for item in dump.workloads(filter) {
            let addresses = texts(&item["workloadIps"]).collect::<Vec<_>>().join(",");
            let address = if addresses.is_empty() {
                text(item, "hostname").to_owned()
            } else {
                addresses
            };
            table.row([
                text(item, "namespace").to_owned(),
                text(item, "name").to_owned(),
                address,
                text(item, "node").to_owned(),
                dump.waypoint(item),
                text(item, "protocol").to_owned(),
            ]);
        }
    }
    table
}

pub(super) fn services(dumps: &[Dump], namespace: Option<&str>) -> Table {
    let mut table = Table::new(&[
        "NAMESPACE",
        "SERVICE NAME",
        "SERVICE VIP",
        "WAYPOINT",
        "ENDPOINTS",
    ]);
    for dump in dumps {
        let healthy = dump.healthy();
        for item in dump.services(namespace) {
            let endpoints: Vec<&Value> = match &item["endpoints"] {
                Value::Object(table) => table.values().collect(),
                Value::Array(list) => list.iter().collect(),
                _ => Vec::new(),
            };
            let is_healthy = |end: &&&Value| {
                healthy
                    .get(text(end, "workloadUid"))
                    .copied()
                    .unwrap_or(false)
            };
            let good = endpoints.iter().filter(is_healthy).count();
            table.row([
                text(item, "namespace").to_owned(),
                text(item, "name").to_owned(),
                texts(&item["vips"])
                    .map(without_network)
                    .collect::<Vec<_>>()
                    .join(","),
                dump.waypoint(item),
                format!("{good}/{}", endpoints.len()),
            ]);
        }
    }
    table
}

pub(super) fn policies(dumps: &[Dump], namespace: Option<&str>) -> Table {
    let mut table = Table::new(&["NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"]);
    for dump in dumps {
        for item in dump.policies(namespace) {
            table.row(["namespace", "name", "action", "scope"].map(|field| text(item, field)));
        }
    }
    table
}

pub(super) fn certificates(dumps: &[Dump]) -> Table {
    certificates_at(dumps, Timestamp::now())
}

/// With a NODE column if the dumps are several nodes'.
pub(super) fn certificates_at(dumps: &[Dump], now: Timestamp) -> Table {
    let columns = [
        "CERTIFICATE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
        "NODE",
    ];
    let several = dumps.len() > 1;
    let shown = if several { 8 } else { 7 };
    let mut table = Table::new(&columns[..shown]);
    for dump in dumps {
        for item in dump.certificates() {
            for mut cells in certificate_rows(item, now) {
                cells.push(dump.node.clone().unwrap_or_default());
                cells.truncate(shown);
                table.row(cells);
            }
        }
    }
    table
}

/// Leaf, intermediates and roots of one identity.
fn certificate_rows(item: &Value, now: Timestamp) -> Vec<Vec<String>> {
    let list = |field: &str| {
        item.get(field)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let (chain, roots) = (list("certChain"), list("rootCerts"));
    let state = match text(item, "state") {
        // The reason behind it would widen the column beyond use; JSON has it.
        state if state.contains("Unavailable") => "Unavailable",
        state => state,
    };
    let row = |kind: &str, certificate: &Value| {
        vec![
            text(item, "identity").to_owned(),
            kind.to_owned(),
            state.to_owned(),
            valid(certificate, now).to_string(),
            hexadecimal(text(certificate, "serialNumber")),
            or_na(text(certificate, "expirationTime")),
            or_na(text(certificate, "validFrom")),
        ]
    };
    if chain.is_empty() {
        return vec![row("NA", &Value::Null)];
    }
    let last = chain.len() - 1;
    let own = chain.iter().enumerate().map(|(i, certificate)| {
        // Before there were `rootCerts`, the root was the chain's last.
        let kind = match i {
            0 => "Leaf",
            i if i == last && roots.is_empty() => "Root",
            _ => "Intermediate",
        };
        row(kind, certificate)
    });
    own.chain(roots.iter().map(|root| row("Root", root)))
        .collect()
}

fn or_na(value: &str) -> String {
    if value.is_empty() {
        "NA".to_owned()
    } else {
        value.to_owned()
    }
}

fn valid(certificate: &Value, now: Timestamp) -> bool {
    let time = |field| text(certificate, field).parse::<Timestamp>().ok();
    match (time("validFrom"), time("expirationTime")) {
        (Some(from), Some(to)) => from < now && now < to,
        _ => false,
    }
}

/// A decimal number of any length in hexadecimal; serials have up to 20 bytes.
fn hexadecimal(decimal: &str) -> String {
    if decimal.is_empty() {
        return "NA".to_owned();
    }
    // Most significant byte last.
    let mut bytes: Vec<u8> = Vec::new();
    for digit in decimal.chars() {
        let Some(digit) = digit.to_digit(10) else {
            return decimal.to_owned();
        };
        let mut carry = digit;
        for byte in &mut bytes {
            carry += u32::from(*byte) * 10;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.push((carry & 0xff) as u8);
        }
    }
    let hex: String = bytes
        .iter()
        .rev()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let hex = hex.trim_start_matches('0');
    if hex.is_empty() {
        "0".to_owned()
    } else {
        hex.to_owned()
    }
}

pub(super) fn connections(dumps: &[Dump], filter: &Connections<'_>) -> Table {
    let mut table = Table::new(&[
        "WORKLOAD",
        "DIRECTION",
        "LOCAL",
        "REMOTE",
        "REMOTE TARGET",
        "PROTOCOL",
    ]);
    let wanted = |direction| filter.direction.is_none_or(|wanted| wanted == direction);
    for dump in dumps {
        let names = if filter.raw {
            Default::default()
        } else {
            dump.names()
        };
        let name = |address: &str| -> String {
            let split = address.rsplit_once(':');
            let found = split.and_then(|(ip, port)| {
                let ip = ip.trim_start_matches('[').trim_end_matches(']');
                Some(format!("{}:{port}", names.get(ip)?))
            });
            found.unwrap_or_else(|| address.to_owned())
        };
        for pod in dump.connections(filter) {
            let info = &pod["info"];
            let workload = format!("{}.{}", text(info, "name"), text(info, "namespace"));
            let list = |direction: &str| {
                pod["connections"][direction]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            };
            for c in list("inbound")
                .iter()
                .filter(|_| wanted(Direction::Inbound))
            {
                let (local, remote) = (name(text(c, "actualDst")), name(text(c, "src")));
                let target = text(c, "originalDst").to_owned();
                let protocol = text(c, "protocol").to_owned();
                table.row([
                    workload.clone(),
                    "Inbound".into(),
                    local,
                    remote,
                    target,
                    protocol,
                ]);
            }
            for c in list("outbound")
                .iter()
                .filter(|_| wanted(Direction::Outbound))
            {
                let (local, remote) = (name(text(c, "src")), name(text(c, "actualDst")));
                let target = name(text(c, "originalDst"));
                let protocol = text(c, "protocol").to_owned();
                table.row([
                    workload.clone(),
                    "Outbound".into(),
                    local,
                    remote,
                    target,
                    protocol,
                ]);
            }
        }
    }
    table
}
