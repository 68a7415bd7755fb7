//! The certificate service.

use std::time::Duration;

use prost_types::value::Kind;
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use tulle_identity::BoxFuture;
use tulle_proto::ca::istio_certificate_service_server::IstioCertificateService;
use tulle_proto::ca::{IstioCertificateRequest, IstioCertificateResponse};

use super::accept::Peer;
use super::{Caller, Server, auth};
use crate::ca::IMPERSONATED;
use crate::limits::SIGN_DEADLINE;

/// What an authenticated caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    /// Who asks.
    pub caller: Caller,
    /// PEM, as received.
    pub csr: String,
    /// `None` is the authority's default.
    pub lifetime: Option<Duration>,
    /// The identity asked for on a workload's behalf, as received; `None` is the caller's own.
    pub impersonated: Option<String>,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The caller may not have this identity. The words go to the caller.
    #[error("{0}")]
    Denied(String),
    /// The request is no good. The words go to the caller.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be decided now (what runs on the node is not known yet). The caller tries again.
    #[error("{0}")]
    Unavailable(String),
    /// Our own trouble. The words are logged; the caller learns only that it failed.
    #[error("{0}")]
    Internal(String),
}

/// Decides who may have which identity, and signs.
pub trait Signer: Send + Sync + 'static {
    /// The chain in the form of the wire: leaf, intermediates, all roots as the last element.
    fn sign<'a>(&'a self, request: SigningRequest)
    -> BoxFuture<'a, Result<Vec<String>, SignError>>;
}

pub(super) struct Service(Server);

impl Service {
    pub(super) fn new(server: Server) -> Self {
        Self(server)
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let peer = request.extensions().get::<Peer>();
        let caller = auth::authenticate(&self.0, request.metadata(), peer).await?;
        let who = format!("{}/{}", caller.namespace, caller.service_account);
        let request = read(caller, request.into_inner())?;
        let wanted = request.impersonated.clone();
        let signed = timeout(SIGN_DEADLINE, self.0.signer.sign(request))
            .await
            .unwrap_or_else(|_| Err(SignError::Unavailable("signing takes too long".into())));
        self.0.counters.sign(signed.is_ok());
        match signed {
            Ok(cert_chain) => {
                tracing::debug!(%who, ?wanted, "certificate signed");
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(error) => {
                tracing::warn!(%who, ?wanted, %error, "certificate refused");
                Err(match error {
                    SignError::Denied(why) => Status::permission_denied(why),
                    SignError::Invalid(why) => Status::invalid_argument(why),
                    SignError::Unavailable(why) => Status::unavailable(why),
                    SignError::Internal(_) => {
                        Status::internal("the certificate authority failed; see its log")
                    }
                })
            }
        }
    }
}

fn read(caller: Caller, request: IstioCertificateRequest) -> Result<SigningRequest, Status> {
    let named = request
        .metadata
        .and_then(|mut metadata| metadata.fields.remove(IMPERSONATED))
        .and_then(|value| value.kind);
    let impersonated = match named {
        None => None,
        Some(Kind::StringValue(name)) if name.is_empty() => None,
        Some(Kind::StringValue(name)) => Some(name),
        Some(_) => {
            return Err(Status::invalid_argument(format!(
                "{IMPERSONATED} is not a text"
            )));
        }
    };
    Ok(SigningRequest {
        caller,
        csr: request.csr,
        // The wire's rule: zero and less mean the default.
        lifetime: u64::try_from(request.validity_duration)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        impersonated,
    })
}
