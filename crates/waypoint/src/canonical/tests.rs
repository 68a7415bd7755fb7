use std::sync::Arc;

use http::Request;

use super::*;

fn client() -> Client {
    Client {
        source: "10.0.0.1:4000".parse().unwrap(),
        local: "10.96.0.1:80".parse().unwrap(),
        peer: "spiffe://td/ns/shop/sa/web".parse().ok(),
        certificate: None,
        server_name: None,
        gateway: Arc::from("shop/waypoint"),
        via: Via::Listener {
            port: 80,
            tls: true,
        },
    }
}

fn judge(target: &str, host: &str) -> Result<(Parts, Canonical), Reply> {
    let request = Request::builder()
        .uri(target)
        .header("host", host)
        .body(())
        .unwrap();
    let (mut head, ()) = request.into_parts();
    let canonical = Canonical::judge(&mut head, Wanted::Base, &client())?;
    Ok((head, canonical))
}

#[test]
fn what_was_judged_is_what_goes_on() {
    let (head, canonical) = judge("/a/../b%41?x=%2F", "Shop.Example.:8080").unwrap();
    assert_eq!(head.uri.to_string(), "/bA?x=%2F");
    assert_eq!(head.headers["host"], "shop.example:8080");
    assert_eq!(
        (&*canonical.host, &*canonical.path),
        ("shop.example", "/bA")
    );
    assert_eq!(canonical.query.as_deref(), Some("x=%2F"));
    assert_eq!(
        (canonical.scheme, canonical.source_namespace.as_deref()),
        ("https", Some("shop"))
    );
}

#[test]
fn what_has_no_one_form_is_refused() {
    for (target, host) in [("/a%00", "a"), ("/a%2", "a"), ("/", "user@a"), ("/", "")] {
        let reply = judge(target, host).unwrap_err();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{target} {host}");
    }
}
