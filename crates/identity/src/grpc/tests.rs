use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::authority::Authority;
use crate::fixture::{Ca, SLEEP, uri};

const NAME: &str = "istiod.istio-system.svc";

fn server(authority: &Authority, roots: &str) -> ServerTls {
    let names = [NAME.to_owned(), format!("{NAME}.cluster.local")];
    let (chain, key) = authority.sign_server(&names, None).unwrap();
    ServerTls::new(&chain, &key, roots).unwrap()
}

fn authority() -> Authority {
    Authority::new_self_signed("cluster.local").unwrap()
}

type Seen = Result<Option<Identity>, HandshakeError>;

async fn meet(
    server: &ServerTls,
    client: &ClientTls,
    host: &str,
) -> (Seen, Result<(), HandshakeError>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let (mut stream, identity) = server.accept(tcp).await?;
        stream.write_all(b"!").await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        Ok(identity)
    };
    let connect = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut stream = client.connect(host, tcp).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.read_u8().await.map_err(broken)?;
        Ok(())
    };
    tokio::join!(accept, connect)
}

#[tokio::test]
async fn the_servers_name_is_checked() {
    let authority = authority();
    let server = server(&authority, authority.root_pem());
    let client = ClientTls::new(authority.root_pem()).unwrap();
    for name in [NAME, "istiod.istio-system.svc.cluster.local"] {
        let (seen, connected) = meet(&server, &client, name).await;
        connected.unwrap();
        assert_eq!(seen.unwrap(), None, "no client certificate was shown");
    }
    for name in ["istiod.other.svc", "127.0.0.1"] {
        let (_, connected) = meet(&server, &client, name).await;
        let why = connected.unwrap_err().to_string();
        assert!(why.contains("not valid for"), "{why}");
    }
    let (_, connected) = meet(&server, &client, "no name!").await;
    assert!(matches!(connected, Err(HandshakeError::Name(_))));
}

#[tokio::test]
async fn another_root_is_refused_and_a_replaced_certificate_serves_new_connections() {
    let (old, new) = (authority(), authority());
    let server = server(&old, old.root_pem());
    let client = ClientTls::new(new.root_pem()).unwrap();
    let (_, connected) = meet(&server, &client, NAME).await;
    let why = connected.unwrap_err().to_string();
    assert!(why.contains("not signed by a root that we trust"), "{why}");
    let (chain, key) = new.sign_server(&[NAME.to_owned()], None).unwrap();
    assert!(server.replace(&chain, "no key", new.root_pem()).is_err());
    server.replace(&chain, &key, new.root_pem()).unwrap();
    let (_, connected) = meet(&server, &client, NAME).await;
    connected.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_optional_but_must_be_good() {
    let (mesh, stranger) = (Ca::new("mesh"), Ca::new("stranger"));
    let authority = authority();
    let server = server(&authority, &mesh.pem());
    let showing = |ca: &Ca, names: Vec<rcgen::SanType>| {
        let (leaf, key) = ca.leaf(|p| p.subject_alt_names = names);
        let roots = certificate::read_pem(authority.root_pem()).unwrap();
        let mut config = ClientConfig::builder_with_provider(tls::provider(TlsSettings::default()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(tls::root_store(&roots).unwrap())
            .with_client_auth_cert(vec![leaf], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        ClientTls(Arc::new(config))
    };
    let (seen, connected) = meet(&server, &showing(&mesh, vec![uri(SLEEP)]), NAME).await;
    connected.unwrap();
    assert_eq!(seen.unwrap().unwrap().to_string(), SLEEP);
    for (ca, names) in [
        (&stranger, vec![uri(SLEEP)]),
        (&mesh, vec![]),
        (
            &mesh,
            vec![uri(SLEEP), uri("spiffe://cluster.local/ns/a/sa/b")],
        ),
    ] {
        let (seen, connected) = meet(&server, &showing(ca, names), NAME).await;
        assert!(matches!(seen, Err(HandshakeError::Tls(_))), "{seen:?}");
        assert!(connected.is_err());
    }
}

#[tokio::test]
async fn rubbish_instead_of_tls_is_an_error_for_its_sender_alone() {
    let authority = authority();
    let server = server(&authority, authority.root_pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rude = async {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
    };
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        server.accept(tcp).await
    };
    let ((), accepted) = tokio::join!(rude, accept);
    assert!(matches!(accepted, Err(HandshakeError::Tls(_))));
}

#[test]
fn empty_roots_trust_nobody_and_are_refused() {
    assert!(matches!(ClientTls::new(""), Err(TlsError::Roots(_))));
}
