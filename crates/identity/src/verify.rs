//! Who the peer is: its chain must reach this identity's roots, and its leaf must name one SPIFFE identity and nothing else.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};
use tulle_model::{Identity, IdentityError};

use crate::certificate;
use crate::limits::MAX_CHAIN;
use crate::tls::TlsError;

/// Why a peer's certificate was refused. The peer erred, or it is not the one that was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nothing was presented.
    #[error("the peer presented no certificate")]
    Missing,
    /// Not X.509, or not as RFC 5280 has it.
    #[error("the peer's certificate cannot be read: {0}")]
    Malformed(String),
    /// SPIFFE X.509-SVID §2: exactly one URI SAN; and we take no other names beside it.
    #[error(
        "the peer's certificate must hold exactly one name, a SPIFFE URI; it holds {uris} URI(s) and {others} other name(s)"
    )]
    Names {
        /// URI subject alternative names.
        uris: usize,
        /// DNS, IP, mail and other names.
        others: usize,
    },
    /// The URI is no identity of ours.
    #[error("the peer's certificate: {0}")]
    NotSpiffe(#[from] IdentityError),
    /// The chain is longer than [`MAX_CHAIN`].
    #[error("the peer presented {0} certificates, more than {MAX_CHAIN}")]
    ChainTooLong(usize),
    /// Inbound: another mesh.
    #[error("the peer {peer} is of another trust domain than ours ({ours})")]
    TrustDomain {
        /// Who the peer is.
        peer: Identity,
        /// Our own trust domain.
        ours: Arc<str>,
    },
    /// Outbound: a valid workload, but not the one that was meant to be reached.
    #[error("the peer is {peer}, expected {}; the destination may have moved", Expected(.expected))]
    Unexpected {
        /// Who the peer is.
        peer: Identity,
        /// Who was acceptable.
        expected: Arc<[Identity]>,
    },
}

struct Expected<'a>(&'a [Identity]);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nobody"),
            [one] => write!(f, "{one}"),
            [first, rest @ ..] => {
                write!(f, "one of {first}")?;
                for identity in rest.iter().take(7) {
                    write!(f, ", {identity}")?;
                }
                if rest.len() > 7 {
                    write!(f, " and {} more", rest.len() - 7)?;
                }
                Ok(())
            }
        }
    }
}

/// Who the peer of a finished handshake is, if it is one of `expected`. Outbound connections call this before the first byte
/// is sent: the TLS configuration is shared by all destinations of an identity, so it can only check that the chain is good.
///
/// # Errors
/// [`PeerError::Unexpected`] if somebody else answered.
pub fn verify_peer(
    certificates: &[CertificateDer<'_>],
    expected: &Arc<[Identity]>,
) -> Result<Identity, PeerError> {
    let leaf = certificates.first().ok_or(PeerError::Missing)?;
    let peer = certificate::spiffe(leaf)?;
    if expected.contains(&peer) {
        Ok(peer)
    } else {
        Err(PeerError::Unexpected {
            peer,
            expected: expected.clone(),
        })
    }
}

/// What a failed handshake means, in one sentence for logs.
pub fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.to_string()
        }
        rustls::Error::InvalidCertificate(
            why @ (CertificateError::UnknownIssuer | CertificateError::BadSignature),
        ) => {
            // A root that was made anew under the old name shows as a bad signature.
            format!("the peer's certificate is not signed by a root that we trust ({why:?})")
        }
        rustls::Error::InvalidCertificate(why) => {
            format!("the peer's certificate was refused: {why}")
        }
        rustls::Error::NoCertificatesPresented => PeerError::Missing.to_string(),
        rustls::Error::AlertReceived(alert) => format!(
            "the peer refused our certificate or our settings: TLS alert {alert:?}; see the peer's log"
        ),
        other => other.to_string(),
    }
}

fn refuse(error: PeerError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn bounded(intermediates: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
    if intermediates.len() >= MAX_CHAIN {
        return Err(refuse(PeerError::ChainTooLong(intermediates.len() + 1)));
    }
    Ok(())
}

/// Outbound: the server's chain reaches our roots and its leaf names one workload. Which one is checked per connection.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    pub(crate) fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, provider }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        bounded(intermediates)?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        certificate::spiffe(end_entity).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Inbound: a client certificate is required, its chain reaches our roots, its leaf names one workload of our trust domain.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: Arc<str>,
}

impl ClientVerifier {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        trust_domain: Arc<str>,
    ) -> Result<Self, TlsError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| TlsError::Roots(error.to_string()))?;
        Ok(Self {
            chain,
            trust_domain,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        bounded(intermediates)?;
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let peer = certificate::spiffe(end_entity).map_err(refuse)?;
        if peer.trust_domain != self.trust_domain {
            return Err(refuse(PeerError::TrustDomain {
                peer,
                ours: self.trust_domain.clone(),
            }));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
