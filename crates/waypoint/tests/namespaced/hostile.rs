//! What clients send that nobody should: bytes in, to the real process, and what the application behind it saw.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tulle_model::AppProtocol;
use tulle_policy::Target;
use tulle_policy::http::{
    Action, Clause, HttpPolicy, Match, PathMatch, Rule, Test, TextAttribute, TextMatch,
};
use tulle_proto::{HTTP_POLICY_TYPE, HTTP_ROUTE_TYPE};
use tulle_route::resource::{Gateway, Listener, Protocol, Role};

use crate::client::{ask, get};
use crate::gateway::route;
use crate::mesh::{Mesh, PATIENCE, Pod, service, workload};

/// A gateway in clear for `shop.example`, an application behind it, and somebody outside.
struct Door {
    mesh: Mesh,
    outside: Pod,
}

fn door() -> Door {
    let listener = Listener {
        name: "http".into(),
        port: 8000,
        service_port: 80,
        hostname: None,
        protocol: Protocol::Http,
    };
    let mut mesh = Mesh::start(&Gateway {
        namespace: "shop".into(),
        name: "waypoint".into(),
        role: Role::Gateway,
        listeners: vec![listener],
        backend_certificate: None,
        client_identity: false,
    });
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    mesh.application("web", &[&web]);
    let outside = mesh.pod("outside");
    let route = route(&web, "http", "shop.example");
    mesh.control
        .put(HTTP_ROUTE_TYPE, &route.object.to_string(), &route);
    mesh.knows("Pod/shop/web");
    mesh.knows("\"routes\": 1");
    Door { mesh, outside }
}

impl Door {
    fn connect(&self) -> TcpStream {
        let to = SocketAddr::new(self.mesh.waypoint.ip, 8000);
        let tcp = self.outside.netns.enter(|| TcpStream::connect(to));
        let tcp = tcp.unwrap().unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp
    }

