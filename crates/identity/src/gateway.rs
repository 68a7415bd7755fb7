//! TLS that ends at a gateway: certificates of users by server name, client certificates as their Gateway demands.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    Acceptor, ClientHello as Hello, NoServerSessionStorage, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tulle_model::Identity;

use crate::certificate::{self, Names};
use crate::grpc::{HandshakeError, broken};
use crate::limits::{HANDSHAKE_DEADLINE, MAX_LISTENER_CERTIFICATES};
use crate::tls::{self, TlsError};

/// The server's end of a connection.
pub type TlsStream<I> = tokio_rustls::server::TlsStream<I>;

/// What the first message of a TLS client says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// In lower case.
    pub server_name: Option<Arc<str>>,
    /// Protocols that the client would speak.
    pub alpn: Vec<Vec<u8>>,
}

/// Reads the first message of a TLS client from the first bytes of a connection. `None`: more bytes are needed.
///
/// # Errors
/// If this is no TLS.
pub fn hello(bytes: &[u8]) -> Result<Option<ClientHello>, HandshakeError> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).map_err(HandshakeError::Io)?;
        let accepted = acceptor
            .accept()
            .map_err(|(error, _)| HandshakeError::Tls(error.to_string()))?;
        if let Some(accepted) = accepted {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().into_iter().flatten();
            return Ok(Some(ClientHello {
                server_name: hello
                    .server_name()
                    .map(|name| name.to_ascii_lowercase().into()),
                alpn: alpn.map(<[u8]>::to_vec).collect(),
            }));
        }
    }
    Ok(None)
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Version {
    V1_2,
    V1_3,
}

/// What clients must show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    None,
    /// Something that reaches these roots (PEM), or nothing.
    Optional(Arc<str>),
    /// Something that reaches these roots (PEM) and has one of these DNS or URI names, unless there are none.
    Required(Arc<str>, Vec<Arc<str>>),
    /// Anything or nothing; it is passed on, nobody vouches for it.
    Unverified,
}

/// What a listener is made of.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Chains and keys in PEM. The first whose names fit serves; without any, the first.
    pub certificates: Vec<(&'a str, &'a str)>,
    /// Client certificates.
    pub clients: ClientCertificates,
    /// The lowest version.
    pub minimum: Version,
    /// The highest version.
    pub maximum: Version,
    /// Protocols that are offered, the preferred one first.
    pub alpn: &'a [&'a [u8]],
}

/// How a listener is reached. Clones are the same.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    names: Arc<[Arc<str>]>,
    verified: bool,
}

/// What a handshake showed.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// In lower case.
    pub server_name: Option<Arc<str>>,
    /// `h2` or `http/1.1`.
    pub alpn: Option<Vec<u8>>,
    /// The client's.
    pub certificate: Option<ClientCertificate>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A SPIFFE name of ours, when that is all it has and it was verified.
    pub identity: Option<Identity>,
    /// Its chain was checked.
    pub verified: bool,
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Subject, RFC 4514.
    pub subject: String,
    /// SHA-256 of it, lower-case hex.
    pub hash: String,
}

