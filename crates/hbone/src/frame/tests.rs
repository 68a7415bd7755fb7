//! The parser gives the same events however its input is cut, and refuses what it must.

use proptest::prelude::*;

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = Head {
        len: payload.len(),
        kind,
        flags,
        stream,
    };
    [&head.encode()[..], payload].concat()
}

/// Events with DATA joined per frame sequence, so that cut-through does not show.
fn events(pieces: &[&[u8]]) -> Result<Vec<String>, Violation> {
    let mut parser = Parser::new(1 << 20, 1000);
    let mut seen: Vec<String> = Vec::new();
    let mut open: Option<(u32, Vec<u8>, usize)> = None;
    for piece in pieces {
        let mut input = *piece;
        while let Some(event) = parser.next(&mut input)? {
            if let Event::Data {
                stream,
                payload,
                flow,
                end_stream,
                empty,
            } = event
            {
                let (at, mut bytes, mut total) = open.take().unwrap_or((stream, Vec::new(), 0));
                if at != stream {
                    seen.push(format!("data {at} {bytes:?} flow {total}"));
                    (bytes, total) = (Vec::new(), 0);
                }
                bytes.extend_from_slice(payload);
                total += flow;
                open = Some((stream, bytes, total));
                if end_stream || empty {
                    let (at, bytes, total) = open.take().unwrap();
                    seen.push(format!(
                        "data {at} {bytes:?} flow {total} end {end_stream} empty {empty}"
                    ));
                }
            } else {
                if let Some((at, bytes, total)) = open.take() {
                    seen.push(format!("data {at} {bytes:?} flow {total}"));
                }
                seen.push(format!("{event:?}"));
            }
        }
        assert!(input.is_empty());
    }
    if let Some((at, bytes, total)) = open {
        seen.push(format!("data {at} {bytes:?} flow {total}"));
    }
    Ok(seen)
}

fn refused(bytes: &[u8]) -> u32 {
    events(&[bytes]).unwrap_err().code
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        (bytes(), any::<bool>(), 1u32..4).prop_map(|(p, end, s)| frame(
            kind::DATA,
            u8::from(end),
            s * 2 - 1,
            &p
        )),
        (bytes(), 0u8..20, any::<bool>(), 1u32..4).prop_map(|(p, pad, end, s)| {
            let payload = [&[pad][..], &p, &vec![0; usize::from(pad)]].concat();
            frame(
                kind::DATA,
                flag::PADDED | u8::from(end),
                s * 2 - 1,
                &payload,
            )
        }),
        (bytes(), bytes(), 0u8..20).prop_map(|(a, b, pad)| {
            let payload = [&[pad, 0, 0, 0, 0, 9][..], &a, &vec![0; usize::from(pad)]].concat();
            [
                frame(kind::HEADERS, flag::PADDED | flag::PRIORITY, 7, &payload),
                frame(kind::CONTINUATION, 0, 7, &b),
                frame(kind::CONTINUATION, flag::END_HEADERS, 7, &a),
            ]
            .concat()
        }),
        any::<[u8; 8]>().prop_map(|p| frame(kind::PING, 0, 0, &p)),
        any::<[u8; 6]>().prop_map(|p| frame(kind::SETTINGS, 0, 0, &p)),
        any::<u32>().prop_map(|n| frame(kind::WINDOW_UPDATE, 0, 3, &n.to_be_bytes())),
        any::<u32>().prop_map(|n| frame(kind::RST_STREAM, 0, 3, &n.to_be_bytes())),
        bytes().prop_map(|p| frame(0x77, 0xff, 0, &p)),
    ]
}

proptest! {
    #[test]
    fn cutting_changes_nothing(frames in proptest::collection::vec(any_frame(), 1..12), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let bytes = frames.concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.sort_unstable();
        let (mut pieces, mut begin) = (Vec::new(), 0);
        for end in at.into_iter().chain([bytes.len()]) {
            pieces.push(&bytes[begin..end]);
            begin = end;
        }
        let whole = events(&[&bytes]).unwrap();
        prop_assert_eq!(&events(&pieces).unwrap(), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&events(&single).unwrap(), &whole);
    }

    #[test]
    fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = events(&[&bytes]);
    }
}

#[test]
fn data_is_passed_on_before_its_frame_is_complete() {
    let bytes = frame(kind::DATA, flag::END_STREAM, 1, b"hello");
    let mut parser = Parser::new(1 << 20, 1000);
    let mut first = &bytes[..11];
    assert_eq!(
        parser.next(&mut first),
        Ok(Some(Event::Data {
            stream: 1,
            payload: b"he",
            flow: 2,
            end_stream: false,
            empty: false
        }))
    );
    assert_eq!(parser.next(&mut first), Ok(None));
    let mut rest = &bytes[11..];
    assert_eq!(
        parser.next(&mut rest),
        Ok(Some(Event::Data {
            stream: 1,
            payload: b"llo",
            flow: 3,
            end_stream: true,
            empty: false
        }))
    );
}

