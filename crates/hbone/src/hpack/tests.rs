//! Held against RFC 7541, appendix C, and against arbitrary input.

use proptest::prelude::*;

use super::{Decoder, HpackError, huffman, literal, status};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn fields(decoder: &mut Decoder, block: &str) -> Vec<String> {
    let mut seen = Vec::new();
    decoder
        .decode(&hex(block), 4096, |name, value| {
            seen.push(format!(
                "{}: {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            ));
        })
        .unwrap();
    seen
}

const FIRST: [&str; 4] = [
    ":method: GET",
    ":scheme: http",
    ":path: /",
    ":authority: www.example.com",
];

#[test]
fn c2_single_fields() {
    let mut decoder = Decoder::new();
    let block = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    assert_eq!(fields(&mut decoder, block), ["custom-key: custom-header"]);
    assert_eq!(decoder.table.size(), 55);
    let mut decoder = Decoder::new();
    assert_eq!(
        fields(&mut decoder, "040c 2f73 616d 706c 652f 7061 7468"),
        [":path: /sample/path"]
    );
    assert_eq!(
        fields(&mut decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74"),
        ["password: secret"]
    );
    assert_eq!(fields(&mut decoder, "82"), [":method: GET"]);
    assert_eq!(decoder.table.size(), 0);
}

fn requests(blocks: [&str; 3]) {
    let mut decoder = Decoder::new();
    assert_eq!(fields(&mut decoder, blocks[0]), FIRST);
    assert_eq!(decoder.table.size(), 57);
    let mut second = FIRST.to_vec();
    second.push("cache-control: no-cache");
    assert_eq!(fields(&mut decoder, blocks[1]), second);
    assert_eq!(decoder.table.size(), 110);
    assert_eq!(
        fields(&mut decoder, blocks[2]),
        [
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value"
        ]
    );
    assert_eq!(decoder.table.size(), 164);
}

#[test]
fn c3_requests() {
    requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn c4_requests_with_huffman() {
    requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

#[test]
fn c6_responses_with_eviction() {
    let mut decoder = Decoder::new();
    assert!(decoder.table.resize(256));
    let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    assert_eq!(
        fields(&mut decoder, first),
        [
            ":status: 302",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com"
        ]
    );
    assert_eq!(decoder.table.size(), 222);
    assert_eq!(
        fields(&mut decoder, "4883 640e ffc1 c0bf")[0],
        ":status: 307"
    );
    assert_eq!(decoder.table.size(), 222);
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
    let third = fields(&mut decoder, third);
    assert_eq!(third[4], "content-encoding: gzip");
    assert_eq!(
        third[5],
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
    );
    assert_eq!(decoder.table.size(), 215);
}

#[test]
fn refuses_what_the_standard_forbids() {
    let refused = |block: &[u8]| Decoder::new().decode(block, 4096, |_, _| {}).unwrap_err();
    assert_eq!(refused(&[0x80]), HpackError::Malformed, "index 0");
    assert_eq!(
        refused(&[0x80 | 62]),
        HpackError::Malformed,
        "empty dynamic table"
    );
    assert_eq!(
        refused(&[0x3f, 0xe2, 0x1f]),
        HpackError::Malformed,
        "table size 4097"
    );
    assert_eq!(
        refused(&[0x82, 0x20]),
        HpackError::Malformed,
        "size update after a field"
    );
    assert_eq!(
        refused(&[0x20, 0x20, 0x20, 0x82]),
        HpackError::Malformed,
        "three size updates"
    );
    assert_eq!(
        refused(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        HpackError::Malformed,
        "huge integer"
    );
    assert_eq!(
        refused(&[0x00, 0x05, b'a']),
        HpackError::Malformed,
        "short string"
    );
    assert_eq!(
        refused(&[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]),
        HpackError::Malformed,
        "EOS"
    );
    assert_eq!(
        refused(&[0x00, 0x82, 0x1f, 0xff, 0x00]),
        HpackError::Malformed,
        "long padding"
    );
    assert_eq!(
        refused(&[0x00, 0x81, 0x18, 0x00]),
        HpackError::Malformed,
        "padding of zeros"
    );
}

#[test]
fn a_bomb_is_cut_at_the_limit() {
    // One long entry in the table, then a reference to it per octet.
    let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    block.extend(std::iter::repeat_n(b'x', 4000));
    block.extend(std::iter::repeat_n(0x80 | 62, 10_000));
    let mut visited = 0;
    let result = Decoder::new().decode(&block, 64 << 10, |_, _| visited += 1);
    assert_eq!(result, Err(HpackError::TooLarge));
    assert!(visited <= 16);
    let huffman = [&[0x00, 0x01, b'a', 0xff, 0x80, 0x08][..], &[0; 1151]].concat();
    assert_eq!(
        Decoder::new().decode(&huffman, 100, |_, _| {}),
        Err(HpackError::TooLarge)
    );
}

#[test]
fn statuses() {
    for code in [200u16, 400, 401, 404, 500, 503] {
        let mut block = Vec::new();
        status(&mut block, code);
        let mut seen = String::new();
        Decoder::new()
            .decode(&block, 100, |_, value| {
                seen = String::from_utf8(value.to_vec()).unwrap()
            })
            .unwrap();
        assert_eq!(seen, code.to_string());
    }
}

proptest! {
    #[test]
    fn huffman_round_trips(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(&*huffman::decode(&huffman::encode(&text), 300).unwrap(), &text[..]);
    }

    #[test]
    fn our_encoding_is_understood(list in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,300}"), 0..20)) {
        let mut block = Vec::new();
        for (name, value) in &list {
            literal(&mut block, name, value);
        }
        let mut seen = Vec::new();
        Decoder::new().decode(&block, 1 << 20, |name, value| {
            seen.push((String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap()));
        }).unwrap();
        prop_assert_eq!(seen, list);
    }

    #[test]
    fn arbitrary_blocks_neither_crash_nor_exceed_the_limit(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let mut total = 0;
            if decoder.decode(&block, 1000, |name, value| total += name.len() + value.len() + 32).is_err() {
                break;
            }
            prop_assert!(total <= 1000);
            prop_assert!(decoder.table.size() <= 4096);
        }
    }
}
