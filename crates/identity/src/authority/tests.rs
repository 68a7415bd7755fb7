use std::collections::BTreeMap;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    RsaKeySize, SanType,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::X509Certificate;

use super::*;
use crate::certificate::{life, parse, read_pem, spiffe, write_pem};
use crate::fixture::{Ca, SLEEP, WEB, dns, uri};

const WEAK_RSA: &str = include_str!("fixtures/weak-rsa.csr");
const RSA_CERT: &str = include_str!("fixtures/rsa-ca-cert.pem");
const RSA_KEY: &str = include_str!("fixtures/rsa-ca-key.pem");
const EC_CERT: &str = include_str!("fixtures/ec-ca-cert.pem");
const EC_KEY: &str = include_str!("fixtures/ec-ca-key.pem");

fn sleep() -> Identity {
    SLEEP.parse().unwrap()
}

fn authority() -> Authority {
    Authority::new_self_signed("cluster.local").unwrap()
}

fn request() -> String {
    CertificateRequest::new(&sleep()).unwrap().csr_pem
}

/// A request made with the given key and extensions.
fn csr(key: &KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    edit(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn refusal(csr: &str) -> String {
    authority()
        .sign_workload(csr, &sleep(), None)
        .unwrap_err()
        .to_string()
}

fn with_leaf<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = read_pem(pem).unwrap();
    look(&parse(&der[0]).unwrap())
}

#[test]
fn a_workload_certificate_is_what_istio_peers_expect() {
    let authority = authority();
    let chain = authority.sign_workload(&request(), &sleep(), None).unwrap();
    assert_eq!(chain.len(), 2, "leaf and roots, no intermediate");
    assert_eq!(chain[1], authority.root_pem());
    let leaf = read_pem(&chain[0]).unwrap().remove(0);
    assert_eq!(spiffe(&leaf).unwrap(), sleep());
    with_leaf(&chain[0], |leaf| {
        assert_eq!(leaf.subject().iter().count(), 0, "empty subject");
        let name = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(
            name.critical,
            "critical, since the subject is empty (RFC 5280 §4.2.1.6)"
        );
        let usage = leaf.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment());
        assert!(!usage.key_cert_sign());
        let extended = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth && !extended.any);
        assert!(!leaf.is_ca());
        let has_issuer = leaf.extensions().iter().any(|extension| {
            matches!(
                extension.parsed_extension(),
                ParsedExtension::AuthorityKeyIdentifier(_)
            )
        });
        assert!(has_issuer);
    });
    let life = life(&leaf).unwrap();
    let (now, slack) = (SystemTime::now(), Duration::from_secs(5));
    assert!(life.not_before <= now - BACKDATE + slack);
    assert!(life.not_before >= now - BACKDATE - slack);
    assert!(life.not_after >= now + DEFAULT_LIFETIME - slack);
    assert!(life.not_after <= now + DEFAULT_LIFETIME + slack);
}

#[test]
fn serial_numbers_differ_even_for_one_key() {
    let (authority, request) = (authority(), request());
    let serial = || {
        let chain = authority.sign_workload(&request, &sleep(), None).unwrap();
        life(&read_pem(&chain[0]).unwrap()[0]).unwrap().serial
    };
    let (one, two) = (serial(), serial());
    assert_ne!(one, two);
    assert_eq!(one.len(), 32);
}

#[test]
fn lifetimes_are_bounded() {
    let (authority, request) = (authority(), request());
    let end = |lifetime| {
        let chain = authority.sign_workload(&request, &sleep(), lifetime)?;
        Ok::<_, SignRefused>(life(&read_pem(&chain[0]).unwrap()[0]).unwrap().not_after)
    };
    let now = SystemTime::now();
    let hour = end(Some(Duration::from_secs(3600))).unwrap();
    assert!(hour < now + Duration::from_secs(3700));
    assert!(end(Some(Duration::ZERO)).unwrap() > now + Duration::from_secs(23 * 3600));
    assert!(end(Some(MAX_LIFETIME)).is_ok());
    let error = end(Some(MAX_LIFETIME + Duration::from_secs(1))).unwrap_err();
    assert!(matches!(error, SignRefused::Lifetime { .. }));
}

