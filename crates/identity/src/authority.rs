//! The certificate authority of a mesh: signs workload certificates whose only name it writes itself.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use tulle_model::Identity;

use crate::limits::{BACKDATE, DEFAULT_LIFETIME, MAX_DNS_NAMES, MAX_LIFETIME, ROOT_LIFETIME};
use crate::{certificate, request::CertificateRequest};

mod csr;
mod files;

pub use files::CaFiles;

/// Why an authority could not be made or loaded: the operator's Secret is at fault, or (making one) the crypto library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// A part of the Secret is missing.
    #[error(
        "the CA secret has no {0}; it needs ca-cert.pem and ca-key.pem (and cert-chain.pem, root-cert.pem when it is an intermediate), or tls.crt, tls.key and ca.crt"
    )]
    Missing(&'static str),
    /// A part cannot be read.
    #[error("{part} of the CA secret cannot be read: {why}")]
    Unreadable {
        /// Key in the Secret.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The certificate may not sign.
    #[error(
        "ca-cert.pem is not a certificate authority (basic constraints CA:TRUE, key usage certificate signing)"
    )]
    NotAnAuthority,
    /// Key and certificate do not belong together.
    #[error("ca-key.pem is not the key of ca-cert.pem")]
    KeyMismatch,
    /// What it signs would be refused by everybody.
    #[error("a certificate signed by ca-cert.pem does not verify against root-cert.pem: {0}")]
    Broken(String),
    /// The crypto library failed.
    #[error("cannot make a certificate authority: {0}")]
    Crypto(String),
}

/// Why a certificate was not signed. All but the last two are the requester's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignRefused {
    /// Not a request, or an unacceptable one.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// Lifetime out of range.
    #[error("a lifetime of {asked:?} was asked for, at most {most:?} is allowed")]
    Lifetime {
        /// As requested.
        asked: Duration,
        /// The limit.
        most: Duration,
    },
    /// Another mesh's identity.
    #[error("{identity} is not of this mesh's trust domain {ours}")]
    TrustDomain {
        /// As requested.
        identity: Identity,
        /// Of this authority.
        ours: String,
    },
    /// Our own certificate has run out.
    #[error("the certificate authority's own certificate has expired; replace the CA secret")]
    Expired,
    /// The crypto library failed.
    #[error("cannot sign: {0}")]
    Crypto(String),
}

/// A signing certificate with its key, and the roots that the mesh trusts. Immutable: a changed Secret makes a new one.
pub struct Authority {
    trust_domain: String,
    files: CaFiles,
    issuer: Issuer<'static, KeyPair>,
    /// From the signing certificate up, without the roots; one PEM each.
    intermediates: Vec<String>,
    not_after: SystemTime,
}

