//! Parsed requests.

use super::*;

fn request(uri: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
    let mut builder = ::http::Request::builder().uri(uri).version(version);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn judged(mut head: Parts) -> Result<(String, String), u16> {
    judge(&mut head, None, &Limits::default()).map_err(|refusal| refusal.status.as_u16())?;
    let host = head
        .headers
        .get(HOST)
        .map_or("", |host| host.to_str().unwrap());
    Ok((host.into(), head.uri.to_string()))
}

#[test]
fn one_form_for_all() {
    let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
    for (uri, version, headers, host, target) in [
        ("/a?b", h1, &[("host", "x.y:80")][..], "x.y:80", "/a?b"),
        ("http://x.y/a", h1, &[("host", "X.Y")], "X.Y", "/a"),
        ("http://x.y?q", h1, &[("host", "x.y")], "x.y", "/?q"),
        ("/", Version::HTTP_10, &[], "", "/"),
        ("https://x.y/a", h2, &[], "x.y", "/a"),
        ("https://x.y/a", h2, &[("host", "x.y")], "x.y", "/a"),
        ("https://[::1]:8080/", h2, &[], "[::1]:8080", "/"),
        ("/", h1, &[("host", "10.0.0.1")], "10.0.0.1", "/"),
    ] {
        let judged = judged(request(uri, version, headers));
        assert_eq!(
            judged,
            Ok((host.into(), target.into())),
            "{uri} {headers:?}"
        );
    }
}

#[test]
fn what_is_refused() {
    let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
    for (uri, version, headers, status) in [
        ("/", h1, &[][..], 400),
        ("http://x/", h1, &[], 400),
        ("/", h1, &[("host", "a"), ("host", "a")], 400),
        ("/", h2, &[("host", "a"), ("host", "b")], 400),
        ("http://a/", h1, &[("host", "b")], 400),
        ("http://a:80/", h1, &[("host", "a")], 400),
        ("http://a/", h2, &[("host", "b")], 400),
        ("ftp://a/", h1, &[("host", "a")], 400),
        ("/", h1, &[("host", "")], 400),
        ("/", h1, &[("host", "u@a")], 400),
        ("/", h1, &[("host", "a/b")], 400),
        ("/", h1, &[("host", "a b")], 400),
        ("/", h1, &[("host", "a,b")], 400),
        ("/", h1, &[("host", "a:")], 400),
        ("/", h1, &[("host", "a:8x")], 400),
        ("/", h1, &[("host", "a:123456")], 400),
        ("/", h1, &[("host", "[::1]x")], 400),
        ("/", h1, &[("host", "h\u{e9}")], 400),
        ("*", h1, &[("host", "a")], 400),
        ("/", h1, &[("host", "a"), ("expect", "tea")], 417),
    ] {
        let judged = judged(request(uri, version, headers));
        assert_eq!(judged, Err(status), "{uri} {headers:?}");
    }
    let mut connect = request("a:443", h1, &[("host", "a:443")]);
    connect.method = Method::CONNECT;
    assert_eq!(judged(connect), Err(405));
    let many: Vec<_> = (0..101).map(|_| ("x", "y")).collect();
    assert_eq!(judged(request("/", h2, &many)), Err(431));
    let long = format!("https://x/{}", "a".repeat(40_000));
    assert_eq!(judged(request(&long, h2, &[])), Err(414));
}

#[test]
fn what_is_for_one_hop_is_taken_off() {
    let mut head = request(
        "/",
        Version::HTTP_11,
        &[
            ("connection", "close, X-Private"),
            ("connection", "upgrade"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("expect", "100-continue"),
            ("x-kept", "2"),
        ],
    );
    hop_by_hop(&mut head.headers).unwrap();
    let left: std::collections::BTreeMap<_, _> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(left, [("te", "trailers"), ("x-kept", "2")].into());
    for vital in ["host", "Content-Length", "authorization", "x-forwarded-for"] {
        let mut head = request("/", Version::HTTP_11, &[("connection", vital)]);
        assert!(hop_by_hop(&mut head.headers).is_err(), "{vital}");
    }
}
