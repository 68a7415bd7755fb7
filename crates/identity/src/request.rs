//! Certificate signing requests of workloads.

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tulle_model::Identity;

/// A fresh P-256 key and the request for a certificate over it: empty subject, one critical URI SAN.
pub struct CertificateRequest {
    /// PEM.
    pub csr_pem: String,
    /// Never leaves the process.
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Why no request could be made. Only a broken crypto library causes this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot make a key and certificate request for {identity}: {why}")]
pub struct RequestError {
    /// For whom.
    pub identity: Identity,
    /// The library's words.
    pub why: String,
}

impl CertificateRequest {
    /// Makes a key and asks for `identity`.
    ///
    /// # Errors
    /// If the crypto library fails.
    pub fn new(identity: &Identity) -> Result<Self, RequestError> {
        let failed = |error: rcgen::Error| RequestError {
            identity: identity.clone(),
            why: error.to_string(),
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = Ia5String::try_from(identity.to_string()).map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let csr_pem = params
            .serialize_request(&key)
            .and_then(|request| request.pem())
            .map_err(failed)?;
        Ok(Self {
            csr_pem,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}
