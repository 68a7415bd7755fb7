//! TLS of the control plane's own connections (discovery, certificate service): the server has DNS names, a client
//! certificate is optional because most callers show a token instead.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tulle_model::Identity;

use crate::limits::HANDSHAKE_DEADLINE;
use crate::tls::{self, TlsError, TlsSettings};
use crate::{certificate, verify};

/// A server's end of a connection.
pub type ServerStream = server::TlsStream<TcpStream>;
/// A client's end of a connection.
pub type ClientStream = client::TlsStream<TcpStream>;

/// Why a connection could not be secured.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side did not finish in time.
    #[error("TLS handshake not finished within {HANDSHAKE_DEADLINE:?}")]
    Deadline,
    /// A certificate was refused, or this is not TLS at all.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// The connection broke.
    #[error("connection lost in the TLS handshake: {0}")]
    Io(io::Error),
    /// Not a name that a certificate could carry.
    #[error("{0:?} is not a DNS name or address")]
    Name(String),
}

pub(crate) fn broken(error: io::Error) -> HandshakeError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(tls) => HandshakeError::Tls(verify::explain(tls)),
        None => HandshakeError::Io(error),
    }
}

/// The server side. Clones share one configuration, which [`replace`](Self::replace) changes for new connections.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl ServerTls {
    /// Serves `chain` (PEM, leaf first) with `key`; client certificates, when shown, must reach `client_roots`.
    ///
    /// # Errors
    /// If a part cannot be read or does not fit.
    pub fn new(chain: &str, key: &str, client_roots: &str) -> Result<Self, TlsError> {
        let config = server_config(chain, key, client_roots)?;
        Ok(Self(Arc::new(ArcSwap::from(config))))
    }

    /// Changes certificate and roots for connections from now on.
    ///
    /// # Errors
    /// As [`new`](Self::new); then the old ones stay.
    pub fn replace(&self, chain: &str, key: &str, client_roots: &str) -> Result<(), TlsError> {
        self.0.store(server_config(chain, key, client_roots)?);
        Ok(())
    }

    /// Secures an accepted connection. The identity is there when the client showed a certificate that is good.
    ///
    /// # Errors
    /// If the handshake fails or takes longer than [`HANDSHAKE_DEADLINE`].
    pub async fn accept(
        &self,
        tcp: TcpStream,
    ) -> Result<(ServerStream, Option<Identity>), HandshakeError> {
        let acceptor = TlsAcceptor::from(self.0.load_full());
        let stream = timeout(HANDSHAKE_DEADLINE, acceptor.accept(tcp))
            .await
            .map_err(|_| HandshakeError::Deadline)?
            .map_err(broken)?;
        let identity = match stream.get_ref().1.peer_certificates() {
            Some([leaf, ..]) => Some(
                certificate::spiffe(leaf)
                    .map_err(|error| HandshakeError::Tls(error.to_string()))?,
            ),
            _ => None,
        };
        Ok((stream, identity))
    }
}

impl ServerTls {
    /// Secures a connection of a webhook's client, and says whether it speaks HTTP/2: the API server speaks HTTP/1.1 only.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn accept_webhook(
        &self,
        tcp: TcpStream,
    ) -> Result<(ServerStream, bool), HandshakeError> {
        let mut config = ServerConfig::clone(&self.0.load_full());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let stream = timeout(HANDSHAKE_DEADLINE, acceptor.accept(tcp))
            .await
            .map_err(|_| HandshakeError::Deadline)?
            .map_err(broken)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, http2))
    }
}

/// The client side: trusts the given roots and nothing else.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts `roots` (PEM).
    ///
    /// # Errors
    /// If there is no usable root.
    pub fn new(roots: &str) -> Result<Self, TlsError> {
        let roots = certificate::read_pem(roots).map_err(TlsError::Roots)?;
        let mut config = ClientConfig::builder_with_provider(tls::provider(TlsSettings::default()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| TlsError::Certificate(error.to_string()))?
            .with_root_certificates(tls::root_store(&roots)?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Secures a connection to the server that is called `host`.
    ///
    /// # Errors
    /// If the handshake fails or takes longer than [`HANDSHAKE_DEADLINE`].
    pub async fn connect(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> Result<ClientStream, HandshakeError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| HandshakeError::Name(host.to_owned()))?;
        timeout(
            HANDSHAKE_DEADLINE,
            TlsConnector::from(self.0.clone()).connect(name, tcp),
        )
        .await
        .map_err(|_| HandshakeError::Deadline)?
        .map_err(broken)
    }
}

fn server_config(
    chain: &str,
    key: &str,
    client_roots: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = tls::provider(TlsSettings::default());
    let roots = certificate::read_pem(client_roots).map_err(TlsError::Roots)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(tls::root_store(&roots)?, provider.clone())
            .clear_root_hint_subjects()
            .allow_unauthenticated()
            .build()
            .map_err(|error| TlsError::Roots(error.to_string()))?;
    let chain = certificate::read_pem(chain).map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TlsError::Certificate(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