#[test]
fn padding_counts_for_flow_control() {
    let payload = [&[3][..], b"abc", &[0; 3]].concat();
    assert_eq!(
        events(&[&frame(
            kind::DATA,
            flag::PADDED | flag::END_STREAM,
            5,
            &payload
        )])
        .unwrap(),
        [format!("data 5 {:?} flow 7 end true empty false", b"abc")]
    );
    let only_padding = [&[2][..], &[0; 2]].concat();
    assert_eq!(
        events(&[&frame(kind::DATA, flag::PADDED, 5, &only_padding)]).unwrap(),
        ["data 5 [] flow 3 end false empty true"]
    );
}

#[test]
fn violations() {
    assert_eq!(
        refused(&frame(kind::DATA, 0, 0, b"x")),
        code::PROTOCOL_ERROR
    );
    assert_eq!(
        refused(&frame(kind::DATA, flag::PADDED, 1, &[])),
        code::FRAME_SIZE_ERROR
    );
    assert_eq!(
        refused(&frame(kind::DATA, flag::PADDED, 1, &[5, 0, 0])),
        code::PROTOCOL_ERROR
    );
    assert_eq!(
        refused(&frame(kind::HEADERS, flag::PADDED, 1, &[5, 0, 0])),
        code::PROTOCOL_ERROR
    );
    assert_eq!(
        refused(&frame(kind::HEADERS, flag::PRIORITY, 1, &[5, 0, 0])),
        code::FRAME_SIZE_ERROR
    );
    assert_eq!(
        refused(&frame(kind::CONTINUATION, 0, 1, &[])),
        code::PROTOCOL_ERROR
    );
    assert_eq!(
        refused(&frame(kind::SETTINGS, 0, 0, &[0; 5])),
        code::FRAME_SIZE_ERROR
    );
    assert_eq!(
        refused(&frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])),
        code::FRAME_SIZE_ERROR
    );
    assert_eq!(
        refused(&frame(kind::SETTINGS, 0, 1, &[0; 6])),
        code::PROTOCOL_ERROR
    );
    assert_eq!(
        refused(&frame(kind::PING, 0, 0, &[0; 7])),
        code::FRAME_SIZE_ERROR
    );
    assert_eq!(
        refused(&frame(kind::RST_STREAM, 0, 0, &[0; 4])),
        code::PROTOCOL_ERROR
    );
    assert_eq!(
        refused(&frame(kind::WINDOW_UPDATE, 0, 1, &[0; 5])),
        code::FRAME_SIZE_ERROR
    );
    assert_eq!(
        refused(&frame(kind::GOAWAY, 0, 0, &[0; 7])),
        code::FRAME_SIZE_ERROR
    );
    assert_eq!(
        refused(&frame(kind::PUSH_PROMISE, 0, 1, &[0; 7])),
        code::PROTOCOL_ERROR
    );
    let interrupted = [
        frame(kind::HEADERS, 0, 1, &[]),
        frame(kind::PING, 0, 0, &[0; 8]),
    ]
    .concat();
    assert_eq!(refused(&interrupted), code::PROTOCOL_ERROR);
    let wrong_stream = [
        frame(kind::HEADERS, 0, 1, &[]),
        frame(kind::CONTINUATION, 0, 3, &[]),
    ]
    .concat();
    assert_eq!(refused(&wrong_stream), code::PROTOCOL_ERROR);
    let large = Head {
        len: (1 << 20) + 1,
        kind: kind::DATA,
        flags: 0,
        stream: 1,
    };
    assert_eq!(refused(&large.encode()), code::FRAME_SIZE_ERROR);
}

#[test]
fn header_floods() {
    assert_eq!(
        refused(&frame(kind::HEADERS, 0, 1, &[0; 2000])),
        code::ENHANCE_YOUR_CALM
    );
    let mut bytes = frame(kind::HEADERS, 0, 1, &[]);
    for _ in 0..=limits::MAX_CONTINUATIONS {
        bytes.extend(frame(kind::CONTINUATION, 0, 1, &[]));
    }
    assert_eq!(refused(&bytes), code::ENHANCE_YOUR_CALM);
    let mut bytes = frame(kind::HEADERS, 0, 1, &[0; 900]);
    bytes.extend(frame(kind::CONTINUATION, 0, 1, &[0; 200]));
    assert_eq!(refused(&bytes), code::ENHANCE_YOUR_CALM);
}
