use super::*;

#[test]
fn versions_of_go_are_read() {
    for (text, version) in [
        ("1.26.8", (1, 26)),
        ("1.22rc1", (1, 22)),
        ("1.19~1", (1, 19)),
        ("1.21", (1, 21)),
    ] {
        assert_eq!(parse_version(text), Some(version));
    }
    assert_eq!(parse_version("devel"), None);
}

#[test]
fn a_new_enough_go_of_the_distribution_is_preferred() {
    let old = " golang-go | 2:1.19~1 | http://deb.debian.org/debian bookworm/main amd64 Packages\n";
    assert_eq!(newest_sufficient(old), None);
    let backports = " golang-go | 2:1.24~2~bpo12+1 | http://deb.debian.org/debian bookworm-backports/main amd64 Packages\n";
    let found = newest_sufficient(&format!("{backports}{old}")).unwrap();
    assert_eq!(
        found,
        (
            "2:1.24~2~bpo12+1".to_owned(),
            "bookworm-backports".to_owned()
        )
    );
    assert_eq!(newest_sufficient(""), None);
}

#[test]
fn what_is_missing_is_named_with_package_and_purpose() {
    let without = |absent: &'static str| {
        missing(&[When::Run], move |name| {
            (name != absent).then(PathBuf::new)
        })
    };
    let found = without("runc");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "runc (package runc): for containers");
    assert!(without("gcc").is_empty(), "gcc is needed to build alone");
}

#[test]
fn programs_are_found() {
    assert!(find_program("sh").is_some());
    assert_eq!(find_program("no-such-program-anywhere"), None);
}
