//! Chunked bodies: bytes in, where they end.

use proptest::prelude::*;

use super::*;

fn follow(bytes: &str) -> Result<Option<usize>, &'static str> {
    let mut chunks = Chunks::new();
    let used = chunks
        .follow(bytes.as_bytes())
        .map_err(|refusal| refusal.why)?;
    Ok(chunks.is_done().then_some(used))
}

#[test]
fn ends_are_found() {
    for (bytes, end) in [
        ("0\r\n\r\nGET", Some(5)),
        ("3\r\nabc\r\n0\r\n\r\nGET", Some(13)),
        ("A;x=\"y\"\r\n0123456789\r\n00\r\n\r\n", Some(27)),
        ("0\r\na: b\r\nc: d\r\n\r\nrest", Some(17)),
        ("3\r\nabc\r\n0\r\n", None),
        ("3\r\nab", None),
    ] {
        assert_eq!(follow(bytes), Ok(end), "{bytes:?}");
    }
}

#[test]
fn what_is_refused() {
    for bytes in [
        "\r\n0\r\n\r\n",
        "x\r\n",
        "+3\r\nabc",
        "0x3\r\nabc",
        " 3\r\nabc",
        "3 \r\nabc",
        "-1\r\n",
        "3\nabc\n0\n\n",
        "3\rabc",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r0\r\n\r\n",
        "3;\n\r\nabc",
        "1111111111111111\r\n",
        "0\r\na: b\n\r\n",
        "0\r\na: b\rc\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\nContent-Length: 3\r\n\r\n",
        "0\r\nhost: x\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
        "0\r\nnothing\r\n\r\n",
    ] {
        assert!(follow(bytes).is_err(), "{bytes:?}");
    }
    let long = format!("3;{}\r\n", "x".repeat(1000));
    assert!(follow(&long).is_err());
    let large = format!("0\r\na: {}\r\n\r\n", "x".repeat(limits::MAX_TRAILERS));
    assert!(follow(&large).is_err());
}

proptest! {
    #[test]
    fn pieces_do_not_matter(sizes in proptest::collection::vec(1usize..50, 0..8), cut in 1usize..9) {
        let mut bytes = String::new();
        for size in sizes {
            bytes += &format!("{size:x}\r\n{}\r\n", "z".repeat(size));
        }
        bytes += "0\r\nt: v\r\n\r\n";
        let whole = bytes.clone() + "GET / HTTP/1.1\r\n";
        let mut chunks = Chunks::new();
        let mut used = 0;
        for piece in whole.as_bytes().chunks(cut) {
            used += chunks.follow(piece).unwrap();
        }
        prop_assert!(chunks.is_done());
        prop_assert_eq!(used, bytes.len());
    }
}
