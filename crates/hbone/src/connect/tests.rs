//! What is a CONNECT, and what is not.

use super::*;

fn head(fields: &[(&str, &str)]) -> Head {
    let mut head = Head::default();
    for (name, value) in fields {
        head.field(name.as_bytes(), value.as_bytes());
    }
    head
}

#[test]
fn a_good_request() {
    let seen = head(&[
        (":method", "CONNECT"),
        (":authority", "10.0.0.1:80"),
        ("baggage", "k8s.namespace.name=a"),
        ("baggage", "service.name=b"),
        ("forwarded", "for=\"1.2.3.4:5\""),
        ("x-forwarded-network", "n"),
        ("x-anything", "ü"),
    ]);
    assert!(seen.is_connect());
    assert_eq!(
        seen.baggage.as_deref(),
        Some("k8s.namespace.name=a,service.name=b")
    );
    assert_eq!(seen.x_forwarded_network.as_deref(), Some("n"));
}

#[test]
fn authorities() {
    for good in [
        "1.2.3.4:1",
        "[fd00::1]:65535",
        "a.b-c.svc.cluster.local:8080",
        "localhost:80",
        "3scale.a:1",
    ] {
        assert!(authority_is_valid(good), "{good}");
    }
    let long = format!("{}:80", ["abcdefgh"; 30].join("."));
    for bad in [
        "",
        "1.2.3.4",
        "1.2.3.4:",
        ":80",
        "1.2.3.4:0",
        "1.2.3.4:70000",
        "1.2.3.4:+80",
        "1.2.3.4:080000",
        "u@1.2.3.4:80",
        "[fe80::1%eth0]:80",
        "fd00::1:80",
        "[fd00::1]",
        "[1.2.3.4]:80",
        "a.:80",
        "a..b:80",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "a b:80",
        "a/b:80",
        "a\0:80",
        "a\r\n:80",
        "ä:80",
        &long,
    ] {
        assert!(!authority_is_valid(bad), "{bad:?}");
    }
}

#[test]
fn malformed_requests() {
    let good = [(":method", "CONNECT"), (":authority", "1.2.3.4:80")];
    let with = |more: (&'static str, &'static str)| [&good[..], &[more]].concat();
    assert!(head(&good).is_connect());
    for more in [
        (":path", "/"),
        (":scheme", "https"),
        (":protocol", "websocket"),
        (":status", "200"),
        (":method", "CONNECT"),
        (":authority", "1.2.3.4:80"),
        (":unknown", ""),
        ("Baggage", "a"),
        ("", "a"),
        ("connection", "close"),
        ("upgrade", "h2c"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("a:b", "c"),
        ("x", "a\0b"),
        ("x", "a\r\nb"),
        ("forwarded", "a\nb"),
    ] {
        assert!(!head(&with(more)).is_connect(), "{more:?}");
    }
    assert!(head(&with(("te", "trailers"))).is_connect());
    for fields in [
        &[][..],
        &[(":method", "CONNECT")],
        &[(":authority", "1.2.3.4:80")],
        &[(":method", "connect"), (":authority", "1.2.3.4:80")],
        &[(":method", "GET"), (":authority", "1.2.3.4:80")],
        &[
            (":method", "POST"),
            (":authority", "1.2.3.4:80"),
            (":path", "/"),
            (":scheme", "http"),
        ],
        &[
            (":method", "CONNECT"),
            ("x", "y"),
            (":authority", "1.2.3.4:80"),
        ],
    ] {
        assert!(!head(fields).is_connect(), "{fields:?}");
    }
}

#[test]
fn answers() {
    assert_eq!(
        head(&[(":status", "200"), ("baggage", "a")]).answer(),
        Some(200)
    );
    for bad in [
        &[][..],
        &[(":status", "20")],
        &[(":status", "2000")],
        &[(":status", "+20")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), (":method", "GET")],
    ] {
        assert_eq!(
            head(bad).answer().filter(|status| *status >= 100),
            None,
            "{bad:?}"
        );
    }
}

#[test]
fn requests_that_cannot_be_sent() {
    let connect = |authority: &str, baggage: Option<String>| Connect {
        authority: authority.into(),
        baggage,
        ..Connect::default()
    };
    assert!(connect("1.2.3.4:80", Some("a=b".into())).encode().is_ok());
    assert!(connect("1.2.3.4", None).encode().is_err());
    assert!(
        connect("1.2.3.4:80", Some("a\r\nb".into()))
            .encode()
            .is_err()
    );
    assert!(
        connect("1.2.3.4:80", Some("x".repeat(20_000)))
            .encode()
            .is_err()
    );
}
