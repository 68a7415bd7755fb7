//! Heads of HTTP/1 requests: bytes in, verdict out.

use proptest::prelude::*;

use super::*;

fn verdict(head: &str) -> Result<Framing, u16> {
    let limits = Limits::default();
    let mut scan = Scan::default();
    let end = scan
        .find_end(head.as_bytes(), &limits)
        .map_err(|refusal| refusal.status.as_u16())?
        .expect("a whole head");
    judge(&head.as_bytes()[..end], &limits).map_err(|refusal| refusal.status.as_u16())
}

#[test]
fn what_is_understood() {
    for (head, body, upgrade) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Length::Known(0), false),
        ("GET / HTTP/1.0\r\n\r\n", Length::Known(0), false),
        (
            "POST /x HTTP/1.1\r\ncontent-length: 12 \r\n\r\n",
            Length::Known(12),
            false,
        ),
        (
            "POST /x HTTP/1.1\r\nTransfer-Encoding:\tCHUNKED\r\n\r\n",
            Length::Chunked,
            false,
        ),
        (
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            Length::Known(0),
            true,
        ),
        (
            "GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n",
            Length::Known(0),
            false,
        ),
        (
            "M-SEARCH * HTTP/1.1\r\nx: \u{e9}\r\ny:\r\n\r\n",
            Length::Known(0),
            false,
        ),
    ] {
        assert_eq!(verdict(head), Ok(Framing { body, upgrade }), "{head:?}");
    }
}

#[test]
fn what_is_refused() {
    for (head, status) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        ("\r\nGET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\na: b\rc: d\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n x: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\na : b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nnothing\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\na: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\na: \x7f\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nh\u{e9}: b\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\n\r\n", 400),
        ("GET\t/\tHTTP/1.1\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\n\r\n", 400),
        ("GET /a\\b HTTP/1.1\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/1.1\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\n\r\n", 505),
        ("GET / http/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.11\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 1 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ] {
        assert_eq!(verdict(head), Err(status), "{head:?}");
    }
}

#[test]
fn sizes_are_limited() {
    let target = "/".repeat(Limits::default().target + 1);
    assert_eq!(verdict(&format!("GET {target} HTTP/1.1\r\n\r\n")), Err(414));
    let endless = format!("GET /{}", "a".repeat(Limits::default().head));
    assert_eq!(verdict(&endless), Err(414));
    let value = "a".repeat(Limits::default().head);
    assert_eq!(verdict(&format!("GET / HTTP/1.1\r\nx: {value}")), Err(431));
    assert_eq!(
        verdict(&format!("GET / HTTP/1.1\r\nx: {value}\r\n\r\n")),
        Err(431)
    );
    let many = "x: y\r\n".repeat(Limits::default().headers + 1);
    assert_eq!(verdict(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(431));
    let just = "x: y\r\n".repeat(Limits::default().headers);
    assert!(verdict(&format!("GET / HTTP/1.1\r\n{just}\r\n")).is_ok());
}

proptest! {
    /// However the bytes come, the end is found at the same place.
    #[test]
    fn the_end_does_not_depend_on_pieces(cuts in proptest::collection::vec(1usize..20, 1..20)) {
        let bytes = b"POST /abc HTTP/1.1\r\nhost: example.com\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
        let (mut scan, mut have, mut found) = (Scan::default(), 0, None);
        for cut in cuts.iter().cycle() {
            have = (have + cut).min(bytes.len());
            found = scan.find_end(&bytes[..have], &Limits::default()).unwrap();
            if found.is_some() {
                break;
            }
        }
        prop_assert_eq!(found, Some(60));
    }

    /// Nothing panics, and what is accepted has one meaning: no bare CR or LF anywhere in it.
    #[test]
    fn any_bytes_have_a_verdict(bytes in proptest::collection::vec(prop_oneof![
        Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), any::<u8>()
    ], 0..80)) {
        let mut head = b"GET / HTTP/1.1\r\nx: ".to_vec();
        head.extend(bytes);
        head.extend(b"\r\n\r\n");
        let mut scan = Scan::default();
        if let Ok(Some(end)) = scan.find_end(&head, &Limits::default())
            && judge(&head[..end], &Limits::default()).is_ok()
        {
            let text = &head[..end];
            for (at, byte) in text.iter().enumerate() {
                prop_assert!(*byte != b'\r' || text.get(at + 1) == Some(&b'\n'));
                prop_assert!(*byte != b'\n' || text[at - 1] == b'\r');
                prop_assert!(*byte != 0);
            }
        }
    }
}
