use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn interface_names_fit_the_kernel_and_differ() {
    let long = name("a-rather-long-name-of-a-playground");
    let other = name("a-rather-long-name-of-a-playgrounx");
    for interface in [
        name("tulle").bridge(),
        long.bridge(),
        long.link(8),
        name("12345678").link(8),
    ] {
        assert!(interface.len() <= 15, "{interface}");
    }
    assert_ne!(long.bridge(), other.bridge());
    assert_eq!(name("tulle").bridge(), "tl-tulle");
    assert_eq!(name("tulle").link(2), "tl-tulle-2");
}

#[test]
fn one_playground_is_never_a_prefix_of_another() {
    let inner = name("a-b").network_namespace("node1");
    assert!(
        !inner.starts_with(&name("a").network_namespace_prefix()),
        "{inner}"
    );
}

#[test]
fn refuses_names_that_would_break_paths_or_interfaces() {
    for bad in [
        "",
        "-a",
        "a-",
        "A",
        "a/b",
        "..",
        "a b",
        "a--b",
        "ä",
        &"x".repeat(41),
    ] {
        let error = bad.parse::<Name>().unwrap_err().to_string();
        assert!(error.contains("cannot name a playground"), "{error}");
    }
}
