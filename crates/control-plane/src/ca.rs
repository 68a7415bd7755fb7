//! Authentication and signing, as the discovery server calls them. The peer learns that it was
//! refused; why is for our log and counters.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{debug, warn};
use tulle_cluster::Error;
use tulle_identity::{Authority, BoxFuture, SignRefused};
use tulle_xds::server::{
    AuthError, Authenticator, Caller, Presented, SignError, Signer, SigningRequest,
};

use crate::impersonation::Rules;
use crate::metrics::Metrics;
use crate::tokens::Tokens;

/// Said to every caller that is not let in.
const NOT_AUTHENTICATED: &str = "authentication failure";
/// Said to every caller that may not have what it asks for.
const NOT_ALLOWED: &str = "request impersonation authentication failure";

/// Lets callers in by client certificate or service account token.
pub(crate) struct Gate {
    pub(crate) tokens: Tokens,
    pub(crate) authority: Arc<ArcSwap<Authority>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Authenticator for Gate {
    fn authenticate<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> BoxFuture<'a, Result<Caller, AuthError>> {
        Box::pin(async move {
            let result = self.caller(presented).await;
            if result.is_err() {
                self.metrics.authentication_failures.inc();
            }
            result
        })
    }
}

impl Gate {
    async fn caller(&self, presented: Presented<'_>) -> Result<Caller, AuthError> {
        let refused = || AuthError::Refused(NOT_AUTHENTICATED.to_owned());
        // The certificate was verified by the handshake; it counts before a token, as upstream.
        if let Some(identity) = presented.certificate {
            let ours = self.authority.load().trust_domain().to_owned();
            if *identity.trust_domain == *ours {
                return Ok(Caller {
                    namespace: identity.namespace.to_string(),
                    service_account: identity.service_account.to_string(),
                    ..Caller::default()
                });
            }
            warn!(peer = ?presented.address, %identity, "certificate of another trust domain than {ours}");
        }
        let Some(token) = presented.token else {
            return Err(refused());
        };
        match self.tokens.caller(token).await {
            Ok(caller) => Ok(Caller::clone(&caller)),
            Err(error @ Error::TokenRefused { .. }) => {
                warn!(peer = ?presented.address, "{error}");
                Err(refused())
            }
            Err(error) => {
                warn!(peer = ?presented.address, "a token cannot be checked: {error}");
                let why = "the token cannot be checked now; the API server does not answer";
                Err(AuthError::Unavailable(why.to_owned()))
            }
        }
    }
}

/// Signs what the rules allow.
pub(crate) struct CertificateService {
    pub(crate) rules: Rules,
    pub(crate) authority: Arc<ArcSwap<Authority>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Signer for CertificateService {
    fn sign<'a>(
        &'a self,
        request: SigningRequest,
    ) -> BoxFuture<'a, Result<Vec<String>, SignError>> {
        Box::pin(self.signed(request))
    }
}

impl CertificateService {
    async fn signed(&self, request: SigningRequest) -> Result<Vec<String>, SignError> {
        self.metrics.csr.inc();
        let authority = self.authority.load_full();
        let wanted = request.impersonated.as_deref();
        let decided = self
            .rules
            .decide(&request.caller, wanted, authority.trust_domain())
            .await;
        let identity = decided.map_err(|refusal| {
            warn!("certificate refused: {refusal}");
            self.metrics.sign_errors.with(&[refusal.label()]).inc();
            SignError::Denied(NOT_ALLOWED.to_owned())
        })?;
        match authority.sign_workload(&request.csr, &identity, request.lifetime) {
            Ok(chain) => {
                debug!(%identity, "certificate signed");
                self.metrics.issued.inc();
                Ok(chain)
            }
            Err(refused) => Err(self.unsigned(&identity.to_string(), &refused)),
        }
    }

    fn unsigned(&self, identity: &str, refused: &SignRefused) -> SignError {
        warn!(identity, "certificate not signed: {refused}");
        let invalid = |label: &str| {
            self.metrics.sign_errors.with(&[label]).inc();
            SignError::Invalid(refused.to_string())
        };
        match refused {
            SignRefused::Request(_) => {
                self.metrics.parse_errors.inc();
                invalid("csr")
            }
            SignRefused::Lifetime { .. } => invalid("ttl"),
            SignRefused::TrustDomain { .. } => {
                self.metrics.sign_errors.with(&["identity"]).inc();
                SignError::Denied(NOT_ALLOWED.to_owned())
            }
            SignRefused::Expired | SignRefused::Crypto(_) => {
                self.metrics.sign_errors.with(&["ca"]).inc();
                SignError::Internal(refused.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests;
