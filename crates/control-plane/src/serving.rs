//! The certificate of port 15012: signed by the mesh's own CA, renewed before it ends and when the
//! CA changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, error};
use tulle_identity::grpc::ServerTls;
use tulle_identity::{Authority, SignRefused, TlsError};

use crate::limits::{SERVING_LIFETIME, SERVING_RENEWAL, SERVING_RETRY};

/// Why there is no certificate for our own port.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The CA does not sign.
    #[error("certificate of the discovery port: {0}")]
    Sign(#[from] SignRefused),
    /// It signs, and the result cannot be used.
    #[error("certificate of the discovery port: {0}")]
    Tls(#[from] TlsError),
}

/// A first certificate for `names`.
pub(crate) fn start(authority: &Authority, names: &[String]) -> Result<ServerTls, ServingError> {
    let (chain, key) = authority.sign_server(names, Some(SERVING_LIFETIME))?;
    Ok(ServerTls::new(&chain, &key, authority.root_pem())?)
}

/// Renews it for ever; `changed` tells of a new authority.
pub(crate) async fn renew(
    tls: ServerTls,
    authority: Arc<ArcSwap<Authority>>,
    names: Vec<String>,
    mut changed: watch::Receiver<Arc<str>>,
) {
    let mut pause = SERVING_RENEWAL;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            Ok(()) = changed.changed() => {}
        }
        pause = match replace(&tls, &authority.load(), &names) {
            Ok(()) => {
                debug!("renewed the certificate of the discovery port");
                SERVING_RENEWAL
            }
            Err(why) => {
                error!("{why}; the one in use stays, trying again");
                SERVING_RETRY
            }
        };
    }
}

fn replace(tls: &ServerTls, authority: &Authority, names: &[String]) -> Result<(), ServingError> {
    let (chain, key) = authority.sign_server(names, Some(SERVING_LIFETIME))?;
    Ok(tls.replace(&chain, &key, authority.root_pem())?)
}
