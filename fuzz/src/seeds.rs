//! Inputs that the parsers understand: what fuzzing begins with.

use tulle_proto::workload::zds::{
    Ack, AddWorkload, WorkloadInfo, WorkloadRequest, WorkloadResponse, workload_request,
    workload_response,
};

mod http;
mod tokens;
mod wire;

pub(crate) use http::{chunks, head};
pub(crate) use tokens::{certificate, certificate_request, handshake, token};
pub(crate) use wire::{address, authorization, xds_answer, xds_requests};

/// HTTP/2 as an HBONE client speaks it: SETTINGS, HEADERS, CONTINUATION, padded DATA, WINDOW_UPDATE, PING, RST_STREAM, GOAWAY.
/// The first byte says where the bytes are cut.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        [&head[..], payload].concat()
    };
    let begin = [
        frame(4, 0, 0, &[0, 4, 0, 16, 0, 0, 0, 5, 0, 0, 64, 0]),
        frame(4, 1, 0, &[]),
        frame(1, 0, 1, &[0x02, 7, b'C', b'O', b'N']),
        frame(9, 4, 1, b"NECT"),
    ];
    let data = [
        frame(0, 8, 1, b"\x03hello\0\0\0"),
        frame(0, 0, 1, b"world"),
        frame(0, 0, 1, b""),
        frame(8, 0, 1, &[0, 0, 1, 0]),
        frame(0, 1, 1, b"end"),
    ];
    let rest = [
        frame(6, 0, 0, b"12345678"),
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(2, 0, 3, &[0, 0, 0, 0, 1]),
        frame(0x99, 0, 3, b"grease"),
        frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'b', b'y', b'e']),
    ];
    let whole = [begin.concat(), data.concat(), rest.concat()];
    let mut seeds: Vec<_> = whole
        .iter()
        .map(|part| [&[100], &part[..]].concat())
        .collect();
    seeds.push([&[100][..], &whole.concat()].concat());
    seeds
}

/// Blocks behind their lengths: RFC 7541's examples.
pub(crate) fn hpack() -> Vec<Vec<u8>> {
    let blocks: [&[u8]; 5] = [
        b"\x82\x86\x84\x41\x0fwww.example.com",
        b"\x82\x86\x84\xbe\x58\x08no-cache",
        b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
        b"\x3f\xe1\x1f\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        b"\x10\x08password\x06secret",
    ];
    let one = |block: &&[u8]| [&[block.len() as u8], *block].concat();
    let mut seeds: Vec<_> = blocks.iter().map(one).collect();
    seeds.push(seeds.concat());
    seeds
}

/// CONNECT as proxies say it, and an answer.
pub(crate) fn connect() -> Vec<Vec<u8>> {
    let field = |name: &str, value: &str| {
        let lengths = (name.len() as u8, value.len() as u8);
        [
            &[0, lengths.0],
            name.as_bytes(),
            &[lengths.1],
            value.as_bytes(),
        ]
        .concat()
    };
    let ours = [
        b"\x02\x07CONNECT\x01\x0c10.0.0.2:808".to_vec(),
        field("baggage", "k8s.namespace.name=default"),
        field("forwarded", "for=\"10.0.0.1:5\";host=web.default.svc"),
        field(
            "traceparent",
            "00-00000000000000000000000000000001-0000000000000001-00",
        ),
    ];
    let other = [
        field(":method", "CONNECT"),
        field(":authority", "[fd00::2]:80"),
        field("x-forwarded-network", "n"),
        field("te", "trailers"),
    ];
    vec![ours.concat(), other.concat(), b"\x88".to_vec()]
}

/// `:authority` and `forwarded`.
pub(crate) fn authority() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 5] = [
        b"10.0.0.2:8080",
        b"10.0.0.2:15008\nfor=\"10.0.0.9:1\";host=web.default.svc.cluster.local",
        b"web.default.svc.cluster.local:80\nhost=\"web.default.svc.cluster.local\"",
        b"[::ffff:10.0.0.2]:8080",
        b"web.default.svc.cluster.local:81\nFor=x; HOST=other",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

/// A query for an address, with and without EDNS.
pub(crate) fn query() -> Vec<Vec<u8>> {
    let name = b"\x07reviews\x07default\x03svc\x07cluster\x05local\0";
    let plain = [
        &[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        &name[..],
        &[0, 1, 0, 1],
    ]
    .concat();
    let mut with_edns = [&plain[..], &[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]].concat();
    with_edns[11] = 1;
    let mut six = plain.clone();
    let type_at = plain.len() - 3;
    six[type_at] = 28;
    vec![plain, with_edns, six]
}

/// A query behind its length, and its answer.
pub(crate) fn answer() -> Vec<Vec<u8>> {
    let queries = query();
    let query = &queries[0];
    let mut answer = query.clone();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x02");
    vec![[&[query.len() as u8], &query[..], &answer].concat()]
}

/// Resources of our own type URLs.
pub(crate) fn resource() -> Vec<Vec<u8>> {
    [
        r#"{"object":{"kind":"HTTPRoute","namespace":"n","name":"r"},
            "parents":[{"service":{"service":"n/s.n.svc.cluster.local","port":null}}],"created":7,"precedence":"inOrder",
            "rules":[{"matches":[{"path":{"prefix":"/a"}}],"action":{"redirect":{"status":301}}}]}"#,
        r#"{"object":{"kind":"RateLimit","namespace":"n","name":"l"},"targets":[],"limits":[]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Messages in both directions.
pub(crate) fn zds() -> Vec<Vec<u8>> {
    use prost::Message as _;
    let add = WorkloadRequest {
        payload: Some(workload_request::Payload::Add(AddWorkload {
            uid: "0af".to_owned(),
            workload_info: Some(WorkloadInfo {
                name: "web".to_owned(),
                namespace: "default".to_owned(),
                service_account: "web".to_owned(),
            }),
        })),
    };
    let ack = WorkloadResponse {
        payload: Some(workload_response::Payload::Ack(Ack {
            error: "no".to_owned(),
        })),
    };
    vec![
        add.encode_to_vec(),
        ack.encode_to_vec(),
        b"\x08\x01".to_vec(),
    ]
}
