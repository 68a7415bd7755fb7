//! One form of path, host and method: bad inputs of groups E and F.

use proptest::prelude::*;

use crate::canonical::{
    Normalization, Refusal, authority, literal, method, path, query, sni, target,
};

const ALL: [Normalization; 4] = [
    Normalization::None,
    Normalization::Base,
    Normalization::MergeSlashes,
    Normalization::DecodeAndMergeSlashes,
];

#[test]
fn forms_of_paths() {
    // (raw, NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES); one that is left out is as the one before.
    let table: [(&str, &[&str]); 29] = [
        ("/", &["/"]),
        ("/a/b", &["/a/b"]),
        ("/a/./b", &["/a/./b", "/a/b"]),
        ("/a/../b", &["/a/../b", "/b"]),
        ("/a/b/..", &["/a/b/..", "/a/"]),
        ("/a/b/.", &["/a/b/.", "/a/b/"]),
        ("/..", &["/..", "/"]),
        ("/../../a", &["/../../a", "/a"]),
        ("/%2e%2E/a", &["/%2e%2E/a", "/a"]),
        ("/a/.%2e/b", &["/a/.%2e/b", "/b"]),
        ("/%61%7Eb%2Dc", &["/%61%7Eb%2Dc", "/a~b-c"]),
        ("//a", &["//a", "//a", "/a"]),
        ("/a//b///c/", &["/a//b///c/", "/a//b///c/", "/a/b/c/"]),
        ("/a//../b", &["/a//../b", "/a/b"]),
        ("/a/b//", &["/a/b//", "/a/b//", "/a/b/"]),
        ("//", &["//", "//", "/"]),
        (r"/a\b", &[r"/a\b", "/a/b"]),
        (r"/a\..\b", &[r"/a\..\b", "/b"]),
        ("/a%2fb", &["/a%2fb", "/a%2Fb", "/a%2Fb", "/a/b"]),
        (
            "/a%2F..%2Fb",
            &["/a%2F..%2Fb", "/a%2F..%2Fb", "/a%2F..%2Fb", "/b"],
        ),
        ("/a%5cb", &["/a%5cb", "/a%5Cb", "/a%5Cb", "/a/b"]),
        (
            "/a%2f%2fb",
            &["/a%2f%2fb", "/a%2F%2Fb", "/a%2F%2Fb", "/a/b"],
        ),
        ("/a%252e%252e/b", &["/a%252e%252e/b"]),
        ("/a%25%32%65", &["/a%25%32%65", "/a%252e"]),
        ("/.well-known/x", &["/.well-known/x"]),
        ("/a/...", &["/a/..."]),
        ("/a;b=c/d", &["/a;b=c/d"]),
        ("/%c3%a9", &["/%c3%a9", "/%C3%A9"]),
        ("/é", &["/é", "/%C3%A9"]),
    ];
    for (raw, forms) in table {
        for (at, normalization) in ALL.into_iter().enumerate() {
            let wanted = forms.get(at).or(forms.last()).unwrap();
            let found = path(raw, normalization).unwrap();
            assert_eq!(found, *wanted, "{raw} {normalization:?}");
        }
    }
}

