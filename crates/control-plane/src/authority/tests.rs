use tulle_identity::Authority;

use super::{overlap, secret};

#[test]
fn bundles_overlap_when_they_share_a_certificate() {
    let one = Authority::new_self_signed("cluster.local").unwrap();
    let other = Authority::new_self_signed("cluster.local").unwrap();
    let both = format!("{}\n{}", one.root_pem(), other.root_pem());
    assert!(overlap(one.root_pem(), &both) && overlap(&both, other.root_pem()));
    assert!(overlap(
        &one.root_pem().replace('\n', "\r\n"),
        one.root_pem()
    ));
    assert!(!overlap(one.root_pem(), other.root_pem()));
    assert!(!overlap("", ""));
}

#[test]
fn the_secret_has_istios_name_type_and_keys() {
    let authority = Authority::new_self_signed("cluster.local").unwrap();
    let secret = secret(authority.files());
    assert_eq!(secret.metadata.name.as_deref(), Some("istio-ca-secret"));
    assert_eq!(secret.type_.as_deref(), Some("istio.io/ca-root"));
    let keys: Vec<_> = secret.data.unwrap().into_keys().collect();
    let wanted = [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "key.pem",
        "root-cert.pem",
    ];
    assert_eq!(keys, wanted);
}
