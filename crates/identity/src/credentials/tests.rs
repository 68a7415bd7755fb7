use proptest::prelude::*;

use super::*;
use crate::authority::Authority;
use crate::epoch::Epoch;
use crate::fixture::{SLEEP, WEB};
use crate::tls::TlsSettings;

fn issued(identity: &Identity) -> (CertificateRequest, IssuedPem) {
    let request = CertificateRequest::new(identity).unwrap();
    let chain = Authority::new_self_signed("cluster.local")
        .unwrap()
        .sign_workload(&request.csr_pem, identity, None)
        .unwrap();
    (request, IssuedPem { chain })
}

fn sleep() -> Credentials {
    let identity: Identity = SLEEP.parse().unwrap();
    let (request, issued) = issued(&identity);
    Credentials::assemble(&identity, request, &issued).unwrap()
}

#[test]
fn an_answer_for_somebody_else_is_refused() {
    let (sleep, web): (Identity, Identity) = (SLEEP.parse().unwrap(), WEB.parse().unwrap());
    let (request, issued) = issued(&web);
    let error = Credentials::assemble(&sleep, request, &issued).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the certificate is for {WEB}, {SLEEP} was asked for")
    );
}

#[test]
fn an_answer_over_another_key_makes_no_epoch() {
    let sleep: Identity = SLEEP.parse().unwrap();
    let (_, issued) = issued(&sleep);
    let other = CertificateRequest::new(&sleep).unwrap();
    let credentials = Credentials::assemble(&sleep, other, &issued).unwrap();
    assert!(Epoch::new(credentials, TlsSettings::default()).is_err());
}

#[test]
fn answers_without_leaf_or_roots_or_with_too_many_are_refused() {
    let sleep: Identity = SLEEP.parse().unwrap();
    let (_, good) = issued(&sleep);
    let assemble = |chain: Vec<String>| {
        let request = CertificateRequest::new(&sleep).unwrap();
        Credentials::assemble(&sleep, request, &IssuedPem { chain }).unwrap_err()
    };
    assert_eq!(assemble(vec![]), CredentialsError::Short(0));
    assert_eq!(
        assemble(good.chain[..1].to_vec()),
        CredentialsError::Short(1)
    );
    let garbage = assemble(vec!["no pem".into(), good.chain[1].clone()]);
    assert!(matches!(
        garbage,
        CredentialsError::Unreadable { what: "chain", .. }
    ));
    let rootless = assemble(vec![good.chain[0].clone(), String::new()]);
    assert!(matches!(
        rootless,
        CredentialsError::Unreadable { what: "roots", .. }
    ));
    let mut long = vec![good.chain[0].clone(); MAX_CHAIN + 1];
    long.push(good.chain[1].clone());
    assert!(matches!(
        assemble(long),
        CredentialsError::TooMany { what: "chain", .. }
    ));
    let many = vec![good.chain[0].clone(), good.chain[1].repeat(MAX_ROOTS + 1)];
    assert!(matches!(
        assemble(many),
        CredentialsError::TooMany { what: "roots", .. }
    ));
}

#[test]
fn sealed_form_round_trip() {
    let before = sleep();
    let after = Credentials::from_bytes(&before.to_bytes()).unwrap();
    assert_eq!(after.identity, before.identity);
    assert_eq!(after.chain, before.chain);
    assert_eq!(after.roots, before.roots);
    assert_eq!(after.key, before.key);
    assert_eq!(after.serial, before.serial);
    assert_eq!(after.not_after, before.not_after);
    Epoch::new(after, TlsSettings::default()).unwrap();
}

#[test]
fn keys_are_never_printed() {
    let credentials = sleep();
    let key = credentials.key.secret_der();
    let printed = format!("{credentials:?}");
    assert!(
        printed.contains("sa/sleep") || printed.contains("\"sleep\""),
        "{printed}"
    );
    assert!(!printed.contains(&format!("{key:?}")));
    assert!(!printed.contains("key"));
}

proptest! {
    #[test]
    fn a_damaged_blob_never_panics_and_a_short_one_is_an_error(cut in any::<prop::sample::Index>(), junk in any::<u8>()) {
        let bytes = BLOB.with(|blob| blob.clone());
        let at = cut.index(bytes.len());
        prop_assert!(Credentials::from_bytes(&bytes[..at]).is_err());
        let mut changed = bytes.clone();
        changed[at] ^= junk;
        // Must not panic; a change in the key or in a signature is not noticed here.
        let _ = Credentials::from_bytes(&changed);
    }
}

thread_local! {
    static BLOB: Vec<u8> = sleep().to_bytes();
}