#[test]
fn paths_without_a_form_are_refused() {
    for (raw, wanted) in [
        ("", Refusal::RelativePath),
        ("a", Refusal::RelativePath),
        ("*", Refusal::RelativePath),
        ("http://h/", Refusal::RelativePath),
        ("/a#b", Refusal::Fragment),
        ("/a%00b", Refusal::ControlCharacter),
        ("/a%0d%0ab", Refusal::ControlCharacter),
        ("/a%7f", Refusal::ControlCharacter),
        ("/a b", Refusal::ControlCharacter),
        ("/a\tb", Refusal::ControlCharacter),
        ("/a\0", Refusal::ControlCharacter),
        ("/%", Refusal::BadEscape),
        ("/%2", Refusal::BadEscape),
        ("/%zz", Refusal::BadEscape),
        ("/%+1", Refusal::BadEscape),
        ("/%%32", Refusal::BadEscape),
        // Overlong `.` and `/`, a surrogate-range lead that does not exist.
        ("/%c0%ae%c0%ae/", Refusal::BadUtf8),
        ("/%e0%80%af", Refusal::BadUtf8),
        ("/%f0%80%80%af", Refusal::BadUtf8),
        ("/%f8%80", Refusal::BadUtf8),
        ("/..;/admin", Refusal::DotParameters),
        ("/a/..;x=1/b", Refusal::DotParameters),
        ("/a/.;/b", Refusal::DotParameters),
        ("/%2e%2e;/b", Refusal::DotParameters),
        ("/..%3b/b", Refusal::DotParameters),
    ] {
        assert_eq!(path(raw, Normalization::Base), Err(wanted), "{raw:?}");
    }
    // Without normalization only what is dangerous in any form.
    assert_eq!(path("/%zz", Normalization::None).as_deref(), Ok("/%zz"));
    for raw in ["/a%00", "/a#b", "/%c0%ae", "/a\rb"] {
        assert!(path(raw, Normalization::None).is_err(), "{raw:?}");
    }
}

#[test]
fn usual_paths_are_not_copied() {
    for normalization in ALL {
        let form = path("/productpage/v1.2/items", normalization).unwrap();
        assert!(matches!(form, std::borrow::Cow::Borrowed(_)));
    }
}

#[test]
fn targets() {
    let base = Normalization::Base;
    let found = target("GET", "/a/../b?c=%zz&d=/../", base).unwrap();
    assert_eq!((&*found.path, found.query), ("/b", Some("c=%zz&d=/../")));
    let found = target("GET", "/a?", base).unwrap();
    assert_eq!((&*found.path, found.query), ("/a", Some("")));
    assert_eq!(target("OPTIONS", "*", base).unwrap().path, "*");
    assert_eq!(target("GET", "*", base), Err(Refusal::RelativePath));
    for bad in ["/a?b#c", "/a?b c", "/a?b\nc"] {
        assert_eq!(target("GET", bad, base), Err(Refusal::BadQuery), "{bad:?}");
    }
    assert_eq!(query("a=b"), Ok("a=b"));
}

#[test]
fn hosts() {
    for (raw, host, port) in [
        ("example.com", "example.com", None),
        ("EXAMPLE.Com", "example.com", None),
        ("example.com.", "example.com", None),
        ("example.com:8080", "example.com", Some(8080)),
        ("Example.com.:443", "example.com", Some(443)),
        ("10.0.0.1:80", "10.0.0.1", Some(80)),
        ("a_b-c.d", "a_b-c.d", None),
        ("[::1]", "[::1]", None),
        ("[0:0::1]:80", "[::1]", Some(80)),
        ("[FE80::A]", "[fe80::a]", None),
    ] {
        let found = authority(raw).unwrap();
        assert_eq!((&*found.host, found.port), (host, port), "{raw}");
    }
    for (raw, wanted) in [
        ("", Refusal::BadHost),
        (".", Refusal::BadHost),
        ("..", Refusal::BadHost),
        ("a..b", Refusal::BadHost),
        (".a", Refusal::BadHost),
        ("a..", Refusal::BadHost),
        ("a b", Refusal::BadHost),
        ("a/b", Refusal::BadHost),
        (r"a\b", Refusal::BadHost),
        ("a%2eb", Refusal::BadHost),
        ("a\0b", Refusal::BadHost),
        ("a\r\nb", Refusal::BadHost),
        ("é.com", Refusal::BadHost),
        ("a,b", Refusal::BadHost),
        ("*.a", Refusal::BadHost),
        ("user@example.com", Refusal::UserInfo),
        ("example.com@evil", Refusal::UserInfo),
        ("example.com:", Refusal::BadPort),
        ("example.com:0", Refusal::BadPort),
        ("example.com:70000", Refusal::BadPort),
        ("example.com:+80", Refusal::BadPort),
        ("example.com:80:80", Refusal::BadPort),
        ("::1", Refusal::BadPort),
        ("[::1%25eth0]", Refusal::BadHost),
        ("[::1", Refusal::BadHost),
        ("[::1]x", Refusal::BadHost),
        ("[127.0.0.1]", Refusal::BadHost),
    ] {
        assert_eq!(
            authority(raw).map(|a| a.host.into_owned()),
            Err(wanted),
            "{raw:?}"
        );
    }
    assert_eq!(authority(&"a".repeat(254)).map(drop), Err(Refusal::BadHost));
    assert_eq!(sni("Foo.Bar.").as_deref(), Ok("foo.bar"));
    assert_eq!(sni("10.0.0.1"), Err(Refusal::BadHost));
}

