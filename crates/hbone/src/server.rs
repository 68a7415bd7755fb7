//! The server side: accept a tunnel, take its requests.

use std::future::poll_fn;
use std::rc::Rc;

use tokio::net::TcpStream;
use tulle_identity::ServerTls;
use tulle_identity::channel;
use tulle_model::Identity;

use crate::connect::Head;
use crate::stream::StreamState;
use crate::tunnel::{Core, Role};
use crate::{Error, Settings, Stream, hpack, limits};

/// Serves a tunnel on an accepted socket: TLS with a client certificate, then HTTP/2. Must be called on a worker (a `LocalSet`).
///
/// # Errors
/// When TLS fails or takes longer than `settings.tls_deadline`.
pub async fn accept(
    tcp: TcpStream,
    tls: &ServerTls,
    settings: &Settings,
) -> Result<Connection, Error> {
    let established = tokio::time::timeout(settings.tls_deadline, channel::server(&tcp, tls))
        .await
        .map_err(|_| Error::Deadline {
            stage: "the TLS handshake",
            after: settings.tls_deadline,
        })??;
    let core = Core::start(tcp, established, Role::Server, settings)?;
    Ok(Connection::new(core))
}

/// A request as the codec saw it.
pub(crate) struct Incoming {
    pub(crate) state: Rc<StreamState>,
    pub(crate) head: Head,
}

/// A tunnel that a peer opened to us. When it is dropped, the tunnel is drained: open streams go on.
pub struct Connection {
    core: Rc<Core>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.core.stop_accepting();
    }
}

impl Connection {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self { core }
    }

    /// Who the peer proved to be.
    pub fn peer(&self) -> &Identity {
        &self.core.peer
    }

    /// The next well-formed CONNECT; none when the tunnel is over. Cancel safe.
    pub async fn next(&mut self) -> Option<Request> {
        let Incoming { state, head } = poll_fn(|cx| self.core.poll_request(cx)).await?;
        Some(Request {
            authority: head.authority.unwrap_or_default(),
            baggage: head.baggage,
            forwarded: head.forwarded,
            traceparent: head.traceparent,
            x_forwarded_network: head.x_forwarded_network,
            stream: Stream {
                core: Rc::clone(&self.core),
                state,
            },
        })
    }

    /// To drain or cut it from elsewhere on this worker.
    pub fn handle(&self) -> Handle {
        Handle {
            core: Rc::clone(&self.core),
        }
    }

    /// Resolves when the tunnel is gone, with the reason.
    pub async fn closed(&self) -> Error {
        poll_fn(|cx| self.core.poll_closed(cx)).await
    }
}

/// Drains or cuts a tunnel.
#[derive(Clone)]
pub struct Handle {
    core: Rc<Core>,
}

impl Handle {
    /// GOAWAY: open streams go on, requests already under way are taken, new ones are refused; the tunnel closes after the last.
    pub fn drain(&self) {
        self.core.retire();
    }

    /// Cuts the tunnel and its streams now.
    pub fn abort(&self) {
        self.core.abort();
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.core.streams()
    }

    /// Resolves when the tunnel is gone, with the reason.
    pub async fn closed(&self) -> Error {
        poll_fn(|cx| self.core.poll_closed(cx)).await
    }
}

/// A CONNECT that waits for its answer. Dropped unanswered, the stream is reset.
pub struct Request {
    /// `ip:port` or `host:port`, already checked for form.
    pub authority: String,
    /// `baggage`, not interpreted.
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
    /// Whether the client did not wait for the answer.
    #[cfg(test)]
    pub(crate) fn early_bytes(&self) -> bool {
        self.stream.state.has_kept()
    }

    /// Answers with an error status and ends the stream.
    pub fn refuse(self, status: u16) {
        let mut block = Vec::new();
        hpack::status(&mut block, status);
        self.stream.core.answer(&self.stream.state, &block, true);
    }

    /// Answers 200; the application is connected.
    pub fn accept(self, baggage: Option<&str>) -> Stream {
        let mut block = Vec::new();
        hpack::status(&mut block, 200);
        if let Some(baggage) = baggage.filter(|text| text.len() <= limits::MAX_REQUEST) {
            hpack::literal(&mut block, "baggage", baggage);
        }
        self.stream.core.answer(&self.stream.state, &block, false);
        self.stream
    }
}
