//! Handshakes as text.

use super::*;

#[test]
fn the_example_of_the_specification() {
    assert_eq!(
        accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    for (bytes, text) in [
        (&b""[..], ""),
        (b"f", "Zg=="),
        (b"fo", "Zm8="),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg=="),
        (b"\xff\xfe\xfd", "//79"),
    ] {
        assert_eq!(base64::encode(bytes), text);
    }
}

#[test]
fn only_earnest_wishes_count() {
    let of = |pairs: &[(&str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        asked(&headers)
    };
    assert_eq!(
        of(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket")
        ]),
        Some("websocket".into())
    );
    assert_eq!(of(&[("upgrade", "websocket")]), None);
    assert_eq!(of(&[("connection", "upgrade")]), None);
    assert_eq!(of(&[("connection", "upgrade"), ("upgrade", "h2c")]), None);
    assert_eq!(
        of(&[("connection", "upgrade"), ("upgrade", "a, websocket")]),
        None
    );
}
