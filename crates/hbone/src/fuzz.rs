//! Parsers of what peers send, as `fuzz/` calls them: any bytes may come in, and a broken promise panics.

use crate::connect::{Connect, Head};
use crate::frame::{Event, Parser, Violation};
use crate::hpack::{Decoder, HpackError};
use crate::limits;

/// Small bounds, so that they are met.
const MAX_FRAME: usize = 1 << 14;
const MAX_BLOCK: usize = 1000;

/// HTTP/2 frames: the same events however their bytes are cut. The first byte says where.
pub fn frames(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let whole = events([bytes]);
    let (first, second) = bytes.split_at(bytes.len() * usize::from(cut) / 256);
    assert_eq!(whole, events([first, second]), "cut in two");
    assert_eq!(whole, events(bytes.chunks(1)), "byte by byte");
}

/// Header blocks, each behind its length in a byte, through one table: no list is longer than the limit.
pub fn hpack(mut data: &[u8]) {
    let mut decoder = Decoder::new();
    while let Some((&length, rest)) = data.split_first() {
        let (block, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        let mut seen = 0;
        let decoded = decoder.decode(block, MAX_BLOCK, |name, value| {
            seen += name.len() + value.len() + 32;
        });
        assert!(seen <= MAX_BLOCK, "{seen} bytes of fields were shown");
        if decoded == Err(HpackError::Malformed) {
            return;
        }
    }
}

/// A CONNECT as a server sees it: one that is accepted can be said again, and means the same.
pub fn connect(block: &[u8]) {
    let Some(head) = head(block) else {
        return;
    };
    // An answer is no request.
    assert!(!(head.is_connect() && head.answer().is_some()));
    if !head.is_connect() {
        return;
    }
    let connect = Connect {
        authority: head.authority.unwrap_or_default(),
        baggage: head.baggage,
        forwarded: head.forwarded,
        traceparent: head.traceparent,
    };
    let again = match connect.encode() {
        Ok(block) => block,
        Err(why) => {
            assert!(block.len() > limits::MAX_REQUEST / 4, "{why}: {connect:?}");
            return;
        }
    };
    let read = self::head(&again).map(|head| {
        assert!(head.is_connect());
        (
            head.authority,
            head.baggage,
            head.forwarded,
            head.traceparent,
        )
    });
    let said = (
        Some(connect.authority),
        connect.baggage,
        connect.forwarded,
        connect.traceparent,
    );
    assert_eq!(read, Some(said));
}

fn head(block: &[u8]) -> Option<Head> {
    let mut head = Head::default();
    let limit = limits::SERVER_HEADER_LIST as usize;
    Decoder::new()
        .decode(block, limit, |name, value| head.field(name, value))
        .ok()?;
    Some(head)
}

/// What a parser made of its input. DATA is joined, so that cut-through does not show.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    events: Vec<String>,
    data: Vec<(u32, Vec<u8>, usize)>,
    /// Whether the last of `data` may go on.
    open: bool,
    violation: Option<Violation>,
}

fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut seen = Seen {
        events: Vec::new(),
        data: Vec::new(),
        open: false,
        violation: None,
    };
    let mut parser = Parser::new(MAX_FRAME, MAX_BLOCK);
    for mut piece in pieces {
        loop {
            match parser.next(&mut piece) {
                Ok(Some(event)) => seen.take(event),
                Ok(None) => break,
                Err(violation) => {
                    seen.violation = Some(violation);
                    return seen;
                }
            }
        }
        assert!(piece.is_empty(), "the parser left {} bytes", piece.len());
    }
    seen
}

impl Seen {
    fn take(&mut self, event: Event<'_>) {
        let Event::Data {
            stream,
            payload,
            flow,
            end_stream,
            empty,
        } = event
        else {
            if let Event::Headers { block, .. } = &event {
                assert!(block.len() <= MAX_BLOCK + limits::HEADERS_EXTRA);
            }
            self.open = false;
            self.events.push(format!("{event:?}"));
            return;
        };
        assert!(flow >= payload.len());
        match self.data.last_mut() {
            Some((at, bytes, total)) if self.open && *at == stream => {
                bytes.extend_from_slice(payload);
                *total += flow;
            }
            _ => {
                self.events.push(format!("data on {stream}"));
                self.data.push((stream, payload.to_vec(), flow));
            }
        }
        self.open = true;
        if end_stream || empty {
            self.open = false;
            self.events.push(format!("end {end_stream} empty {empty}"));
        }
    }
}
