//! The handshake, on the socket, up to the point where a [`Channel`] takes over.

use std::io;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use tokio::net::TcpStream;
use tulle_model::Identity;

use super::record::{Channel, RecordError, Secrets};
use crate::tls::{ClientTls, ServerTls};
use crate::{PeerError, certificate, verify_peer};

/// First guess at the size of a flight.
const FLIGHT: usize = 4096;
/// What a peer may send before the handshake is over. rustls bounds each message at 64 KiB.
const MAX_HANDSHAKE: usize = 128 << 10;
/// Records that may still go out when a handshake fails: the rest of a flight, the alert.
const MAX_LAST_FLIGHTS: usize = 8;

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer's certificate is not acceptable, the peer refuses ours, or the peer does not speak TLS 1.3.
    #[error("TLS handshake failed: {0}")]
    Tls(#[from] rustls::Error),
    /// The server is a workload of the mesh, but not the one we want to talk to.
    #[error(transparent)]
    Identity(#[from] PeerError),
    /// The peer speaks TLS, but not HTTP/2 in it.
    #[error("the peer did not agree on HTTP/2 (ALPN h2); it is no HBONE endpoint")]
    Protocol,
    /// The socket failed.
    #[error("the connection failed during the TLS handshake: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection before the handshake was over.
    #[error(
        "the peer closed the connection during the TLS handshake; it may have refused our certificate"
    )]
    Closed,
    /// The peer sent too much.
    #[error("the peer sent more than {MAX_HANDSHAKE} bytes before the TLS handshake was over")]
    Flood,
    /// The record layer could not take over.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A channel and what the handshake left over.
pub struct Established {
    /// Keys and counters.
    pub channel: Channel,
    /// The last flight of the handshake: to be sent before (and best together with) the first record.
    pub unsent: Vec<u8>,
    /// Application data that came with the handshake, already opened.
    pub early: Vec<u8>,
    /// Bytes of records that were received but not looked at.
    pub unread: Vec<u8>,
}

/// Shakes hands as a client. The peer must be one of `expected`; no application data is sent before that is known.
pub async fn client(
    tcp: &TcpStream,
    tls: &ClientTls,
    expected: &Arc<[Identity]>,
) -> Result<Established, HandshakeError> {
    let mut config = Arc::clone(tls.config());
    if !config.enable_secret_extraction {
        Arc::make_mut(&mut config).enable_secret_extraction = true;
    }
    let mut connection = UnbufferedClientConnection::new(config, ClientTls::server_name())?;
    let rest = shake_hands(tcp, &mut connection).await?;
    check_protocol(connection.alpn_protocol())?;
    let chain = connection.peer_certificates().ok_or(PeerError::Missing)?;
    let peer = verify_peer(chain, expected)?;
    let (extracted, kernel) = connection.dangerous_into_kernel_connection()?;
    rest.establish(Channel::new(
        extracted,
        Secrets::Client(Box::new(kernel)),
        peer,
    )?)
}

/// Shakes hands as a server. The configuration's verifier has judged the client's certificate.
pub async fn server(tcp: &TcpStream, tls: &ServerTls) -> Result<Established, HandshakeError> {
    let mut config = Arc::clone(tls.config());
    if !config.enable_secret_extraction {
        Arc::make_mut(&mut config).enable_secret_extraction = true;
    }
    let mut connection = UnbufferedServerConnection::new(config)?;
    let rest = shake_hands(tcp, &mut connection).await?;
    check_protocol(connection.alpn_protocol())?;
    let leaf = connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or(PeerError::Missing)?;
    let peer = certificate::spiffe(leaf)?;
    let (extracted, kernel) = connection.dangerous_into_kernel_connection()?;
    rest.establish(Channel::new(
        extracted,
        Secrets::Server(Box::new(kernel)),
        peer,
    )?)
}

fn check_protocol(agreed: Option<&[u8]>) -> Result<(), HandshakeError> {
    if agreed == Some(b"h2") {
        Ok(())
    } else {
        Err(HandshakeError::Protocol)
    }
}

