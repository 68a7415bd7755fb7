//! The control plane's side: discovery and the certificate service on one port.
//!
//! [`Publisher`] holds what is published, encoded once; each stream is a [`session`] that reads from it at its own pace.
//! Every call is authenticated first, on the plaintext port too.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::Server as Transport;
use tulle_identity::grpc::ServerTls;
use tulle_proto::ca::istio_certificate_service_server::IstioCertificateServiceServer;

use crate::limits::{
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_CERTIFICATE_REQUEST, MAX_HEADERS, MAX_REQUEST,
    MAX_STREAMS,
};

mod accept;
mod audience;
mod auth;
mod certificates;
mod codec;
mod counters;
mod discovery;
pub(crate) mod fuzz;
mod publisher;
mod session;
mod syncz;

pub use audience::Audience;
pub use auth::{AuthError, Authenticator, Caller, Presented};
pub use certificates::{SignError, Signer, SigningRequest};
pub use counters::{Connected, Counters, TypeCounts};
pub(crate) use publisher::comes_before_addresses;
pub use publisher::{Change, PublishedType, Publisher};
pub use syncz::About;

/// Everything that the ports share. Clones serve the same.
#[derive(Clone)]
pub struct Server {
    /// What proxies are told.
    pub publisher: Publisher,
    /// Who they are.
    pub authenticator: Arc<dyn Authenticator>,
    /// Who signs their certificates.
    pub signer: Arc<dyn Signer>,
    /// What happened.
    pub counters: Arc<Counters>,
    /// The largest request that is read, in bytes ([`MAX_REQUEST`]).
    pub max_request: usize,
    /// What it says of itself.
    pub about: About,
}

/// Why a port is served no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The HTTP/2 server gave up.
    #[error("the discovery server failed: {0}")]
    Transport(String),
    /// Streams did not end in time at shutdown; they were cut.
    #[error("streams were still open {} s after the order to stop; they are cut", .0.as_secs())]
    Deadline(Duration),
    /// The listener cannot be used.
    #[error("cannot listen: {0}")]
    Listen(#[from] io::Error),
}

impl Server {
    /// A server of these parts with fresh counters.
    pub fn new(
        publisher: Publisher,
        authenticator: Arc<dyn Authenticator>,
        signer: Arc<dyn Signer>,
    ) -> Self {
        Self {
            publisher,
            authenticator,
            signer,
            counters: Arc::default(),
            max_request: MAX_REQUEST,
            about: About::default(),
        }
    }

    /// Serves one listener: with TLS (15012), or in clear (15010). Once `stop` is ready, nothing new is accepted, streams are
    /// ended, calls may finish, and after `grace` the rest is cut.
    ///
    /// # Errors
    /// If the transport fails, or streams had to be cut.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<ServerTls>,
        stop: impl Future<Output = ()> + Send,
        grace: Duration,
    ) -> Result<(), ServeError> {
        let (stopping, stopped) = watch::channel(false);
        let incoming = accept::incoming(listener, tls, self.counters.clone(), stopped.clone());
        let discovery = discovery::Service::new(self.clone(), stopped.clone());
        let certificates =
            IstioCertificateServiceServer::new(certificates::Service::new(self.clone()))
                .max_decoding_message_size(MAX_CERTIFICATE_REQUEST);
        let mut told = stopped;
        let served = Transport::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .add_service(discovery)
            .add_service(certificates)
            .serve_with_incoming_shutdown(incoming, async move {
                // An error means that the sender is gone, which is a stop as well.
                let _ = told.wait_for(|stop| *stop).await;
            });
        tokio::pin!(served);
        let failed =
            |error: tonic::transport::Error| ServeError::Transport(crate::endpoint::causes(&error));
        tokio::select! {
            ended = &mut served => return ended.map_err(failed),
            () = stop => {}
        }
        stopping.send_replace(true);
        timeout(grace, served)
            .await
            .map_err(|_| ServeError::Deadline(grace))?
            .map_err(failed)
    }
}

/// The error type of infallible tower services.
type Never = Infallible;

#[cfg(test)]
mod tests;