#[test]
fn methods() {
    for good in ["GET", "PATCH", "PURGE", "M-SEARCH", "x-own"] {
        assert_eq!(method(good), Ok(good));
    }
    for bad in ["get", "Get", "pOST", "delete"] {
        assert_eq!(method(bad), Err(Refusal::MethodCase), "{bad}");
    }
    for bad in ["", "G ET", "GET\0", "GÉT", "A/B", &"A".repeat(33)] {
        assert_eq!(method(bad), Err(Refusal::BadMethod), "{bad:?}");
    }
}

#[test]
fn literals_of_rules_have_the_same_form() {
    assert_eq!(literal("/a%2fb%7e/é/%zz"), "/a%2Fb~/%C3%A9/%zz");
    assert_eq!(literal("/plain/"), "/plain/");
}

/// Paths made of what tricks are made of.
fn tricky() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/", "/", "/", "a", "b", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", "%25", "2e",
        "2f", "%", ";", "%3b", "x=1", "%61", "é", "%c3%a9", "%c0", "%ae", "~", "%7E", "%20",
    ]);
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// What a lenient application makes of a path: everything decoded (twice if `twice`), backslashes turned, dots and slashes resolved.
fn lenient(path: &str) -> Vec<String> {
    let decoded = crate::request::decoded(&path.replace('+', "%2B")).unwrap_or_else(|| path.into());
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut parts: Vec<String> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part.into()),
        }
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_form_of_a_form_is_itself(raw in tricky()) {
        for normalization in ALL {
            if let Ok(once) = path(&raw, normalization) {
                let twice = path(&once, normalization).map(|p| p.into_owned());
                prop_assert_eq!(twice, Ok(once.into_owned()));
            }
        }
    }

    /// Whatever an application resolves, policies have seen: after the strictest setting nothing is left to resolve.
    #[test]
    fn no_path_hides_another_one(raw in tricky()) {
        if let Ok(form) = path(&raw, Normalization::DecodeAndMergeSlashes) {
            let seen: Vec<String> = form
                .split('/')
                .filter(|part| !part.is_empty())
                .map(|part| String::from_utf8_lossy(&crate::request::decoded(&part.replace('+', "%2B")).unwrap_or_else(|| part.into())).into_owned())
                .collect();
            prop_assert_eq!(seen, lenient(&form), "{} -> {}", raw, form);
        }
    }

    /// No dot segment, no raw backslash, no byte outside of printable ASCII survives.
    #[test]
    fn forms_are_plain(raw in tricky()) {
        if let Ok(form) = path(&raw, Normalization::Base) {
            prop_assert!(form.starts_with('/'));
            prop_assert!(form.split('/').all(|part| part != "." && part != ".."), "{}", form);
            prop_assert!(form.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#'), "{}", form);
        }
    }

    #[test]
    fn literals_equal_the_paths_that_they_spell(raw in "/[a-z%/.~]{0,3}(%[0-9a-fA-F]{2}){0,3}[a-z]{0,2}") {
        if let Ok(form) = path(&raw, Normalization::Base) {
            let spelt = literal(&raw);
            let of_spelt = path(&spelt, Normalization::Base);
            prop_assert_eq!(of_spelt.as_deref(), Ok(&*form));
        }
    }

    #[test]
    fn any_bytes_are_answered(raw in "\\PC{0,40}") {
        for normalization in ALL {
            let _ = path(&raw, normalization);
        }
        let _ = authority(&raw);
        let _ = method(&raw);
        let _ = target("GET", &raw, Normalization::Base);
    }
}
