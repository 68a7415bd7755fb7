//! Handshakes over loopback sockets, with certificates of every kind.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::epoch::Epoch;
use crate::fixture::{Ca, SLEEP, WEB, dns, uri};
use crate::tls::{ClientTls, ServerTls, TlsSettings};

type ClientEnd = client::TlsStream<TcpStream>;
type ServerEnd = server::TlsStream<TcpStream>;

fn words(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|e| e.downcast_ref()) {
        Some(tls) => explain(tls),
        None => error.to_string(),
    }
}

/// Both ends' view. In TLS 1.3 a client learns only from its first read that the server refused it.
async fn shake(
    client: &Arc<rustls::ClientConfig>,
    server: &ServerTls,
) -> (Result<ClientEnd, String>, Result<ServerEnd, String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(server.config().clone());
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(tcp).await.map_err(|e| words(&e))?;
        stream.write_all(b"!").await.map_err(|e| words(&e))?;
        stream.flush().await.map_err(|e| words(&e))?;
        Ok(stream)
    };
    let connect = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut stream = TlsConnector::from(client.clone())
            .connect(ClientTls::server_name(), tcp)
            .await
            .map_err(|e| words(&e))?;
        stream.read_u8().await.map_err(|e| words(&e))?;
        Ok(stream)
    };
    tokio::join!(connect, accept)
}

async fn refused_client(ca: &Ca, edit: impl FnOnce(&mut CertificateParams)) -> String {
    let server = ca.epoch(WEB);
    let bad = ca.credentials(&SLEEP.parse().unwrap(), edit);
    let bad = Epoch::new(bad, TlsSettings::default()).unwrap();
    let (client, accepted) = shake(bad.client.config(), &server.server).await;
    let why = accepted.expect_err("the server must refuse");
    assert!(client.is_err(), "the client must learn that it was refused");
    why
}

async fn refused_server(ca: &Ca, edit: impl FnOnce(&mut CertificateParams)) -> String {
    let client = ca.epoch(SLEEP);
    let bad = ca.credentials(&WEB.parse().unwrap(), edit);
    let bad = Epoch::new(bad, TlsSettings::default()).unwrap();
    let (connected, _) = shake(client.client.config(), &bad.server).await;
    connected.expect_err("the client must refuse")
}

#[tokio::test]
async fn workloads_of_one_mesh_know_each_other() {
    let ca = Ca::new("mesh");
    let (sleep, web) = (ca.epoch(SLEEP), ca.epoch(WEB));
    for _ in 0..2 {
        let (client, server) = shake(sleep.client.config(), &web.server).await;
        let (client, server) = (client.unwrap(), server.unwrap());
        let (_, at_client) = client.get_ref();
        let (_, at_server) = server.get_ref();
        assert_eq!(at_client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(at_client.alpn_protocol(), Some(&b"h2"[..]));
        let suite = at_client.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
        let group = at_client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519);
        assert_eq!(at_server.server_name(), None, "no SNI");
        // Twice, and the second time is no resumption: certificates are checked each time.
        assert_eq!(at_client.handshake_kind(), Some(HandshakeKind::Full));

        let web: Identity = WEB.parse().unwrap();
        let sleep: Identity = SLEEP.parse().unwrap();
        let peer = verify_peer(at_client.peer_certificates().unwrap(), &[web].into());
        assert_eq!(peer.unwrap().to_string(), WEB);
        let peer = verify_peer(at_server.peer_certificates().unwrap(), &[sleep].into());
        assert_eq!(peer.unwrap().to_string(), SLEEP);
    }
}

