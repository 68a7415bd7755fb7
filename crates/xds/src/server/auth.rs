//! Who calls.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::timeout;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tulle_identity::BoxFuture;
use tulle_model::Identity;

use super::Server;
use super::accept::Peer;
use crate::limits::{AUTHENTICATE_DEADLINE, MAX_TOKEN};

/// What a caller shows.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// A bearer token.
    pub token: Option<&'a str>,
    /// The name in a client certificate that reaches the mesh's roots; only on the TLS port.
    pub certificate: Option<&'a Identity>,
    /// The `clusterid` header: which cluster's API server knows the token.
    pub cluster_id: Option<&'a str>,
    /// Where the call comes from.
    pub address: Option<SocketAddr>,
}

/// A caller that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its pod's name, when the token is bound to a pod.
    pub pod_name: Option<String>,
    /// Its pod's UID, when the token is bound to a pod.
    pub pod_uid: Option<String>,
    /// Its node, when the token says so.
    pub node: Option<String>,
    /// The Gateway (`namespace/name`) whose proxy it is: what is published for that one it may see.
    pub gateway: Option<Arc<str>>,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// What it shows does not prove anything. The words go to the caller.
    #[error("{0}")]
    Refused(String),
    /// It could not be checked. The words go to the caller, which tries again.
    #[error("{0}")]
    Unavailable(String),
}

/// Checks what callers show: client certificate, or token by TokenReview.
pub trait Authenticator: Send + Sync + 'static {
    /// Who the caller is.
    fn authenticate<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> BoxFuture<'a, Result<Caller, AuthError>>;
}

/// Authenticates one call; failures are logged and counted.
pub(super) async fn authenticate(
    server: &Server,
    metadata: &MetadataMap,
    peer: Option<&Peer>,
) -> Result<Caller, Status> {
    let token = token(metadata)?;
    let presented = Presented {
        token,
        certificate: peer.and_then(|peer| peer.identity.as_ref()),
        cluster_id: metadata.get("clusterid").and_then(|id| id.to_str().ok()),
        address: peer.and_then(|peer| peer.address),
    };
    let refused = if presented.token.is_none() && presented.certificate.is_none() {
        AuthError::Refused(
            "no credentials: a bearer token or a client certificate of the mesh is needed".into(),
        )
    } else {
        let asked = server.authenticator.authenticate(presented);
        match timeout(AUTHENTICATE_DEADLINE, asked).await {
            Ok(Ok(caller)) => return Ok(caller),
            Ok(Err(error)) => error,
            Err(_) => AuthError::Unavailable(format!(
                "the caller could not be checked within {} s",
                AUTHENTICATE_DEADLINE.as_secs()
            )),
        }
    };
    server.counters.refused_caller();
    let from = presented.address.map(tracing::field::display);
    tracing::warn!(from, error = %refused, "a caller was not let in");
    Err(match refused {
        AuthError::Refused(why) => Status::unauthenticated(why),
        AuthError::Unavailable(why) => Status::unavailable(why),
    })
}

fn token(metadata: &MetadataMap) -> Result<Option<&str>, Status> {
    let Some(value) = metadata.get("authorization") else {
        return Ok(None);
    };
    let refuse =
        || Status::unauthenticated("the authorization header is not of the form Bearer <token>");
    let text = value.to_str().map_err(|_| refuse())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(refuse)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_TOKEN {
        return Err(refuse());
    }
    Ok(Some(token))
}
