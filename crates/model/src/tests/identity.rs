//! SPIFFE identities.

use proptest::prelude::*;

use crate::{Identity, Interner};

#[test]
fn strict_form() {
    let identity: Identity = "spiffe://cluster.local/ns/default/sa/sleep"
        .parse()
        .unwrap();
    assert_eq!(identity, Identity::new("cluster.local", "default", "sleep"));
    assert_eq!(identity.principal(), "cluster.local/ns/default/sa/sleep");
    for bad in [
        "",
        "cluster.local/ns/default/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep/",
        "spiffe://cluster.local/ns/default/sa/",
        "spiffe://cluster.local/ns//sa/sleep",
        "spiffe:///ns/default/sa/sleep",
        "spiffe://Cluster.local/ns/default/sa/sleep",
        "spiffe://cluster.local/sa/sleep/ns/default",
        "spiffe://cluster.local/ns/de%66ault/sa/sleep",
        "spiffe://cluster.local/ns/default/sa/sleep?x",
        "spiffe://cluster.local/ns/../sa/sleep",
        "https://cluster.local/ns/default/sa/sleep",
    ] {
        let error = bad.parse::<Identity>().unwrap_err();
        assert!(
            error.to_string().contains("is not of the form spiffe://"),
            "{error}"
        );
    }
}

#[test]
fn errors_do_not_grow_with_the_input() {
    let long = "x".repeat(1 << 20);
    assert!(long.parse::<Identity>().unwrap_err().to_string().len() < 1024);
}

proptest! {
    #[test]
    fn text_round_trip(td in "[a-z0-9.-]{1,20}", ns in "[a-z0-9-]{1,20}", sa in "[a-z0-9.-]{1,20}") {
        let all_plain = ![&td, &ns, &sa].into_iter().any(|part| part == "." || part == "..");
        prop_assume!(all_plain);
        let identity = Identity::new(&*td, &*ns, &*sa);
        prop_assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
    }

    #[test]
    fn rubbish_never_panics(text in ".*") {
        let _ = text.parse::<Identity>();
    }
}

#[test]
fn shared_texts_go_when_nobody_holds_them() {
    let mut texts = Interner::default();
    let held = texts.intern("held");
    for round in 0..100_000 {
        texts.intern(&round.to_string());
    }
    assert!(texts.len() < 5_000, "holds {}", texts.len());
    assert!(std::sync::Arc::ptr_eq(&held, &texts.intern("held")));
}