    /// Everything that comes back for these bytes, until the connection is closed.
    fn says(&self, sent: &[u8]) -> String {
        let mut tcp = self.connect();
        // Who is refused may be cut off while it talks.
        let _ = tcp.write_all(sent);
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Somebody who behaves is served.
    fn serves(&self, after: &str) {
        let answer =
            self.says(b"GET /fine HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
        assert_eq!(statuses(&answer), [200], "after {after}: {answer}");
    }
}

fn statuses(answer: &str) -> Vec<u16> {
    let starts = answer.match_indices("HTTP/1.1 ");
    let texts = starts.map(|(at, found)| &answer[at + found.len()..][..3]);
    texts.map(|text| text.parse().unwrap()).collect()
}

/// Targets that applications saw, in order.
fn seen(answer: &str) -> Vec<&str> {
    let lines = answer.lines();
    lines
        .filter_map(|line| line.strip_prefix("GET ").or(line.strip_prefix("POST ")))
        .collect()
}

/// What was asked for, what the client got, what the application saw.
const PATHS: &[(&[u8], u16, &str)] = &[
    (b"/a", 200, "/a"),
    (b"/./a", 200, "/a"),
    (b"/x/../a", 200, "/a"),
    (b"/x/%2e%2E/a", 200, "/a"),
    (b"/../../etc/passwd", 200, "/etc/passwd"),
    (b"/%61", 200, "/a"),
    (b"/a/.", 200, "/a/"),
    // As Istio by default: not merged, for policy and application alike.
    (b"//a", 200, "//a"),
    (b"/a%2fb", 200, "/a%2Fb"),
    (b"/a;x=1/b", 200, "/a;x=1/b"),
    (b"/a?b=../c", 200, "/a?b=../c"),
    (b"/..;/a", 400, ""),
    (b"/.%3b/a", 400, ""),
    (b"/a%00", 400, ""),
    (b"/a%0d%0aX:1", 400, ""),
    (b"/a%zz", 400, ""),
    (b"/%c0%af", 400, ""),
    (b"/%e0%80%af", 400, ""),
    (b"/\xc0\xaf", 400, ""),
    (b"/a\\b", 400, ""),
    (b"/a#b", 400, ""),
    (b"a", 400, ""),
    (b"http://shop.example/./a", 200, "/a"),
    (b"http://other.example/a", 400, ""),
];

#[test]
fn a_path_has_one_form_or_none() {
    let door = door();
    for (path, status, saw) in PATHS {
        let sent = [
            b"GET ",
            *path,
            b" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n",
        ]
        .concat();
        let answer = door.says(&sent);
        let name = String::from_utf8_lossy(path);
        assert_eq!(statuses(&answer), [*status], "{name}: {answer}");
        let wanted: &[&str] = if saw.is_empty() { &[] } else { &[saw] };
        assert_eq!(seen(&answer), wanted, "{name}");
    }
}

/// Whatever follows a refusal is never a request.
const REFUSED: &[(&str, &[u8], u16)] = &[
    ("TE and CL", b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("CL and TE", b"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n", 400),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("a disguised coding", b"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("a space before the colon", b"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("a folded header", b"GET / HTTP/1.1\r\nHost: shop.example\r\nA: b\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
    ("LF alone", b"GET / HTTP/1.1\r\nHost: shop.example\nA: b\r\n\r\n", 400),
    ("CR alone", b"GET / HTTP/1.1\r\nHost: shop.example\r\nA: b\rC: d\r\n\r\n", 400),
    ("NUL in a header", b"GET / HTTP/1.1\r\nHost: shop.example\r\nA: \0\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: shop.example\r\nHost: other.example\r\n\r\n", 400),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("a user in the host", b"GET / HTTP/1.1\r\nHost: a@shop.example\r\n\r\n", 400),
    ("a host that is none", b"GET / HTTP/1.1\r\nHost: shop.example/x\r\n\r\n", 400),
    ("port 0", b"GET / HTTP/1.1\r\nHost: shop.example:0\r\n\r\n", 400),
    ("port 70000", b"GET / HTTP/1.1\r\nHost: shop.example:70000\r\n\r\n", 400),
    ("a method in small letters", b"get / HTTP/1.1\r\nHost: shop.example\r\n\r\n", 400),
    ("CONNECT", b"CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n", 405),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ("a chunk that lies", b"POST / HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
];

#[test]
fn nothing_is_smuggled() {
    let door = door();
    for (name, sent, status) in REFUSED {
        let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        let answer = door.says(&[*sent, smuggled].concat());
        assert_eq!(statuses(&answer), [*status], "{name}: {answer}");
        assert!(!answer.contains("/smuggled"), "{name}: {answer}");
    }
    // In any spelling of the host, it is the same one.
    for host in ["SHOP.Example", "shop.example.", "shop.example:80"] {
        let sent = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = door.says(sent.as_bytes());
        assert_eq!(statuses(&answer), [200], "{host}: {answer}");
        assert!(answer.contains("\nhost: shop.example"), "{host}: {answer}");
    }
    let (_, metrics) = door.mesh.page(15020, "/metrics").unwrap();
    let counted = |l: &str| l.starts_with("istio_requests_total") && l.contains("\"DPE\"");
    assert!(metrics.lines().any(counted), "{metrics}");
}

#[test]
fn what_is_too_large_or_too_slow_is_refused_and_holds_up_nobody() {
    let door = door();
    let head = "GET / HTTP/1.1\r\nHost: shop.example\r\n";
    for (name, sent, status) in [
        (
            "a large header",
            format!("{head}A: {}\r\n\r\n", "a".repeat(70_000)),
            431,
        ),
        (
            "many headers",
            format!("{head}{}\r\n", "a: b\r\n".repeat(150)),
            431,
        ),
        (
            "a long target",
            format!(
                "GET /{} HTTP/1.1\r\nHost: shop.example\r\n\r\n",
                "a".repeat(40_000)
            ),
            414,
        ),
    ] {
        assert_eq!(statuses(&door.says(sent.as_bytes())), [status], "{name}");
    }
    // Clients that begin and do not go on, and one that never begins.
    let mut slow: Vec<TcpStream> = (0..200).map(|_| door.connect()).collect();
    for (n, tcp) in slow.iter_mut().enumerate().skip(1) {
        let part = &head.as_bytes()[..n % head.len()];
        tcp.write_all(part).unwrap();
    }
    let began = Instant::now();
    door.serves("200 slow clients");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let mut answer = String::new();
    slow[20].read_to_string(&mut answer).unwrap();
    assert_eq!(statuses(&answer), [408], "{answer}");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// HEADERS of stream 1 for `GET http x /`: all of it, and without its end.
const REQUEST: &[u8] = &[0, 0, 6, 1, 4, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'x'];
const UNENDED: &[u8] = &[0, 0, 6, 1, 0, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'x'];

#[test]
fn floods_of_frames_are_cut_off() {
    let door = door();
    let before = door.mesh.memory();
    let resets: Vec<u8> = (1..20_000u32)
        .step_by(2)
        .flat_map(|id| {
            let id = id.to_be_bytes();
            let mut both = REQUEST.to_vec();
            both[4] = 5;
            both[5..9].copy_from_slice(&id);
            both.extend([0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
            both
        })
        .collect();
    let many = |frame: &[u8]| frame.repeat(10_000);
    let floods: [(&str, &[u8], Vec<u8>); 6] = [
        ("PING", b"", many(b"\0\0\x08\x06\0\0\0\0\x0012345678")),
        ("SETTINGS", b"", many(b"\0\0\0\x04\0\0\0\0\0")),
        (
            "PRIORITY",
            b"",
            many(b"\0\0\x05\x02\0\0\0\0\x03\0\0\0\0\x01"),
        ),
        ("CONTINUATION", UNENDED, many(b"\0\0\0\x09\0\0\0\0\x01")),
        ("empty DATA", REQUEST, many(b"\0\0\0\0\0\0\0\0\x01")),
        ("rapid reset", b"", resets),
    ];
    for (name, first, flood) in floods {
        let mut tcp = door.connect();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        tcp.write_all(&[PREFACE, first].concat()).unwrap();
        let mut talker = tcp.try_clone().unwrap();
        // Cut off while it talks, or right after.
        let talking = std::thread::spawn(move || talker.write_all(&flood));
        let mut sink = [0; 65536];
        let ended = loop {
            match tcp.read(&mut sink) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        };
        assert!(ended, "{name}: goes on");
        let _ = tcp.shutdown(Shutdown::Both);
        let _ = talking.join().unwrap();
        door.serves(name);
    }
    let grown = door.mesh.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
}

/// DENY `/admin`, and DENY whoever is not alice by a header.
#[test]
fn no_spelling_gets_past_a_policy() {
    let mut mesh = Mesh::waypoint();
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    mesh.application("web", &[&web]);
    let client = mesh.pod("client");
    mesh.control.workload(&workload(&client));
    mesh.knows("Pod/shop/client");
    let deny = |name: &str, test: Test| {
        let policy = HttpPolicy {
            name: name.into(),
            targets: vec![Target::Service(web.key())],
            action: Action::Deny,
            dry_run: false,
            rules: vec![Rule {
                clauses: vec![Clause {
                    any: vec![Match { all: vec![test] }],
                }],
            }],
            unenforceable: None,
        };
        mesh.control.put(HTTP_POLICY_TYPE, name, &policy);
        mesh.knows(name);
    };
    deny(
        "shop/no-admin",
        Test::Path {
            values: vec![PathMatch::Text(TextMatch::Prefix("/admin".into()))],
            not: Vec::new(),
        },
    );
    deny(
        "shop/only-alice",
        Test::Text {
            attribute: TextAttribute::Header("x-user".into()),
            values: Vec::new(),
            not: vec![TextMatch::parse("alice")],
        },
    );
    let status = |target: &str, user: &[u8]| {
        let mut request = get(target).body(String::new()).unwrap();
        let user = http::HeaderValue::from_bytes(user).unwrap();
        request.headers_mut().insert("x-user", user);
        ask(&mesh, &client, "10.96.0.1:80", request).unwrap().status
    };
    assert_eq!(status("/fine", b"alice"), 200);
    for spelling in [
        "/admin",
        "/admin/",
        "/%61dmin",
        "/%61%64%6d%69%6e",
        "/./admin",
        "/%2e/admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/..%2fadmin/../../admin",
        "/admin?x",
        "/admin;x=1",
        "/admin%2fx",
        "/x/..;/admin",
        "/fine/../../admin",
    ] {
        let got = status(spelling, b"alice");
        assert!(matches!(got, 403 | 400), "{spelling}: {got}");
    }
    // What is no text is not alice.
    for user in [&b"bob"[..], b"\xff\xfe", b"alice\xff", b"\xc1\xa1lice", b""] {
        assert_eq!(status("/fine", user), 403, "{user:?}");
    }
}