#[tokio::test]
async fn a_valid_workload_that_is_not_the_expected_one_is_told_apart() {
    let ca = Ca::new("mesh");
    let (sleep, web) = (ca.epoch(SLEEP), ca.epoch(WEB));
    let (client, server) = shake(sleep.client.config(), &web.server).await;
    let _server = server.unwrap();
    let client = client.unwrap();
    let certificates = client.get_ref().1.peer_certificates().unwrap();
    let expected: Arc<[Identity]> = ["a", "b"]
        .map(|name| Identity::new("cluster.local", "default", name))
        .into();
    let error = verify_peer(certificates, &expected).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer is spiffe://cluster.local/ns/default/sa/web, expected one of \
         spiffe://cluster.local/ns/default/sa/a, spiffe://cluster.local/ns/default/sa/b; \
         the destination may have moved"
    );
    let nobody = verify_peer(certificates, &[].into()).unwrap_err();
    assert!(matches!(nobody, PeerError::Unexpected { .. }));
    assert_eq!(verify_peer(&[], &expected), Err(PeerError::Missing));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = Ca::new("mesh");
    let mut bare = ca.epoch(SLEEP).client.config().as_ref().clone();
    bare.client_auth_cert_resolver = Arc::new(NoCertificate);
    let (client, server) = shake(&Arc::new(bare), &ca.epoch(WEB).server).await;
    assert_eq!(
        server.err().as_deref(),
        Some("the peer presented no certificate")
    );
    assert!(client.is_err());
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn another_trust_domain_is_refused_inbound_even_under_the_same_root() {
    let ca = Ca::new("mesh");
    let other = ca.epoch("spiffe://other.mesh/ns/default/sa/sleep");
    let (client, server) = shake(other.client.config(), &ca.epoch(WEB).server).await;
    assert_eq!(
        server.err().as_deref(),
        Some(
            "the peer spiffe://other.mesh/ns/default/sa/sleep is of another trust domain than ours \
             (cluster.local)"
        )
    );
    assert!(client.is_err());
}

#[tokio::test]
async fn another_root_is_refused_both_ways() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let (client, server) =
        shake(theirs.epoch(SLEEP).client.config(), &ours.epoch(WEB).server).await;
    let why = client.err().unwrap();
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert!(server.is_err());

    // A client that trusts both roots shows its foreign certificate to a server that trusts one.
    let identity = SLEEP.parse().unwrap();
    let mut lenient = theirs.credentials(&identity, |p| p.subject_alt_names = vec![uri(SLEEP)]);
    lenient.roots.push(ours.der.clone());
    let lenient = Epoch::new(lenient, TlsSettings::default()).unwrap();
    let (client, server) = shake(lenient.client.config(), &ours.epoch(WEB).server).await;
    let why = server.err().unwrap();
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert!(client.is_err());
}

#[tokio::test]
async fn both_roots_of_a_rotation_are_trusted() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let with_both = |ca: &Ca, name: &str| {
        let identity = name.parse().unwrap();
        let mut both = ca.credentials(&identity, |p| p.subject_alt_names = vec![uri(name)]);
        both.roots = vec![old.der.clone(), new.der.clone()];
        Epoch::new(both, TlsSettings::default()).unwrap()
    };
    let (client, server) = (with_both(&old, SLEEP), with_both(&new, WEB));
    let (client, server) = shake(client.client.config(), &server.server).await;
    assert!(client.is_ok() && server.is_ok());
}

#[tokio::test]
async fn certificates_outside_their_time_are_refused() {
    let ca = Ca::new("mesh");
    let now = SystemTime::now();
    let minute = Duration::from_secs(60);
    let expired = |p: &mut CertificateParams, name: &str| {
        p.subject_alt_names = vec![uri(name)];
        p.not_after = (now - minute).into();
        p.not_before = (now - 10 * minute).into();
    };
    let early = |p: &mut CertificateParams, name: &str| {
        p.subject_alt_names = vec![uri(name)];
        p.not_before = (now + minute).into();
    };
    let why = refused_client(&ca, |p| expired(p, SLEEP)).await;
    assert!(why.contains("expired"), "{why}");
    let why = refused_server(&ca, |p| expired(p, WEB)).await;
    assert!(why.contains("expired"), "{why}");
    let why = refused_client(&ca, |p| early(p, SLEEP)).await;
    assert!(why.contains("not valid yet"), "{why}");
    let why = refused_server(&ca, |p| early(p, WEB)).await;
    assert!(why.contains("not valid yet"), "{why}");
}

#[tokio::test]
async fn exactly_one_spiffe_name_is_taken() {
    let ca = Ca::new("mesh");
    let names = [
        (vec![], "0 URI(s) and 0 other"),
        (vec![uri(SLEEP), uri(WEB)], "2 URI(s) and 0 other"),
        (vec![uri(SLEEP), uri(SLEEP)], "2 URI(s) and 0 other"),
        (vec![uri(SLEEP), dns("web.default")], "1 URI(s) and 1 other"),
        (vec![dns("web.default"), uri(SLEEP)], "1 URI(s) and 1 other"),
        (vec![dns("web.default")], "0 URI(s) and 1 other"),
    ];
    for (names, words) in names {
        let why = refused_client(&ca, |p| p.subject_alt_names = names.clone()).await;
        assert!(why.contains(words), "{words}: {why}");
        let why = refused_server(&ca, |p| p.subject_alt_names = names.clone()).await;
        assert!(why.contains(words), "{words}: {why}");
    }
}

