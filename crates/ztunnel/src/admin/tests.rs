use super::dump::base64;

#[test]
fn base64_of_every_length() {
    let known = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("\u{ff}", "w78="),
    ];
    for (text, encoded) in known {
        assert_eq!(base64(text.as_bytes()), encoded);
    }
}
