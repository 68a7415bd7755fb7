//! How certificates are asked for: implemented by the CA client, and by tests.

use std::time::Duration;

use tulle_model::Identity;

use crate::BoxFuture;

/// What a certificate authority answers, as `IstioCertificateResponse` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedPem {
    /// The leaf, each intermediate, and as the last element the root bundle, which may hold several certificates.
    pub chain: Vec<String>,
}

/// Why no certificate was issued. Cheap to clone: every waiter gets it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The authority cannot be reached.
    #[error(
        "cannot reach the certificate authority at {address}: {why}; still valid certificates stay in use"
    )]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What happened.
        why: String,
    },
    /// The authority refused.
    #[error("the certificate authority refused a certificate for {identity}: {why}")]
    Refused {
        /// For whom.
        identity: Identity,
        /// Its words.
        why: String,
    },
    /// The authority did not answer in time.
    #[error("no answer from the certificate authority within {0:?}")]
    Deadline(Duration),
    /// What came cannot be used.
    #[error("the certificate authority's answer for {identity} cannot be used: {why}")]
    Unusable {
        /// For whom.
        identity: Identity,
        /// What is wrong with it.
        why: String,
    },
    /// Our own side: token, key, or root file.
    #[error("cannot ask for a certificate: {0}")]
    Local(String),
}

/// A source of certificates.
pub trait Issuer: Send + Sync + 'static {
    /// A certificate for `identity` over the request's key. `lifetime` is a wish.
    fn issue<'a>(
        &'a self,
        identity: &'a Identity,
        csr_pem: String,
        lifetime: Duration,
    ) -> BoxFuture<'a, Result<IssuedPem, IssueError>>;
}
