//! TLS of tunnels: one client and one server configuration per certificate, built once and shared by all its connections.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, PrivateKeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tulle_model::Identity;

use crate::verify::{ClientVerifier, ServerVerifier};

/// The only protocol inside: HTTP/2.
const ALPN: &[u8] = b"h2";

/// What may be chosen about TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Only X25519MLKEM768, as upstream's `pqc` compliance policy: peers that cannot do it are refused.
    /// When off, X25519 comes first and the post-quantum group is still accepted from a peer that insists.
    pub post_quantum: bool,
}

/// Why TLS could not be set up. The certificate that we were issued is at fault, or the roots that came with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No usable root.
    #[error("no usable root certificate: {0}")]
    Roots(String),
    /// Key and certificate do not belong together, or cannot be used.
    #[error("the certificate or its key cannot be used: {0}")]
    Certificate(String),
}

/// How an identity connects: shared by all connections of one certificate epoch. The handshake proves that the server is *a*
/// workload of the mesh; [`verify_peer`](crate::verify_peer) must then say that it is the right one.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<ClientConfig>);

/// How an identity is reached: client certificates are required, and must be of the same trust domain.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl ClientTls {
    /// The configuration, for a record layer in this crate.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.0
    }

    /// rustls wants a name; the verifier ignores it, and none is sent (no SNI).
    pub fn server_name() -> ServerName<'static> {
        ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0, 0, 0, 0])))
    }
}

impl ServerTls {
    /// The configuration, for a record layer in this crate.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.0
    }
}

/// The parts of one certificate that both sides need.
pub(crate) struct Material<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) chain: &'a [CertificateDer<'static>],
    pub(crate) key: &'a PrivateKeyDer<'static>,
    pub(crate) roots: Arc<RootCertStore>,
}

/// Both configurations of one certificate.
pub(crate) fn pair(
    material: &Material<'_>,
    settings: TlsSettings,
) -> Result<(ClientTls, ServerTls), TlsError> {
    let provider = provider(settings);
    let refused = |error: rustls::Error| TlsError::Certificate(error.to_string());
    // Parsed once and shared: a node holds some hundreds of these. Fails if key and certificate do not belong together.
    let key = material.key.clone_key();
    let certified =
        CertifiedKey::from_der(material.chain.to_vec(), key, &provider).map_err(refused)?;
    let resolver = Arc::new(SingleCertAndKey::from(certified));

    let verifier = ServerVerifier::new(material.roots.clone(), provider.clone());
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(resolver.clone());
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.enable_sni = false;
    // The tunnel's record layer takes the traffic secrets over after the handshake; they stay in this crate.
    client.enable_secret_extraction = true;
    // A resumed session would skip the certificate checks: a certificate that is renewed, or a peer that moved, must be seen.
    client.resumption = Resumption::disabled();

    let verifier = ClientVerifier::new(
        material.roots.clone(),
        provider.clone(),
        material.identity.trust_domain.clone(),
    )?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(resolver);
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.enable_secret_extraction = true;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok((ClientTls(Arc::new(client)), ServerTls(Arc::new(server))))
}

/// The algorithms of the mesh. TLS 1.3 only; AES-256-GCM before AES-128-GCM as upstream orders them.
pub(crate) fn provider(settings: TlsSettings) -> Arc<CryptoProvider> {
    let groups: Vec<&'static dyn SupportedKxGroup> = if settings.post_quantum {
        vec![kx_group::X25519MLKEM768]
    } else {
        vec![
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
            kx_group::X25519MLKEM768,
        ]
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: groups,
        ..aws_lc_rs::default_provider()
    })
}

/// A set of trusted roots.
pub(crate) fn root_store(
    roots: &[CertificateDer<'static>],
) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    if roots.is_empty() {
        return Err(TlsError::Roots("the bundle is empty".to_owned()));
    }
    if roots.len() > crate::limits::MAX_ROOTS {
        return Err(TlsError::Roots(format!(
            "the bundle holds {} certificates, more than {}",
            roots.len(),
            crate::limits::MAX_ROOTS
        )));
    }
    for root in roots {
        store
            .add(root.clone())
            .map_err(|error| TlsError::Roots(error.to_string()))?;
    }
    Ok(Arc::new(store))
}
