use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::backend::{self, Expected};
use crate::fixture::{Ca, SLEEP, dns, uri};

fn pem(ca: &Ca, names: &[&str]) -> (String, String) {
    let (leaf, key) = ca.leaf(|params| {
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                if name.contains(':') {
                    uri(name)
                } else {
                    dns(name)
                }
            })
            .collect();
    });
    (
        certificate::write_pem("CERTIFICATE", &leaf),
        certificate::write_pem("PRIVATE KEY", key.secret_der()),
    )
}

fn server(certificates: &[(String, String)], clients: ClientCertificates) -> ServerTls {
    ServerTls::new(&Settings {
        certificates: certificates
            .iter()
            .map(|(chain, key)| (chain.as_str(), key.as_str()))
            .collect(),
        clients,
        minimum: Version::V1_2,
        maximum: Version::V1_3,
        alpn: &[b"h2", b"http/1.1"],
    })
    .unwrap()
}

fn client(
    ca: &Ca,
    certificate: Option<&(String, String)>,
    expected: Expected,
) -> backend::ClientTls {
    let roots = ca.pem();
    backend::ClientTls::new(&backend::Settings {
        roots: Some(&roots),
        certificate: certificate.map(|(chain, key)| (chain.as_str(), key.as_str())),
        expected,
        alpn: &[b"http/1.1"],
    })
    .unwrap()
}

/// Both ends of a handshake, and an exchange.
async fn shake(
    server: &ServerTls,
    client: &backend::ClientTls,
    name: &str,
) -> Result<Accepted, String> {
    let (here, there) = duplex(64 * 1024);
    let serving = async {
        let (mut stream, accepted) = server.accept(there).await.map_err(|e| e.to_string())?;
        stream
            .write_all(b"hello")
            .await
            .map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        Ok::<_, String>(accepted)
    };
    let calling = async {
        let (mut stream, alpn) = client
            .connect(name, here)
            .await
            .map_err(|e| e.to_string())?;
        let mut back = [0; 5];
        stream
            .read_exact(&mut back)
            .await
            .map_err(|e| e.to_string())?;
        assert_eq!(&back, b"hello");
        Ok::<_, String>(alpn)
    };
    let (served, called) = tokio::join!(serving, calling);
    assert_eq!(called?.as_deref(), Some(&b"http/1.1"[..]));
    served
}

#[tokio::test]
async fn the_certificate_that_fits_the_name_serves() {
    let ca = Ca::new("ca");
    let tls = server(
        &[pem(&ca, &["a.example"]), pem(&ca, &["*.b.example"])],
        ClientCertificates::None,
    );
    let client = client(&ca, None, Expected::ServerName);
    let accepted = shake(&tls, &client, "a.example").await.unwrap();
    assert_eq!(accepted.server_name.as_deref(), Some("a.example"));
    assert_eq!(accepted.alpn.as_deref(), Some(&b"http/1.1"[..]));
    shake(&tls, &client, "x.b.example").await.unwrap();
    // Nothing fits: the first one serves, and the client judges.
    assert!(shake(&tls, &client, "c.example").await.is_err());
}

#[tokio::test]
async fn client_certificates_as_demanded() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let own = [pem(&ca, &["a.example"])];
    let mine = pem(&ca, &[SLEEP]);
    let foreign = pem(&other, &[SLEEP]);
    let roots: Arc<str> = ca.pem().into();
    let with = |certificate| client(&ca, certificate, Expected::ServerName);

    let required = server(
        &own,
        ClientCertificates::Required(roots.clone(), Vec::new()),
    );
    let accepted = shake(&required, &with(Some(&mine)), "a.example")
        .await
        .unwrap();
    let shown = accepted.certificate.unwrap();
    assert_eq!(shown.identity, Some(SLEEP.parse().unwrap()));
    assert!(shown.verified && shown.hash.len() == 64 && shown.uris == [SLEEP]);
    assert!(shake(&required, &with(None), "a.example").await.is_err());
    assert!(
        shake(&required, &with(Some(&foreign)), "a.example")
            .await
            .is_err()
    );

    let named = ClientCertificates::Required(roots.clone(), vec!["spiffe://other".into()]);
    assert!(
        shake(&server(&own, named), &with(Some(&mine)), "a.example")
            .await
            .is_err()
    );

    let optional = server(&own, ClientCertificates::Optional(roots));
    let accepted = shake(&optional, &with(None), "a.example").await.unwrap();
    assert_eq!(accepted.certificate, None);
    assert!(
        shake(&optional, &with(Some(&foreign)), "a.example")
            .await
            .is_err()
    );

    let unverified = server(&own, ClientCertificates::Unverified);
    let accepted = shake(&unverified, &with(Some(&foreign)), "a.example")
        .await
        .unwrap();
    let shown = accepted.certificate.unwrap();
    assert_eq!((shown.identity, shown.verified), (None, false));
}

#[tokio::test]
async fn endpoints_are_who_the_user_says() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let tls = server(
        &[pem(&ca, &["a.example", "spiffe://td/ns/x/sa/y"])],
        ClientCertificates::None,
    );
    let any = |names: &[&str]| Expected::AnyOf(names.iter().map(|n| (*n).into()).collect());
    for (expected, good) in [
        (any(&["a.example"]), true),
        (any(&["spiffe://td/ns/x/sa/y"]), true),
        (any(&["b.example"]), false),
        (Expected::ServerName, false),
        (Expected::Anything, true),
    ] {
        let client = client(&ca, None, expected.clone());
        let outcome = shake(&tls, &client, "elsewhere.example").await;
        assert_eq!(outcome.is_ok(), good, "{expected:?}");
    }
    let stranger = client(&other, None, any(&["a.example"]));
    assert!(shake(&tls, &stranger, "a.example").await.is_err());
    let careless = client(&other, None, Expected::Anything);
    shake(&tls, &careless, "a.example").await.unwrap();
}

#[tokio::test]
async fn the_first_message_tells_the_name() {
    let ca = Ca::new("ca");
    let client = client(&ca, None, Expected::ServerName);
    let (here, mut there) = duplex(64 * 1024);
    let calling = tokio::spawn(async move { client.connect("A.example", here).await.is_ok() });
    let mut first = vec![0; 16 * 1024];
    let length = there.read(&mut first).await.unwrap();
    let found = hello(&first[..length]).unwrap().unwrap();
    assert_eq!(found.server_name.as_deref(), Some("a.example"));
    assert_eq!(found.alpn, [b"http/1.1"]);
    assert_eq!(hello(&first[..length / 2]).unwrap(), None);
    assert!(hello(b"\x16\x03\x01nonsense that is no hello").is_err());
    drop(there);
    assert!(!calling.await.unwrap());
}
