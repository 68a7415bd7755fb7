use super::*;
use crate::fixture::{Ca, dns};

// Handshakes are tested together with the other end, in the gateway's tests.

#[test]
fn what_cannot_be_used_is_said() {
    let ca = Ca::new("ca");
    let settings = |roots, certificate| Settings {
        roots,
        certificate,
        expected: Expected::ServerName,
        alpn: &[],
    };
    let nonsense = ClientTls::new(&settings(Some("nonsense"), None)).unwrap_err();
    assert!(matches!(nonsense, TlsError::Roots(_)), "{nonsense}");
    let (leaf, _) = ca.leaf(|params| params.subject_alt_names = vec![dns("a")]);
    let (_, key) = ca.leaf(|_| {});
    let chain = certificate::write_pem("CERTIFICATE", &leaf);
    let key = certificate::write_pem("PRIVATE KEY", key.secret_der());
    let pem = ca.pem();
    let mismatch = ClientTls::new(&settings(Some(&pem), Some((&chain, &key)))).unwrap_err();
    assert!(matches!(mismatch, TlsError::Certificate(_)), "{mismatch}");
}
