//! How an authority is kept in a Secret, and what is checked when it is loaded.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{KeyPair, PublicKeyData};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::authority::AuthorityError;
use crate::tls::{self, ClientTls, TlsSettings};
use crate::verify::{ServerVerifier, explain};
use crate::{certificate, limits};

/// The parts of a CA Secret, PEM, under their names in `istio-ca-secret` and `cacerts`.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// `ca-cert.pem`: the signing certificate.
    pub ca_cert: String,
    /// `ca-key.pem`: its key; PKCS #8, SEC 1 or PKCS #1.
    pub ca_key: String,
    /// `cert-chain.pem`: from the signing certificate up. Empty when that is a root.
    pub cert_chain: String,
    /// `root-cert.pem`: what workloads trust.
    pub root_cert: String,
}

impl CaFiles {
    /// Reads Istio's layout, or that of a `kubernetes.io/tls` Secret with `ca.crt` as cert-manager fills it.
    /// `get` returns a value of the Secret.
    ///
    /// # Errors
    /// If a part is missing or no text.
    pub fn from_secret(get: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, AuthorityError> {
        let text =
            |part: &'static str| -> Result<Option<String>, AuthorityError> {
                match get(part).filter(|value| !value.trim_ascii().is_empty()) {
                    None => Ok(None),
                    Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| {
                        AuthorityError::Unreadable {
                            part,
                            why: error.to_string(),
                        }
                    }),
                }
            };
        let needed = |part| text(part)?.ok_or(AuthorityError::Missing(part));
        if get("tls.crt").is_some() && get("ca-cert.pem").is_none() {
            let chain = needed("tls.crt")?;
            return Ok(Self {
                ca_cert: chain.clone(),
                ca_key: needed("tls.key")?,
                cert_chain: chain,
                root_cert: needed("ca.crt")?,
            });
        }
        let ca_cert = needed("ca-cert.pem")?;
        Ok(Self {
            ca_key: needed("ca-key.pem")?,
            cert_chain: text("cert-chain.pem")?.unwrap_or_default(),
            root_cert: text("root-cert.pem")?.unwrap_or_else(|| ca_cert.clone()),
            ca_cert,
        })
    }

    /// The parts under their names, for a Secret in Istio's layout.
    pub fn to_secret(&self) -> [(&'static str, &str); 4] {
        [
            ("ca-cert.pem", &self.ca_cert),
            ("ca-key.pem", &self.ca_key),
            ("cert-chain.pem", &self.cert_chain),
            ("root-cert.pem", &self.root_cert),
        ]
    }
}

/// The key is never printed.
impl fmt::Debug for CaFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaFiles").finish_non_exhaustive()
    }
}

/// A Secret, parsed and checked as far as it can be without signing.
pub(super) struct Loaded {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) intermediates: Vec<String>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) not_after: SystemTime,
}

pub(super) fn load(files: &CaFiles) -> Result<Loaded, AuthorityError> {
    let certificate = certificates("ca-cert.pem", &files.ca_cert)?.swap_remove(0);
    let roots = certificates("root-cert.pem", &files.root_cert)?;
    let key = key(&files.ca_key)?;
    let unreadable = |why| AuthorityError::Unreadable {
        part: "ca-cert.pem",
        why,
    };
    let parsed = certificate::parse(&certificate).map_err(unreadable)?;
    let may_sign = match parsed.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        _ => true,
    };
    if !parsed.is_ca() || !may_sign {
        return Err(AuthorityError::NotAnAuthority);
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(AuthorityError::KeyMismatch);
    }
    let not_after = certificate::life(&certificate)
        .map_err(unreadable)?
        .not_after;
    let mut chain = vec![certificate.clone()];
    if !files.cert_chain.trim().is_empty() {
        chain.extend(certificates("cert-chain.pem", &files.cert_chain)?);
    }
    let mut seen = Vec::new();
    for link in chain {
        if !roots.contains(&link) && !seen.contains(&link) {
            seen.push(link);
        }
    }
    if seen.len() >= limits::MAX_CHAIN {
        return Err(AuthorityError::Unreadable {
            part: "cert-chain.pem",
            why: format!(
                "{} certificates, at most {} are taken",
                seen.len(),
                limits::MAX_CHAIN - 1
            ),
        });
    }
    Ok(Loaded {
        intermediates: seen
            .iter()
            .map(|der| certificate::write_pem("CERTIFICATE", der))
            .collect(),
        certificate,
        key,
        roots,
        not_after,
    })
}

/// Verifies a chain in the form of the wire, as a peer would.
pub(super) fn verify(chain: &[String], roots: &[CertificateDer<'static>]) -> Result<(), String> {
    let provider = tls::provider(TlsSettings::default());
    let roots = tls::root_store(roots).map_err(|error| error.to_string())?;
    let mut links = Vec::new();
    for pem in chain.iter().take(chain.len().saturating_sub(1)) {
        links.extend(certificate::read_pem(pem)?);
    }
    let (leaf, intermediates) = links.split_first().ok_or("nothing was signed")?;
    ServerVerifier::new(roots, Arc::clone(&provider))
        .verify_server_cert(
            leaf,
            intermediates,
            &ClientTls::server_name(),
            &[],
            UnixTime::now(),
        )
        .map(|_| ())
        .map_err(|error| explain(&error))
}

fn certificates(
    part: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let found =
        certificate::read_pem(pem).map_err(|why| AuthorityError::Unreadable { part, why })?;
    if found.is_empty() {
        return Err(AuthorityError::Unreadable {
            part,
            why: "no certificate in it".to_owned(),
        });
    }
    Ok(found)
}

fn key(pem: &str) -> Result<KeyPair, AuthorityError> {
    let unreadable = |why| AuthorityError::Unreadable {
        part: "ca-key.pem",
        why,
    };
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| unreadable(format!("not a PEM key: {error}")))?;
    KeyPair::try_from(&der).map_err(|error| {
        unreadable(format!(
            "{error}; ECDSA P-256, P-384 and RSA keys are understood"
        ))
    })
}
