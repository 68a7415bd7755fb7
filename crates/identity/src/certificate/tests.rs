use proptest::prelude::*;

use super::*;
use crate::fixture::{Ca, SLEEP, uri};

proptest! {
    /// Every length of the last line and of the padding.
    #[test]
    fn pem_round_trip(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        let pem = write_pem("CERTIFICATE", &bytes);
        let back = read_pem(&pem).unwrap();
        prop_assert_eq!(back.len(), 1);
        prop_assert_eq!(&back[0][..], &bytes[..]);
        prop_assert!(pem.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn rubbish_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let der = CertificateDer::from(bytes);
        prop_assert!(spiffe(&der).is_err());
        prop_assert!(life(&der).is_err());
    }

    #[test]
    fn a_damaged_certificate_never_panics(at in 0usize..300, bit in 0u8..8) {
        let mut der = DER.with(|der| der.clone());
        let at = at % der.len();
        der[at] ^= 1 << bit;
        let _ = spiffe(&CertificateDer::from(der));
    }
}

thread_local! {
    static DER: Vec<u8> = Ca::new("mesh")
        .leaf(|p| p.subject_alt_names = vec![uri(SLEEP)])
        .0
        .to_vec();
}

#[test]
fn trailing_bytes_are_refused() {
    let mut der = DER.with(|der| der.clone());
    assert!(spiffe(&CertificateDer::from(der.clone())).is_ok());
    der.push(0);
    assert!(matches!(
        spiffe(&CertificateDer::from(der)),
        Err(PeerError::Malformed(_))
    ));
}

#[test]
fn other_sections_of_a_pem_are_skipped_and_a_huge_one_is_refused() {
    let (one, two) = (
        write_pem("CERTIFICATE", b"one"),
        write_pem("CERTIFICATE", b"two"),
    );
    let key = write_pem("PRIVATE KEY", b"key");
    let text = format!("# a comment\n{one}{key}\n{two}");
    let found = read_pem(&text).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(&found[1][..], b"two");
    assert!(read_pem("").unwrap().is_empty());
    assert!(read_pem(&" ".repeat(MAX_PEM + 1)).is_err());
}
