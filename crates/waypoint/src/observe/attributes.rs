//! Attributes of requests and connections, as expressions of users name them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tulle_model::Workload;
use tulle_policy::expression::{Attributes, Value};

use super::connection::Known;
use crate::authorize;
use crate::destination::Hop;
use crate::exchange::Exchange;
use crate::inbound::Client;

/// A request that has ended.
pub(super) struct Request<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) duration: Duration,
}

/// A connection.
pub(super) struct Connection<'a> {
    pub(super) client: &'a Client,
    pub(super) known: Known<'a>,
    /// The client's workload.
    pub(super) source: Option<&'a Arc<Workload>>,
    /// Bytes from the client, and to it.
    pub(super) moved: (u64, u64),
}

impl Attributes for Request<'_> {
    fn get(&self, path: &[&str]) -> Option<Value> {
        let (exchange, seen) = (self.exchange, &self.exchange.seen);
        let (group, rest) = path.split_first()?;
        match *group {
            "request" => self.request(rest),
            "response" => self.response(rest),
            "xds" => match rest {
                ["route_name"] => text(seen.route.as_deref()?),
                ["cluster_name"] => text(seen.cluster.as_deref()?),
                _ => None,
            },
            "upstream" => end(rest, &exchange.client, seen.hop.as_ref()?.address()),
            _ => {
                let network = &exchange.worker.shared.network;
                let source = || authorize::workload(&exchange.snapshot, network, &exchange.client);
                shared(path, &exchange.client, source, seen.workload.as_ref())
            }
        }
    }
}

impl Attributes for Connection<'_> {
    fn get(&self, path: &[&str]) -> Option<Value> {
        match path {
            ["xds", "route_name"] => text(self.known.route?),
            ["xds", "cluster_name"] => text(self.known.cluster?),
            // As Envoy calls what a connection moved.
            ["request", "size" | "total_size"] => number(self.moved.0),
            ["response", "size" | "total_size"] => number(self.moved.1),
            ["upstream", rest @ ..] => {
                let address = self.known.hop.and_then(Hop::address);
                end(rest, self.client, address)
            }
            _ => shared(path, self.client, || self.source, self.known.workload),
        }
    }
}

fn text(value: &str) -> Option<Value> {
    Some(Value::Text(value.to_owned()))
}

fn number(value: u64) -> Option<Value> {
    i64::try_from(value).ok().map(Value::Int)
}

/// What is known of every client and its peer.
fn shared<'a>(
    path: &[&str],
    client: &Client,
    source: impl FnOnce() -> Option<&'a Arc<Workload>>,
    destination: Option<&Arc<Workload>>,
) -> Option<Value> {
    match path {
        ["source", rest @ ..] => end(rest, client, Some(client.source)),
        ["destination", rest @ ..] => end(rest, client, Some(client.local)),
        ["connection", "mtls"] => Some(Value::Bool(client.peer.is_some())),
        ["connection", "requested_server_name"] => text(client.server_name.as_deref()?),
        ["connection", "uri_san_peer_certificate"] => text(&client.peer.as_ref()?.to_string()),
        ["filter_state", "downstream_peer", field] => workload(source()?, field),
        ["filter_state", "upstream_peer", field] => workload(destination?, field),
        _ => None,
    }
}

fn end(path: &[&str], client: &Client, address: Option<SocketAddr>) -> Option<Value> {
    match path {
        ["address"] => text(&address?.to_string()),
        ["port"] => Some(Value::Int(address?.port().into())),
        ["principal"] => text(&client.peer.as_ref()?.to_string()),
        _ => None,
    }
}

/// As Istio's proxies call what they know of peers.
fn workload(workload: &Workload, field: &str) -> Option<Value> {
    text(match field {
        "name" => &workload.name,
        "namespace" => &workload.namespace,
        "workload" => &workload.workload_name,
        "service" | "app" => &workload.canonical_name,
        "revision" | "version" => &workload.canonical_revision,
        "cluster" => &workload.cluster,
        "type" => workload.kind.as_str(),
        _ => return None,
    })
}

impl Request<'_> {
    fn request(&self, path: &[&str]) -> Option<Value> {
        let exchange = self.exchange;
        let head = exchange.seen.head.as_ref()?;
        let header = |name: &str| {
            let value = head.headers.get(name)?;
            text(&String::from_utf8_lossy(value.as_bytes()))
        };
        match path {
            ["method"] => text(head.method.as_str()),
            ["path"] => text(&head.target),
            ["url_path"] => text(head.target.split('?').next()?),
            ["query"] => text(head.target.split_once('?')?.1),
            ["host"] => header("host"),
            ["useragent"] => header("user-agent"),
            ["referer"] => header("referer"),
            ["id"] => header("x-request-id"),
            ["scheme"] => text("http"),
            ["protocol"] => text(super::version(exchange.seen.version)),
            ["headers", name] => header(&name.to_ascii_lowercase()),
            ["size"] => number(exchange.request.bytes()),
            ["total_size"] => number(exchange.request.bytes() + exchange.seen.request_head),
            ["duration"] => number(u64::try_from(self.duration.as_millis()).ok()?),
            _ => None,
        }
    }

    fn response(&self, path: &[&str]) -> Option<Value> {
        let seen = &self.exchange.seen;
        match path {
            ["code"] => (seen.code != 0).then_some(Value::Int(seen.code.into())),
            ["code_details"] => text(seen.details.as_deref()?),
            ["flags"] => text(&seen.flags.to_string()),
            ["grpc_status"] => seen.grpc_status.map(|code| Value::Int(code.into())),
            ["size"] => number(self.exchange.response.bytes()),
            ["total_size"] => number(self.exchange.response.bytes() + seen.response_head),
            _ => None,
        }
    }
}
