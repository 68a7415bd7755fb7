//! Parsers of what peers and tokens' bearers send, as `fuzz/` calls them: any bytes may come in, and a broken promise panics.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tulle_model::Identity;

use crate::jwt::{Keys, Token};
use crate::{
    Authority, CertificateRequest, ClientTls, Credentials, Epoch, IssuedPem, TlsSettings,
    certificate, channel,
};

/// A token (first line) and a key set (the rest): nothing that bytes alone can say verifies.
pub fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (token, keys) = text.split_once('\n').unwrap_or((&text, ""));
    let keys = Keys::parse(keys);
    if let (Ok(token), Ok(keys)) = (Token::parse(token), keys) {
        // A secret in the key set can sign; everything else would be a forgery.
        let forged = keys.verify(&token).is_ok() && !text.contains("\"oct\"");
        assert!(!forged, "verified: {text}");
    }
}

/// A certificate request: what is signed names the identity that the authority was told, and nothing else.
pub fn certificate_request(data: &[u8]) {
    let (authority, _) = fixture();
    let identity = Identity::new(authority.trust_domain(), "fuzz", "asked");
    let text = String::from_utf8_lossy(data);
    if let Ok(chain) = authority.sign_workload(&text, &identity, None) {
        let leaf = certificate::read_pem(&chain.concat()).ok();
        let leaf = leaf.and_then(|chain| chain.into_iter().next());
        let named = leaf.map(|leaf| certificate::spiffe(&leaf));
        assert_eq!(named.and_then(Result::ok), Some(identity));
    }
}

/// The certificate that a peer shows.
pub fn certificate(data: &[u8]) {
    let der = CertificateDer::from(data);
    if let Ok(identity) = certificate::spiffe(&der) {
        // What it is compared with and logged as.
        assert!(identity.to_string().starts_with("spiffe://"));
    }
    let _ = certificate::names(&der);
    let _ = certificate::life(&der);
    let _ = certificate::read_pem(&String::from_utf8_lossy(data));
}

/// The first bytes on a tunnel's port, over a socket: nobody without a certificate gets through, and nothing hangs.
pub fn handshake(data: &[u8]) {
    let (_, epoch) = fixture();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        panic!("no runtime");
    };
    let outcome = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut near = TcpStream::connect(listener.local_addr()?).await?;
        let (far, _) = listener.accept().await?;
        near.write_all(&data[..data.len().min(60 << 10)]).await?;
        near.shutdown().await?;
        let established = channel::server(&far, &epoch.server).await.is_ok();
        // Many inputs a second: no port may linger.
        near.set_zero_linger()?;
        drop(near);
        Ok::<_, std::io::Error>(established)
    });
    match outcome {
        Ok(established) => assert!(!established, "a handshake without a certificate"),
        Err(error) => panic!("sockets: {error}"),
    }
}

/// A request that is signed.
pub fn request_seed() -> String {
    let (authority, _) = fixture();
    let identity = Identity::new(authority.trust_domain(), "fuzz", "asked");
    match CertificateRequest::new(&identity) {
        Ok(request) => request.csr_pem,
        Err(error) => panic!("{error}"),
    }
}

/// A certificate of a workload.
pub fn certificate_seed() -> Vec<u8> {
    let (_, epoch) = fixture();
    let chain = certificate::read_pem(&epoch.credentials.chain_pem());
    let leaf = chain.ok().and_then(|chain| chain.into_iter().next());
    leaf.map(|leaf| leaf.to_vec()).unwrap_or_default()
}

/// The first flight of our own client.
pub fn hello_seed() -> Vec<u8> {
    let (_, epoch) = fixture();
    let config = Arc::clone(epoch.client.config());
    let mut hello = Vec::new();
    let connection = rustls::ClientConnection::new(config, ClientTls::server_name());
    match connection.map(|mut connection| connection.write_tls(&mut hello)) {
        Ok(Ok(_)) => hello,
        other => panic!("no hello: {other:?}"),
    }
}

fn fixture() -> &'static (Authority, Epoch) {
    static FIXTURE: OnceLock<(Authority, Epoch)> = OnceLock::new();
    FIXTURE.get_or_init(|| match made() {
        Ok(fixture) => fixture,
        Err(error) => panic!("no certificate for the target: {error}"),
    })
}

fn made() -> Result<(Authority, Epoch), Box<dyn std::error::Error>> {
    let authority = Authority::new_self_signed("cluster.local")?;
    let identity = Identity::new(authority.trust_domain(), "fuzz", "server");
    let request = CertificateRequest::new(&identity)?;
    let chain = authority.sign_workload(&request.csr_pem, &identity, None)?;
    let credentials = Credentials::assemble(&identity, request, &IssuedPem { chain })?;
    let epoch = Epoch::new(credentials, TlsSettings::default())?;
    Ok((authority, epoch))
}