impl ServerTls {
    /// Puts a listener's configuration together.
    ///
    /// # Errors
    /// If a certificate, key or root cannot be used.
    pub fn new(settings: &Settings<'_>) -> Result<Self, TlsError> {
        let refused = |error: rustls::Error| TlsError::Certificate(error.to_string());
        let crypto = Arc::new(provider::default_provider());
        let mut versions: Vec<&SupportedProtocolVersion> = Vec::new();
        for (version, known) in [(Version::V1_3, &TLS13), (Version::V1_2, &TLS12)] {
            if (settings.minimum..=settings.maximum).contains(&version) {
                versions.push(known);
            }
        }
        let resolver = Arc::new(ByName::new(&settings.certificates, &crypto)?);
        let builder = ServerConfig::builder_with_provider(crypto.clone())
            .with_protocol_versions(&versions)
            .map_err(refused)?;
        let builder = match verifier(&settings.clients, &crypto)? {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = settings.alpn.iter().map(|name| name.to_vec()).collect();
        if settings.clients != ClientCertificates::None {
            // A resumed session would skip the check of the client's certificate.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let names = match &settings.clients {
            ClientCertificates::Required(_, names) => names.clone(),
            _ => Vec::new(),
        };
        Ok(Self {
            config: Arc::new(config),
            names: names.into(),
            verified: settings.clients != ClientCertificates::Unverified,
        })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// If that fails or takes longer than [`HANDSHAKE_DEADLINE`], or the client's certificate has none of the names it must have.
    pub async fn accept<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: I,
    ) -> Result<(TlsStream<I>, Accepted), HandshakeError> {
        let acceptor = TlsAcceptor::from(self.config.clone());
        let stream = timeout(HANDSHAKE_DEADLINE, acceptor.accept(io))
            .await
            .map_err(|_| HandshakeError::Deadline)?
            .map_err(broken)?;
        let connection = stream.get_ref().1;
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let accepted = Accepted {
            server_name: connection
                .server_name()
                .map(|name| name.to_ascii_lowercase().into()),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            certificate: leaf
                .map(|leaf| ClientCertificate::read(leaf, self.verified))
                .transpose()?,
        };
        if !self.names.is_empty() && !self.is_named(accepted.certificate.as_ref()) {
            let why = "the client's certificate has none of the names that the Gateway demands";
            return Err(HandshakeError::Tls(why.to_owned()));
        }
        Ok((stream, accepted))
    }

    fn is_named(&self, certificate: Option<&ClientCertificate>) -> bool {
        certificate.is_some_and(|c| {
            let mut all = c.uris.iter().chain(&c.dns);
            all.any(|name| self.names.iter().any(|wanted| **wanted == **name))
        })
    }
}

impl ClientCertificate {
    fn read(leaf: &CertificateDer<'_>, verified: bool) -> Result<Self, HandshakeError> {
        let names = certificate::names(leaf).map_err(HandshakeError::Tls)?;
        let mut hash = String::new();
        for byte in digest::digest(&digest::SHA256, leaf).as_ref() {
            // Writing to a String cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        let identity = certificate::spiffe(leaf).ok().filter(|_| verified);
        Ok(Self {
            identity,
            verified,
            uris: names.uris,
            dns: names.dns,
            subject: names.subject,
            hash,
        })
    }
}

fn verifier(
    clients: &ClientCertificates,
    crypto: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (roots, required) = match clients {
        ClientCertificates::None => return Ok(None),
        ClientCertificates::Unverified => {
            return Ok(Some(Arc::new(Anyone(crypto.clone()))));
        }
        ClientCertificates::Optional(roots) => (roots, false),
        ClientCertificates::Required(roots, _) => (roots, true),
    };
    let roots = certificate::read_pem(roots).map_err(TlsError::Roots)?;
    let store = tls::root_store(&roots)?;
    let builder = WebPkiClientVerifier::builder_with_provider(store, crypto.clone());
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let built = builder
        .build()
        .map_err(|error| TlsError::Roots(error.to_string()))?;
    Ok(Some(built))
}

/// Certificates by the names in them.
#[derive(Debug)]
struct ByName {
    all: Vec<(Names, Arc<CertifiedKey>)>,
}

impl ByName {
    fn new(
        certificates: &[(&str, &str)],
        crypto: &rustls::crypto::CryptoProvider,
    ) -> Result<Self, TlsError> {
        let mut all = Vec::new();
        for (chain, key) in certificates.iter().take(MAX_LISTENER_CERTIFICATES) {
            let refused = TlsError::Certificate;
            let chain = certificate::read_pem(chain).map_err(refused)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| refused(error.to_string()))?;
            let leaf = chain
                .first()
                .ok_or_else(|| refused("there is none".to_owned()))?;
            let names = certificate::names(leaf).map_err(refused)?;
            let certified = CertifiedKey::from_der(chain, key, crypto)
                .map_err(|error| refused(error.to_string()))?;
            all.push((names, Arc::new(certified)));
        }
        if all.is_empty() {
            return Err(TlsError::Certificate("the listener has none".to_owned()));
        }
        Ok(Self { all })
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: Hello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().map(str::to_ascii_lowercase);
        let fits = |(names, _): &&(Names, Arc<CertifiedKey>)| {
            wanted.as_ref().is_some_and(|name| names.fits_dns(name))
        };
        let found = self.all.iter().find(fits).or_else(|| self.all.first());
        found.map(|(_, key)| key.clone())
    }
}

/// Asks for a certificate and takes any, as long as its key is the client's.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
            &self.0.signature_verification_algorithms,
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
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection that broke in a handshake.
impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        broken(error)
    }
}

#[cfg(test)]
mod tests;
