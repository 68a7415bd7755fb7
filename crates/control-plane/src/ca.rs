//! Authentication and signing, as the discovery server calls them. The peer learns that it was
//! refused; why is for our log and counters.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{debug, warn};
use tulle_cluster::{Error, Key};
use tulle_identity::{Authority, BoxFuture, SignRefused};
use tulle_xds::server::{
    AuthError, Authenticator, Caller, Presented, SignError, Signer, SigningRequest,
};

use crate::impersonation::Rules;
use crate::limits::POD_APPEARS_WITHIN;
use crate::metrics::Metrics;
use crate::pods::{KnownPod, Pods};
use crate::tokens::Tokens;

/// Said to every caller that is not let in.
const NOT_AUTHENTICATED: &str = "authentication failure";
/// Said to every caller that may not have what it asks for.
const NOT_ALLOWED: &str = "request impersonation authentication failure";

/// Lets callers in by client certificate or service account token.
pub(crate) struct Gate {
    pub(crate) tokens: Tokens,
    pub(crate) pods: Pods,
    /// Namespace and name of the accounts of node proxies: no gateways.
    pub(crate) node_accounts: Vec<(String, String)>,
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
            Ok(caller) => self.with_gateway(Caller::clone(&caller)).await,
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

impl Gate {
    /// Finds out whose proxy the caller is. A pod that is not known yet is waited for: its Gateway decides what it may see.
    async fn with_gateway(&self, caller: Caller) -> Result<Caller, AuthError> {
        let of_node = |(namespace, account): &(String, String)| {
            *namespace == caller.namespace && *account == caller.service_account
        };
        let is_node_proxy = self.node_accounts.iter().any(of_node);
        let Some((name, uid)) = caller.pod_name.as_ref().zip(caller.pod_uid.as_ref()) else {
            return Ok(caller);
        };
        if is_node_proxy {
            return Ok(caller);
        }
        let key = Key::new(&caller.namespace, name);
        let there = |pod: &KnownPod| *pod.uid == **uid;
        let found = self
            .pods
            .wait(POD_APPEARS_WITHIN, |pods| pods.get(&key).filter(there))
            .await;
        let Some(pod) = found else {
            warn!(pod = %key, "a caller's pod is not known (yet)");
            let why = "the caller's pod is not known to the control plane yet";
            return Err(AuthError::Unavailable(why.to_owned()));
        };
        if *pod.service_account != *caller.service_account {
            warn!(pod = %key, account = caller.service_account, "a caller's pod runs as somebody else");
            return Err(AuthError::Refused(NOT_AUTHENTICATED.to_owned()));
        }
        Ok(Caller {
            gateway: pod.gateway,
            ..caller
        })
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