impl Authority {
    /// A new root that signs itself. ECDSA P-256, where upstream makes RSA 2048: every peer that speaks TLS 1.3 verifies it,
    /// and both signing here and verifying there cost a fraction.
    ///
    /// # Errors
    /// If the crypto library fails.
    pub fn new_self_signed(trust_domain: &str) -> Result<Self, AuthorityError> {
        let failed = |error: rcgen::Error| AuthorityError::Crypto(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, trust_domain);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        let now = SystemTime::now();
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + ROOT_LIFETIME).into();
        let certificate = params.self_signed(&key).map_err(failed)?;
        let pem = certificate::write_pem("CERTIFICATE", certificate.der());
        let files = CaFiles {
            ca_cert: pem.clone(),
            ca_key: certificate::write_pem("PRIVATE KEY", &key.serialize_der()),
            cert_chain: String::new(),
            root_cert: pem,
        };
        Self::from_files(trust_domain, files)
    }

    /// Loads what a Secret holds. A certificate is signed and verified once, so that a wrong Secret is noticed here and not by
    /// the first workload.
    ///
    /// # Errors
    /// If a part is missing, unreadable, or does not fit the others.
    pub fn from_files(trust_domain: &str, files: CaFiles) -> Result<Self, AuthorityError> {
        let loaded = files::load(&files)?;
        let issuer = Issuer::from_ca_cert_der(&loaded.certificate, loaded.key)
            .map_err(|error| AuthorityError::Crypto(error.to_string()))?;
        let authority = Self {
            trust_domain: trust_domain.to_owned(),
            issuer,
            intermediates: loaded.intermediates,
            not_after: loaded.not_after,
            files,
        };
        authority.prove(&loaded.roots)?;
        Ok(authority)
    }

    /// Signs a certificate for nobody and verifies it as a peer would.
    fn prove(&self, roots: &[CertificateDer<'static>]) -> Result<(), AuthorityError> {
        let broken = |why: &dyn fmt::Display| AuthorityError::Broken(why.to_string());
        let nobody = Identity::new(self.trust_domain.as_str(), "tulle-self-test", "nobody");
        let request = CertificateRequest::new(&nobody).map_err(|error| broken(&error))?;
        let chain = self
            .sign_workload(&request.csr_pem, &nobody, None)
            .map_err(|error| broken(&error))?;
        files::verify(&chain, roots).map_err(|error| broken(&error))
    }

    /// A certificate for `identity` over the key of the request, in the form of the wire: leaf, intermediates one by one, and
    /// all roots as the last element. The name is written here; what the request names is only compared.
    ///
    /// # Errors
    /// If the request is not acceptable, or this authority cannot sign (any more).
    pub fn sign_workload(
        &self,
        csr_pem: &str,
        identity: &Identity,
        lifetime: Option<Duration>,
    ) -> Result<Vec<String>, SignRefused> {
        if *identity.trust_domain != *self.trust_domain {
            return Err(SignRefused::TrustDomain {
                identity: identity.clone(),
                ours: self.trust_domain.clone(),
            });
        }
        let key = csr::check(csr_pem, identity)?;
        let uri = Ia5String::try_from(identity.to_string())
            .map_err(|error| SignRefused::Crypto(error.to_string()))?;
        let mut params = self.leaf(lifetime)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let mut chain = vec![self.sign(&params, &key)?];
        chain.extend(self.intermediates.iter().cloned());
        chain.push(self.files.root_cert.clone());
        Ok(chain)
    }

    /// A server certificate with its key for the control plane's own names, as two PEM texts: chain, key.
    ///
    /// # Errors
    /// If a name is not a DNS name, or this authority cannot sign (any more).
    pub fn sign_server(
        &self,
        dns_names: &[String],
        lifetime: Option<Duration>,
    ) -> Result<(String, String), SignRefused> {
        if dns_names.is_empty() || dns_names.len() > MAX_DNS_NAMES {
            return Err(SignRefused::Request(format!(
                "{} DNS names, between 1 and {MAX_DNS_NAMES} are taken",
                dns_names.len()
            )));
        }
        let failed = |error: rcgen::Error| SignRefused::Crypto(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = self.leaf(lifetime)?;
        for name in dns_names {
            let name = Ia5String::try_from(name.as_str()).map_err(failed)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = self.sign(&params, &key)? + &self.intermediates.concat();
        let key = certificate::write_pem("PRIVATE KEY", &key.serialize_der());
        Ok((chain, key))
    }

    /// What leaves have in common.
    fn leaf(&self, lifetime: Option<Duration>) -> Result<CertificateParams, SignRefused> {
        let asked = lifetime
            .filter(|lifetime| !lifetime.is_zero())
            .unwrap_or(DEFAULT_LIFETIME);
        if asked > MAX_LIFETIME {
            return Err(SignRefused::Lifetime {
                asked,
                most: MAX_LIFETIME,
            });
        }
        let now = SystemTime::now();
        if now >= self.not_after {
            return Err(SignRefused::Expired);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(serial());
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + asked).min(self.not_after).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        Ok(params)
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<String, SignRefused> {
        let signed = params
            .signed_by(key, &self.issuer)
            .map_err(|error| SignRefused::Crypto(error.to_string()))?;
        Ok(certificate::write_pem("CERTIFICATE", signed.der()))
    }

    /// What a Secret must hold to load this authority again.
    pub fn files(&self) -> &CaFiles {
        &self.files
    }

    /// The roots of the mesh, PEM: the content of the ConfigMap `istio-ca-root-cert`.
    pub fn root_pem(&self) -> &str {
        &self.files.root_cert
    }

    /// The trust domain that it signs for.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// When the signing certificate runs out.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// The key is never printed.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", &self.trust_domain)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// 127 random bits: unique without a counter, and positive as RFC 5280 §4.1.2.2 wants.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests;