#[tokio::test]
async fn malformed_spiffe_names_are_refused() {
    let ca = Ca::new("mesh");
    for name in [
        "https://cluster.local/ns/default/sa/sleep",
        "SPIFFE://cluster.local/ns/default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/",
        "spiffe://cluster.local/ns//sa/sleep",
        "spiffe://cluster.local/ns/default/sa/..",
        "spiffe://cluster.local/ns/default/sa/%2f",
        "spiffe://Cluster.Local/ns/default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep/more",
        "spiffe://cluster.local/ns/default/sa/sleep?x",
        "spiffe://cluster.local:443/ns/default/sa/sleep",
        "spiffe:///ns/default/sa/sleep",
    ] {
        let why = refused_client(&ca, |p| p.subject_alt_names = vec![uri(name)]).await;
        assert!(why.contains("is not of the form"), "{name}: {why}");
    }
}

#[tokio::test]
async fn key_usage_limits_are_kept() {
    let ca = Ca::new("mesh");
    let only = |usage: ExtendedKeyUsagePurpose, name: &'static str| {
        move |p: &mut CertificateParams| {
            p.subject_alt_names = vec![uri(name)];
            p.extended_key_usages = vec![usage];
        }
    };
    let why = refused_client(&ca, only(ExtendedKeyUsagePurpose::ServerAuth, SLEEP)).await;
    assert!(why.contains("purpose") || why.contains("usage"), "{why}");
    let why = refused_server(&ca, only(ExtendedKeyUsagePurpose::ClientAuth, WEB)).await;
    assert!(why.contains("purpose") || why.contains("usage"), "{why}");
}

#[tokio::test]
async fn intermediates_are_followed_up_to_a_bound() {
    let root = Ca::new("root");
    let through = |depth: usize| {
        let mut links = vec![Ca::new("unused")];
        links[0] = root.intermediate("link 0");
        for at in 1..depth {
            let next = links[at - 1].intermediate(&format!("link {at}"));
            links.push(next);
        }
        let identity = SLEEP.parse().unwrap();
        let last = links.last().unwrap();
        let mut credentials =
            last.credentials(&identity, |p| p.subject_alt_names = vec![uri(SLEEP)]);
        credentials
            .chain
            .extend(links.iter().rev().map(|ca| ca.der.clone()));
        credentials.roots = vec![root.der.clone()];
        Epoch::new(credentials, TlsSettings::default()).unwrap()
    };
    let (client, server) = shake(through(2).client.config(), &root.epoch(WEB).server).await;
    assert!(client.is_ok(), "{:?}", client.err());
    assert!(server.is_ok(), "{:?}", server.err());
    let (_, server) = shake(through(MAX_CHAIN).client.config(), &root.epoch(WEB).server).await;
    assert_eq!(
        server.err().as_deref(),
        Some("the peer presented 9 certificates, more than 8")
    );
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let ca = Ca::new("mesh");
    let old = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS12])
    .unwrap()
    .with_root_certificates(RootCertStore::empty())
    .with_no_client_auth();
    let (client, server) = shake(&Arc::new(old), &ca.epoch(WEB).server).await;
    assert!(client.is_err());
    let why = server.err().unwrap();
    assert!(
        why.contains("TLS 1.2") || why.contains("Tls12") || why.contains("ersion"),
        "{why}"
    );
}

#[tokio::test]
async fn post_quantum_is_accepted_by_default_and_required_on_demand() {
    let ca = Ca::new("mesh");
    let strict = |name: &str| {
        let identity = name.parse().unwrap();
        let credentials = ca.credentials(&identity, |p| p.subject_alt_names = vec![uri(name)]);
        let settings = TlsSettings { post_quantum: true };
        Epoch::new(credentials, settings).unwrap()
    };
    for (client, server) in [
        (strict(SLEEP), ca.epoch(WEB)),
        (ca.epoch(SLEEP), strict(WEB)),
        (strict(SLEEP), strict(WEB)),
    ] {
        let (client, server) = shake(client.client.config(), &server.server).await;
        server.unwrap();
        let client = client.unwrap();
        let group = client.get_ref().1.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
