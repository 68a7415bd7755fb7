//! A certificate with its key and the roots that came with it, and its form in sealed memory.

use std::fmt;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tulle_model::Identity;

use crate::certificate;
use crate::issue::IssuedPem;
use crate::limits::{MAX_CHAIN, MAX_PEM, MAX_ROOTS};
use crate::request::CertificateRequest;

/// First bytes of the sealed form; the digit is its version.
const MAGIC: &[u8; 8] = b"tullecr1";

/// A workload certificate with its key.
pub struct Credentials {
    /// Whose it is.
    pub identity: Identity,
    /// Leaf first, then intermediates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// What peers are checked against.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Serial number, lower-case hex.
    pub serial: String,
}

/// Why credentials cannot be used. The authority's answer, or the sealed blob, is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not a chain with roots.
    #[error("leaf and roots are needed, {0} element(s) came")]
    Short(usize),
    /// More certificates than we take.
    #[error("{what}: {count} certificates, at most {limit} are taken")]
    TooMany {
        /// "chain" or "roots".
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many are taken.
        limit: usize,
    },
    /// Cannot be parsed.
    #[error("{what} cannot be read: {why}")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A certificate for somebody else.
    #[error("the certificate is for {found}, {wanted} was asked for")]
    Identity {
        /// Who is named.
        found: Identity,
        /// Who should be.
        wanted: Identity,
    },
    /// The sealed form is damaged or of another version.
    #[error("the stored credentials are damaged or of another version")]
    Stored,
}

impl Credentials {
    /// Puts an authority's answer together with the key of the request. The answer must name the identity that was asked for.
    ///
    /// # Errors
    /// If the answer is not a chain for `identity`.
    pub fn assemble(
        identity: &Identity,
        request: CertificateRequest,
        issued: &IssuedPem,
    ) -> Result<Self, CredentialsError> {
        let [certificates @ .., bundle] = issued.chain.as_slice() else {
            return Err(CredentialsError::Short(0));
        };
        if certificates.is_empty() {
            return Err(CredentialsError::Short(1));
        }
        let mut chain = Vec::with_capacity(certificates.len());
        for pem in certificates {
            chain.extend(read("chain", pem)?);
        }
        let roots = read("roots", bundle)?;
        Self::from_parts(identity, chain, request.key, roots)
    }

    fn from_parts(
        identity: &Identity,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, CredentialsError> {
        bounded("chain", chain.len(), MAX_CHAIN)?;
        bounded("roots", roots.len(), MAX_ROOTS)?;
        let leaf = chain.first().ok_or(CredentialsError::Short(0))?;
        let unreadable = |why| CredentialsError::Unreadable { what: "leaf", why };
        let found = certificate::spiffe(leaf).map_err(|error| unreadable(error.to_string()))?;
        if found != *identity {
            return Err(CredentialsError::Identity {
                found,
                wanted: identity.clone(),
            });
        }
        let life = certificate::life(leaf).map_err(unreadable)?;
        Ok(Self {
            identity: found,
            chain,
            key,
            roots,
            not_before: life.not_before,
            not_after: life.not_after,
            serial: life.serial,
        })
    }

    /// The chain as one PEM text, leaf first. No key.
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| certificate::write_pem("CERTIFICATE", der))
            .collect()
    }

    /// The roots as one PEM text.
    pub fn roots_pem(&self) -> String {
        self.roots
            .iter()
            .map(|der| certificate::write_pem("CERTIFICATE", der))
            .collect()
    }

    /// The form kept in sealed memory while the process is replaced. It holds the private key: never write it to a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let mut field = |bytes: &[u8]| {
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend(bytes);
        };
        field(self.identity.to_string().as_bytes());
        field(self.key.secret_der());
        // Both fit: they were bounded when they came in.
        field(&[self.chain.len() as u8, self.roots.len() as u8]);
        for der in self.chain.iter().chain(&self.roots) {
            field(der);
        }
        out
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// If the bytes are damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CredentialsError> {
        let damaged = || CredentialsError::Stored;
        let mut fields = Fields(bytes.strip_prefix(MAGIC).ok_or_else(damaged)?);
        let identity = std::str::from_utf8(fields.next()?).map_err(|_| damaged())?;
        let identity: Identity = identity.parse().map_err(|_| damaged())?;
        let key = PrivatePkcs8KeyDer::from(fields.next()?.to_vec());
        let [chain, roots] = *fields.next()? else {
            return Err(damaged());
        };
        let (chain, roots) = (usize::from(chain), usize::from(roots));
        let mut certificates = Vec::new();
        for _ in 0..chain + roots {
            certificates.push(CertificateDer::from(fields.next()?.to_vec()));
        }
        if !fields.0.is_empty() {
            return Err(damaged());
        }
        let roots = certificates.split_off(chain);
        Self::from_parts(&identity, certificates, key.into(), roots)
    }
}

/// Keys are never printed.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            roots: self.roots.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            serial: self.serial.clone(),
        }
    }
}

/// Length-prefixed fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<&'a [u8], CredentialsError> {
        let (length, rest) = self.0.split_first_chunk().ok_or(CredentialsError::Stored)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > rest.len() || length > MAX_PEM {
            return Err(CredentialsError::Stored);
        }
        let (field, rest) = rest.split_at(length);
        self.0 = rest;
        Ok(field)
    }
}

fn read(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let found =
        certificate::read_pem(pem).map_err(|why| CredentialsError::Unreadable { what, why })?;
    if found.is_empty() {
        return Err(CredentialsError::Unreadable {
            what,
            why: "no certificate in it".to_owned(),
        });
    }
    Ok(found)
}

fn bounded(what: &'static str, count: usize, limit: usize) -> Result<(), CredentialsError> {
    if count > limit {
        return Err(CredentialsError::TooMany { what, count, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