async fn shake_hands(
    tcp: &TcpStream,
    connection: &mut impl Handshake,
) -> Result<Flights, HandshakeError> {
    let mut flights = Flights::default();
    let mut received = Vec::new();
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process(&mut received);
        let step = match state {
            Ok(state) => flights.step(state),
            Err(error) => Err(error.into()),
        };
        received.drain(..discard);
        match step {
            Ok(Step::Again) => {}
            Ok(Step::Exchange) => {
                flights.send(tcp).await?;
                receive(tcp, &mut received).await?;
            }
            Ok(Step::Done) => {
                flights.unread = received;
                return Ok(flights);
            }
            Err(error) => {
                flights.last_words(tcp, connection, &mut received);
                return Err(error);
            }
        }
    }
}

/// What the two kinds of rustls connections have in common.
trait Handshake {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether records wait to be encoded.
    fn has_unsent(&self) -> bool;
}

impl Handshake for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn has_unsent(&self) -> bool {
        self.wants_write()
    }
}

impl Handshake for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        received: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn has_unsent(&self) -> bool {
        self.wants_write()
    }
}

/// What to do next.
enum Step {
    Again,
    Exchange,
    Done,
}

/// Bytes on their way out of the handshake.
#[derive(Default)]
struct Flights {
    unsent: Vec<u8>,
    early: Vec<u8>,
    unread: Vec<u8>,
}

impl Flights {
    fn step<D>(&mut self, state: ConnectionState<'_, '_, D>) -> Result<Step, HandshakeError> {
        match state {
            ConnectionState::EncodeTlsData(mut flight) => {
                let start = self.unsent.len();
                self.unsent.resize(start + FLIGHT, 0);
                let written = match flight.encode(&mut self.unsent[start..]) {
                    Err(EncodeError::InsufficientSize(needed)) => {
                        self.unsent.resize(start + needed.required_size, 0);
                        flight.encode(&mut self.unsent[start..])
                    }
                    other => other,
                };
                let written = written.map_err(io::Error::other)?;
                self.unsent.truncate(start + written);
                Ok(Step::Again)
            }
            ConnectionState::TransmitTlsData(transmit) => {
                // Sent with whatever comes next: by `send`, or by the tunnel together with its preface.
                transmit.done();
                Ok(Step::Again)
            }
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    self.early.extend_from_slice(record?.payload);
                }
                if self.early.len() > MAX_HANDSHAKE {
                    return Err(HandshakeError::Flood);
                }
                Ok(Step::Again)
            }
            ConnectionState::BlockedHandshake => Ok(Step::Exchange),
            ConnectionState::WriteTraffic(_) => Ok(Step::Done),
            _ => Err(HandshakeError::Closed),
        }
    }

    async fn send(&mut self, tcp: &TcpStream) -> Result<(), HandshakeError> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match tcp.try_write(&self.unsent[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.clear();
        Ok(())
    }

    /// Tells the peer why, if the socket takes it at once: the rest of a flight, the alert.
    ///
    /// `received` is what the failed step left. rustls is asked only while it has something to send: it hands that out before it
    /// looks at `received` again, which would fail a second time and queue a second alert.
    fn last_words(
        &mut self,
        tcp: &TcpStream,
        connection: &mut impl Handshake,
        received: &mut Vec<u8>,
    ) {
        for _ in 0..MAX_LAST_FLIGHTS {
            if !connection.has_unsent() {
                break;
            }
            let UnbufferedStatus { discard, state, .. } = connection.process(received);
            let Ok(state @ ConnectionState::EncodeTlsData(_)) = state else {
                break;
            };
            let encoded = self.step(state);
            received.drain(..discard);
            if encoded.is_err() {
                break;
            }
        }
        if !self.unsent.is_empty() {
            let _ = tcp.try_write(&self.unsent);
        }
    }

    fn establish(self, channel: Channel) -> Result<Established, HandshakeError> {
        Ok(Established {
            channel,
            unsent: self.unsent,
            early: self.early,
            unread: self.unread,
        })
    }
}

async fn receive(tcp: &TcpStream, received: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let end = received.len();
    if end > MAX_HANDSHAKE {
        return Err(HandshakeError::Flood);
    }
    received.resize(end + FLIGHT, 0);
    loop {
        match tcp.try_read(&mut received[end..]) {
            Ok(0) => return Err(HandshakeError::Closed),
            Ok(n) => {
                received.truncate(end + n);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.readable().await?,
            Err(error) => return Err(error.into()),
        }
    }
}
