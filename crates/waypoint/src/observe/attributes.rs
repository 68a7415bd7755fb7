//! Attributes of requests, as expressions of users name them.

use std::time::Duration;

use tulle_policy::expression::{Attributes, Value};

use crate::destination::Hop;
use crate::exchange::Exchange;

/// A request that has ended.
pub(super) struct Seen<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) duration: Duration,
}

impl Attributes for Seen<'_> {
    fn get(&self, path: &[&str]) -> Option<Value> {
        let (group, rest) = path.split_first()?;
        match *group {
            "request" => self.request(rest),
            "response" => self.response(rest),
            "source" => self.end(rest, Some(self.exchange.client.source)),
            "destination" => self.end(rest, Some(self.exchange.client.local)),
            "upstream" => {
                let hop = self.exchange.seen.hop.as_ref();
                self.end(rest, hop.and_then(Hop::address))
            }
            "connection" => self.connection(rest),
            "xds" => match rest {
                ["route_name"] => text(self.exchange.seen.route.as_deref()?),
                ["cluster_name"] => text(self.exchange.seen.cluster.as_deref()?),
                _ => None,
            },
            _ => None,
        }
    }
}

fn text(value: &str) -> Option<Value> {
    Some(Value::Text(value.to_owned()))
}

fn number(value: u64) -> Option<Value> {
    i64::try_from(value).ok().map(Value::Int)
}

impl Seen<'_> {
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
            ["protocol"] => text(match exchange.seen.version {
                http::Version::HTTP_2 => "HTTP/2",
                http::Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            }),
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

    fn end(&self, path: &[&str], address: Option<std::net::SocketAddr>) -> Option<Value> {
        match path {
            ["address"] => text(&address?.to_string()),
            ["port"] => Some(Value::Int(address?.port().into())),
            ["principal"] => text(&self.exchange.client.peer.as_ref()?.to_string()),
            _ => None,
        }
    }

    fn connection(&self, path: &[&str]) -> Option<Value> {
        let client = &self.exchange.client;
        match path {
            ["mtls"] => Some(Value::Bool(client.peer.is_some())),
            ["requested_server_name"] => text(client.server_name.as_deref()?),
            ["uri_san_peer_certificate"] => text(&client.peer.as_ref()?.to_string()),
            _ => None,
        }
    }
}
