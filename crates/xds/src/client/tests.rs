use super::*;

fn rejection(name: &str) -> Rejection {
    Rejection {
        name: name.to_owned(),
        error: "why".to_owned(),
    }
}

#[test]
fn versions_survive_unchanged() {
    for text in [
        "",
        "1",
        "00000000000000ff",
        "00000000000000FF",
        "abc",
        "ffffffffffffffff",
        "0.0.1",
    ] {
        assert_eq!(Version::from(text).to_text(), text);
    }
    assert_eq!(Version::from("00000000000000ff"), Version::Hash(255));
}

#[test]
fn what_is_known_is_what_was_accepted() {
    let mut known = Known::default();
    let seen = |names: &[(&str, &str)]| {
        let pairs = names.iter();
        pairs
            .map(|(name, version)| (Arc::from(*name), (*version).to_owned()))
            .collect::<Vec<_>>()
    };
    known.note(
        "t",
        &seen(&[("a", "1"), ("b", "1"), ("c", "1")]),
        &[],
        &[rejection("b")],
    );
    known.note(
        "t",
        &seen(&[("c", "2")]),
        &["a".to_owned()],
        &[rejection("unknown")],
    );
    let versions = known.versions("t");
    assert_eq!(versions.len(), 2);
    assert_eq!(
        versions["b"], "rejected",
        "listed, so that a removal is told; never a real version"
    );
    assert_eq!(versions["c"], "2");
    assert!(known.versions("another").is_empty());
}

#[test]
fn a_name_that_is_known_is_not_copied_again() {
    let mut known = Known::default();
    let name = known.name("t", "a");
    known.note("t", &[(name.clone(), "1".to_owned())], &[], &[]);
    assert!(Arc::ptr_eq(&known.name("t", "a"), &name));
    let again = known.name("t", "a");
    known.note("t", &[(again, "2".to_owned())], &[], &[]);
    assert!(Arc::ptr_eq(&known.name("t", "a"), &name), "after an update");
    assert_eq!(&*known.name("t", "b"), "b");
}

#[test]
fn a_complaint_is_short() {
    let many: Vec<_> = (0..100).map(|n| rejection(&n.to_string())).collect();
    let text = complaint(&many);
    assert!(text.starts_with("0: why; 1: why; "));
    assert!(text.ends_with("and 84 more"));
}

#[test]
fn a_gateway_asks_for_everything_once_and_in_order() {
    let types = gateway_types();
    let place = |url: &str| types.iter().position(|of| of == url).unwrap();
    assert_eq!(types.len(), tulle_proto::L7_TYPES.len() + 1);
    let addresses = place(tulle_proto::ADDRESS_TYPE);
    assert!(place(tulle_proto::HTTP_POLICY_TYPE) < addresses);
    assert!(place(tulle_proto::CERTIFICATE_TYPE) < place(tulle_proto::GATEWAY_TYPE));
    assert!(addresses < place(tulle_proto::HTTP_ROUTE_TYPE));
    assert_eq!(place(tulle_proto::GATEWAY_TYPE), types.len() - 1);
}
