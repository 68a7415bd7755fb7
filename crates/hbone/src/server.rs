//! The server side: accept a tunnel, take its requests.
use tokio::net::TcpStream;
use tulle_identity::ServerTls;
use tulle_model::Identity;

use crate::{Error, Settings, Stream};

/// Serves a tunnel on an accepted socket: TLS with a client certificate, then HTTP/2.
pub async fn accept(tcp: TcpStream, tls: &ServerTls, settings: &Settings) -> Result<Connection, Error> {
    let _ = (tcp, tls, settings);
    Err(Error::Closed)
}

/// A tunnel that a peer opened to us.
pub struct Connection {
    peer: Identity,
}

impl Connection {
    /// Who the peer proved to be.
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// The next well-formed CONNECT; none when the tunnel is over.
    pub async fn next(&mut self) -> Option<Request> {
        None
    }

    /// To drain or cut it from elsewhere on this worker.
    pub fn handle(&self) -> Handle {
        Handle {}
    }
}

/// Drains or cuts a tunnel.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// GOAWAY: open streams go on, new ones are refused, the tunnel closes after the last.
    pub fn drain(&self) {}

    /// Cuts the tunnel and its streams now.
    pub fn abort(&self) {}
}

/// A CONNECT that waits for its answer. Dropped unanswered, the stream is reset.
pub struct Request {
    /// `ip:port` or `host:port`, already checked for form.
    pub authority: String,
    /// `baggage`, at most 64 KiB, not interpreted.
    pub baggage: Option<String>,
    /// `forwarded`, not interpreted.
    pub forwarded: Option<String>,
    /// `traceparent`, not interpreted.
    pub traceparent: Option<String>,
    /// `x-forwarded-network`, not interpreted.
    pub x_forwarded_network: Option<String>,
    stream: Stream,
}

impl Request {
    /// Answers with an error status and ends the stream.
    pub fn refuse(self, status: u16) {
        let _ = status;
    }

    /// Answers 200; the application is connected.
    pub fn accept(self, baggage: Option<&str>) -> Stream {
        let _ = baggage;
        self.stream
    }
}
