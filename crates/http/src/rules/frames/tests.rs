//! Floods.

use super::*;

fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
    let len = (payload as u32).to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
    bytes.resize(HEAD + payload, 0);
    bytes
}

fn until_refused(mut frames: Frames, frame: &[u8]) -> Option<usize> {
    (0..5000).find(|_| frames.follow(frame).is_err())
}

#[test]
fn waste_is_bounded_and_work_is_not() {
    for waste in [
        frame(6, 0, 8),
        frame(4, 0, 0),
        frame(4, 0, 6),
        frame(3, 0, 4),
        frame(2, 0, 5),
        frame(0xb, 0, 100),
        frame(DATA, 0, 0),
    ] {
        assert_eq!(until_refused(Frames::new(0), &waste), Some(1000));
    }
    for work in [
        frame(DATA, 0, 100),
        frame(DATA, END_STREAM, 0),
        frame(HEADERS, 4, 20),
        frame(WINDOW_UPDATE, 0, 4),
    ] {
        assert_eq!(until_refused(Frames::new(0), &work), None);
    }
    assert_eq!(
        until_refused(Frames::new(0), &frame(CONTINUATION, 0, 10)),
        Some(32)
    );
}

#[test]
fn frames_are_followed_through_any_cut() {
    let mut bytes = vec![b'P'; 24];
    for n in 0..600 {
        bytes.extend(frame(DATA, 0, n));
        bytes.extend(frame(6, 0, 8));
        bytes.extend(frame(HEADERS, 0, 10));
        bytes.extend(frame(CONTINUATION, 4, 10));
    }
    for cut in [1, 7, 9, 10, 1000] {
        let mut frames = Frames::new(24);
        for piece in bytes.chunks(cut) {
            frames.follow(piece).unwrap();
        }
        assert_eq!((frames.left, frames.payload, frames.have), (399, 0, 0));
        frames.earn();
        assert_eq!(frames.left, 403);
    }
}