#[test]
fn a_certificate_never_outlives_its_signer_and_an_expired_signer_signs_nothing() {
    let key = KeyPair::generate().unwrap();
    let lasting = |seconds: u64| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(seconds)).into();
        let pem = write_pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
        CaFiles {
            ca_cert: pem.clone(),
            ca_key: key.serialize_pem(),
            cert_chain: String::new(),
            root_cert: pem,
        }
    };
    let short = Authority::from_files("cluster.local", lasting(600)).unwrap();
    let chain = short.sign_workload(&request(), &sleep(), None).unwrap();
    let leaf = life(&read_pem(&chain[0]).unwrap()[0]).unwrap();
    assert_eq!(leaf.not_after, short.not_after());
    let expired = Authority::from_files("cluster.local", lasting(0)).unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
}

#[test]
fn requests_that_are_no_good_are_refused() {
    let good = request();
    for (bad, words) in [
        (String::new(), "not PEM"),
        ("rubbish".to_owned(), "not PEM"),
        (write_pem("CERTIFICATE REQUEST", b"rubbish"), "not PKCS #10"),
        ("x".repeat(1024 * 1024), "1048576 bytes"),
        (WEAK_RSA.to_owned(), "RSA with 1024 bits"),
    ] {
        let why = refusal(&bad);
        assert!(why.contains(words), "{words}: {why}");
    }
    assert!(authority().sign_workload(&good, &sleep(), None).is_ok());
}

#[test]
fn a_signature_by_another_key_is_refused() {
    use rustls::pki_types::pem::PemObject;
    let der = |pem: &str| {
        rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .unwrap()
            .to_vec()
    };
    let mut forged = der(&request());
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let why = refusal(&write_pem("CERTIFICATE REQUEST", &forged));
    assert!(why.contains("not by the key in it"), "{why}");
    // Bytes after the request.
    let mut longer = der(&request());
    longer.push(0);
    assert!(refusal(&write_pem("CERTIFICATE REQUEST", &longer)).contains("bytes follow"));
}

#[test]
fn other_kinds_of_keys_are_refused_and_rsa_2048_is_taken() {
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(refusal(&csr(&p384, |_| {})).contains("other than P-256"));
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    assert!(refusal(&csr(&edwards, |_| {})).contains("neither ECDSA P-256 nor RSA"));
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let chain = authority().sign_workload(&csr(&rsa, |_| {}), &sleep(), None);
    assert_eq!(
        spiffe(&read_pem(&chain.unwrap()[0]).unwrap()[0]),
        Ok(sleep())
    );
}

