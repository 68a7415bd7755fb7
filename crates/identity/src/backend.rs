//! TLS that begins at a proxy: to endpoints that users describe by DestinationRule or BackendTLSPolicy.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::certificate;
use crate::grpc::{HandshakeError, broken};
use crate::limits::{HANDSHAKE_DEADLINE, MAX_SYSTEM_ROOTS};
use crate::tls::{self, TlsError};

/// The client's end of a connection.
pub type TlsStream<I> = tokio_rustls::client::TlsStream<I>;

/// Where systems keep their roots.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What an endpoint's certificate must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It has the server name that was asked for.
    ServerName,
    /// It has one of these DNS names or URIs.
    AnyOf(Vec<Arc<str>>),
    /// Anything: nothing is verified.
    Anything,
}

/// What a connection is made of.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// PEM; `None` is the system's bundle.
    pub roots: Option<&'a str>,
    /// Chain and key in PEM, to present.
    pub certificate: Option<(&'a str, &'a str)>,
    /// What the endpoint must be.
    pub expected: Expected,
    /// Protocols that are offered.
    pub alpn: &'a [&'a [u8]],
}

/// How endpoints are reached. Clones are the same.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Puts a configuration together. Reads the system's bundle when there are no roots in `settings`.
    ///
    /// # Errors
    /// If a certificate, key or root cannot be used.
    pub fn new(settings: &Settings<'_>) -> Result<Self, TlsError> {
        let refused = |error: rustls::Error| TlsError::Certificate(error.to_string());
        let crypto = Arc::new(provider::default_provider());
        let builder = ClientConfig::builder_with_provider(crypto.clone())
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .dangerous()
            .with_custom_certificate_verifier(verifier(settings, &crypto)?);
        let mut config = match settings.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificate::read_pem(chain).map_err(TlsError::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|error| TlsError::Certificate(error.to_string()))?;
                builder.with_client_auth_cert(chain, key).map_err(refused)?
            }
        };
        config.alpn_protocols = settings.alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self(Arc::new(config)))
    }

    /// The same, with other protocols on offer.
    pub fn offering(&self, alpn: &[&[u8]]) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Self(Arc::new(config))
    }

    /// Shakes hands with the server that is called `name`: a DNS name, sent as SNI, or an address. Returns the protocol that
    /// was agreed on, if any.
    ///
    /// # Errors
    /// If that fails or takes longer than [`HANDSHAKE_DEADLINE`].
    pub async fn connect<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: &str,
        io: I,
    ) -> Result<(TlsStream<I>, Option<Vec<u8>>), HandshakeError> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| HandshakeError::Name(name.to_owned()))?;
        let connecting = TlsConnector::from(self.0.clone()).connect(server, io);
        let stream = timeout(HANDSHAKE_DEADLINE, connecting)
            .await
            .map_err(|_| HandshakeError::Deadline)?
            .map_err(broken)?;
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok((stream, alpn))
    }
}

fn verifier(
    settings: &Settings<'_>,
    crypto: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let roots = || match settings.roots {
        Some(pem) => {
            let roots = certificate::read_pem(pem).map_err(TlsError::Roots)?;
            tls::root_store(&roots)
        }
        None => system_roots(),
    };
    Ok(match &settings.expected {
        Expected::ServerName => {
            WebPkiServerVerifier::builder_with_provider(roots()?, crypto.clone())
                .build()
                .map_err(|error| TlsError::Roots(error.to_string()))?
        }
        Expected::AnyOf(names) => Arc::new(Named {
            roots: Some(roots()?),
            names: names.clone(),
            crypto: crypto.clone(),
        }),
        Expected::Anything => Arc::new(Named {
            roots: None,
            names: Vec::new(),
            crypto: crypto.clone(),
        }),
    })
}

fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    let asked = std::env::var("SSL_CERT_FILE").ok();
    let mut files = asked.as_deref().into_iter().chain(SYSTEM_BUNDLES);
    let missing = || {
        TlsError::Roots(
            "the system has no bundle of roots, and no caCertificates are given".to_owned(),
        )
    };
    let file = files
        .find(|file| Path::new(file).is_file())
        .ok_or_else(missing)?;
    let read = |error: io::Error| TlsError::Roots(format!("{file}: {error}"));
    let pem = std::fs::read(file).map_err(read)?;
    let mut store = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
    // A system's bundle may hold what we cannot read; the rest counts.
    let (added, _) = store.add_parsable_certificates(found.take(MAX_SYSTEM_ROOTS));
    if added == 0 {
        return Err(TlsError::Roots(format!("{file} holds no certificate")));
    }
    Ok(Arc::new(store))
}

/// The chain reaches the roots and the leaf has one of some names; or, without roots, anything goes.
#[derive(Debug)]
struct Named {
    roots: Option<Arc<RootCertStore>>,
    names: Vec<Arc<str>>,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            roots,
            intermediates,
            now,
            self.crypto.signature_verification_algorithms.all,
        )?;
        let names = certificate::names(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let fits = |wanted: &Arc<str>| {
            names.uris.iter().any(|uri| **uri == **wanted) || names.fits_dns(wanted)
        };
        if self.names.iter().any(fits) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName,
            ))
        }
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
            &self.crypto.signature_verification_algorithms,
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
            &self.crypto.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests;
