//! The client side: make a tunnel, open streams on it.
use std::sync::Arc;

use tokio::net::TcpStream;
use tulle_identity::ClientTls;
use tulle_model::Identity;

use crate::{Connect, Error, OpenError, Settings, Stream};

/// Makes a tunnel on a connected socket: TLS (identity of the peer ∈ `expected`), then HTTP/2.
pub async fn connect(
    tcp: TcpStream,
    tls: &ClientTls,
    expected: Arc<[Identity]>,
    settings: &Settings,
) -> Result<Tunnel, Error> {
    let _ = (tcp, tls, expected, settings);
    Err(Error::Closed)
}

/// A tunnel to one peer; clones are the same tunnel. `!Send`: it belongs to the worker that made it.
#[derive(Clone)]
pub struct Tunnel {
    peer: std::rc::Rc<Identity>,
}

/// An answered CONNECT.
pub struct Opened {
    /// The bytes.
    pub stream: Stream,
    /// `baggage` of the answer: who the destination is.
    pub baggage: Option<String>,
}

impl Tunnel {
    /// Asks for a connection and waits for the answer.
    pub async fn open(&self, request: &Connect) -> Result<Opened, OpenError> {
        let _ = request;
        Err(OpenError::Tunnel(Error::Closed))
    }

    /// Whether new streams may be opened now.
    pub fn usable(&self) -> bool {
        false
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        0
    }

    /// Who the peer proved to be.
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// No new streams; the tunnel closes when the last one ends.
    pub fn retire(&self) {}

    /// Resolves when the tunnel is gone, with the reason.
    pub async fn closed(&self) -> Error {
        Error::Closed
    }
}