#[test]
fn a_request_that_asks_for_more_is_refused() {
    let key = KeyPair::generate().unwrap();
    let naming = |names: Vec<SanType>| csr(&key, |p| p.subject_alt_names = names);
    let sign = |csr: String| authority().sign_workload(&csr, &sleep(), None);
    assert!(sign(naming(vec![])).is_ok());
    assert!(sign(naming(vec![uri(SLEEP)])).is_ok());
    for names in [
        vec![uri(WEB)],
        vec![uri(SLEEP), uri(WEB)],
        vec![uri(SLEEP), dns("web.default")],
        vec![dns("istiod.istio-system.svc")],
    ] {
        let why = sign(naming(names)).unwrap_err().to_string();
        assert!(why.contains("it names") && why.contains(SLEEP), "{why}");
    }
    let ca = csr(&key, |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let why = sign(ca).unwrap_err().to_string();
    assert!(why.contains("become a certificate authority"), "{why}");
}

#[test]
fn another_trust_domain_is_refused() {
    let other = Identity::new("other.mesh", "default", "sleep");
    let request = CertificateRequest::new(&other).unwrap().csr_pem;
    let error = authority()
        .sign_workload(&request, &other, None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "spiffe://other.mesh/ns/default/sa/sleep is not of this mesh's trust domain cluster.local"
    );
}

#[test]
fn the_self_signed_root_survives_its_secret() {
    let before = authority();
    let secret: BTreeMap<&str, Vec<u8>> = before
        .files()
        .to_secret()
        .into_iter()
        .map(|(key, value)| (key, value.as_bytes().to_vec()))
        .collect();
    let files = CaFiles::from_secret(|key| secret.get(key).cloned()).unwrap();
    let after = Authority::from_files("cluster.local", files).unwrap();
    assert_eq!(after.root_pem(), before.root_pem());
    assert_eq!(after.not_after(), before.not_after());
    let ten_years = SystemTime::now() + ROOT_LIFETIME - Duration::from_secs(60);
    assert!(after.not_after() > ten_years);
}

fn secret<'a>(parts: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<Vec<u8>> + 'a {
    move |wanted| {
        let found = parts.iter().find(|(key, _)| *key == wanted);
        found.map(|(_, value)| value.as_bytes().to_vec())
    }
}

#[test]
fn upstreams_own_secret_is_taken_over() {
    // As istiod writes it: RSA, PKCS #1, empty chain and root.
    for (cert, key) in [(RSA_CERT, RSA_KEY), (EC_CERT, EC_KEY)] {
        let files = CaFiles::from_secret(secret(&[
            ("ca-cert.pem", cert),
            ("ca-key.pem", key),
            ("cert-chain.pem", ""),
            ("root-cert.pem", ""),
            ("key.pem", ""),
        ]));
        let authority = Authority::from_files("cluster.local", files.unwrap()).unwrap();
        assert_eq!(authority.root_pem(), cert);
        let chain = authority.sign_workload(&request(), &sleep(), None).unwrap();
        assert_eq!(chain.len(), 2);
    }
}

#[test]
fn a_plugged_intermediate_is_sent_with_each_leaf() {
    let root = Ca::new("root");
    let (middle, other) = (root.intermediate("middle"), Ca::new("other root"));
    let (cert, key) = (middle.pem(), middle.key_pem());
    // As cert-chain.pem is usually made: up to and with the root.
    let chain = middle.pem() + &root.pem();
    let roots = root.pem() + &other.pem();
    let layouts: [&[(&str, &str)]; 3] = [
        &[
            ("ca-cert.pem", &cert),
            ("ca-key.pem", &key),
            ("cert-chain.pem", &chain),
            ("root-cert.pem", &roots),
        ],
        &[
            ("ca-cert.pem", &cert),
            ("ca-key.pem", &key),
            ("root-cert.pem", &roots),
        ],
        &[("tls.crt", &chain), ("tls.key", &key), ("ca.crt", &roots)],
    ];
    for layout in layouts {
        let files = CaFiles::from_secret(secret(layout)).unwrap();
        let authority = Authority::from_files("cluster.local", files).unwrap();
        let signed = authority.sign_workload(&request(), &sleep(), None).unwrap();
        assert_eq!(signed.len(), 3, "leaf, intermediate, all roots");
        assert_eq!(read_pem(&signed[1]).unwrap(), vec![middle.der.clone()]);
        assert_eq!(read_pem(&signed[2]).unwrap().len(), 2);
    }
}

#[test]
fn secrets_that_do_not_fit_are_refused_with_the_reason() {
    let (root, other) = (Ca::new("root"), Ca::new("other"));
    let middle = root.intermediate("middle");
    let load = |parts: &[(&str, &str)]| {
        CaFiles::from_secret(secret(parts))
            .and_then(|files| Authority::from_files("cluster.local", files))
            .unwrap_err()
    };
    let missing = load(&[("ca-cert.pem", &root.pem())]);
    assert_eq!(missing, AuthorityError::Missing("ca-key.pem"));
    let foreign = load(&[
        ("ca-cert.pem", &root.pem()),
        ("ca-key.pem", &other.key_pem()),
    ]);
    assert_eq!(foreign, AuthorityError::KeyMismatch);
    let (leaf, _) = root.leaf(|_| {});
    let leaf = write_pem("CERTIFICATE", &leaf);
    let leaf = load(&[("ca-cert.pem", &leaf), ("ca-key.pem", &root.key_pem())]);
    assert_eq!(leaf, AuthorityError::NotAnAuthority);
    let unrelated = load(&[
        ("ca-cert.pem", &middle.pem()),
        ("ca-key.pem", &middle.key_pem()),
        ("root-cert.pem", &other.pem()),
    ]);
    assert!(
        matches!(unrelated, AuthorityError::Broken(_)),
        "{unrelated}"
    );
    let rubbish = load(&[("ca-cert.pem", "rubbish"), ("ca-key.pem", &root.key_pem())]);
    assert!(rubbish.to_string().contains("ca-cert.pem"), "{rubbish}");
    let rubbish = load(&[("ca-cert.pem", &root.pem()), ("ca-key.pem", "rubbish")]);
    assert!(rubbish.to_string().contains("ca-key.pem"), "{rubbish}");
}

#[test]
fn keys_are_never_printed() {
    let authority = authority();
    let key = authority.files().ca_key.lines().nth(1).unwrap().to_owned();
    let printed = format!("{authority:?} {:?}", authority.files());
    assert!(!printed.contains(&key));
}
