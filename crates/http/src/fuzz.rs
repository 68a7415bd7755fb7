//! The rules of the protocol, as `fuzz/` calls them: any bytes may come in, and a broken promise panics.

use ::http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use ::http::{HeaderName, HeaderValue, Request};

use crate::rules::chunks::Chunks;
use crate::rules::frames::Frames;
use crate::rules::wire::{self, Framing, Scan};
use crate::rules::{Limits, Refusal, head as rules};

/// Small bounds, so that they are met.
const LIMITS: Limits = Limits {
    head: 600,
    headers: 12,
    target: 80,
};

/// The head of an HTTP/1 request: found at the same place however its bytes arrive; one that is accepted has one meaning.
pub fn head(data: &[u8]) {
    let whole = found([data.len()], data);
    assert_eq!(whole, found(1..=data.len(), data), "byte by byte");
    let Ok(Some(end)) = whole else {
        return;
    };
    let head = &data[..end];
    assert!(head.ends_with(b"\r\n\r\n") && end <= LIMITS.head);
    if let Ok(framing) = wire::judge(head, &LIMITS) {
        one_meaning(head, framing);
        if let Some(request) = parsed(head) {
            judge(request);
        }
    }
}

/// A chunked body: it ends at the same place however its bytes arrive.
pub fn chunks(data: &[u8]) {
    let whole = follow([data]);
    assert_eq!(whole, follow(data.chunks(1)), "byte by byte");
    if let Ok((length, true)) = whole {
        assert!(data[..length].ends_with(b"\r\n"), "it ends within a line");
    }
}

/// Frames that an HTTP/2 client wastes: the same verdict however their bytes arrive.
pub fn frames(data: &[u8]) {
    let count = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut frames = Frames::new(0);
        for piece in pieces {
            frames.follow(piece)?;
        }
        Ok::<_, crate::rules::frames::Flood>(frames.is_open())
    };
    let whole = count(&mut [data].into_iter());
    assert_eq!(whole, count(&mut data.chunks(1)), "byte by byte");
}

fn found(ends: impl IntoIterator<Item = usize>, data: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut scan = Scan::default();
    for end in ends {
        let found = scan.find_end(&data[..end], &LIMITS)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// How many bytes belong to the body, and whether it is over.
fn follow<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(usize, bool), Refusal> {
    let (mut chunks, mut total) = (Chunks::new(), 0);
    for piece in pieces {
        let n = chunks.follow(piece)?;
        assert!(n == piece.len() || chunks.is_done());
        total += n;
    }
    Ok((total, chunks.is_done()))
}

/// Read again in the plainest way: nothing that another reader could take for something else.
fn one_meaning(head: &[u8], framing: Framing) {
    let mut before = 0;
    for &byte in head {
        let line_end = (before == b'\r') == (byte == b'\n');
        assert!(line_end, "CR and LF stand alone");
        assert!(byte >= 0x20 || matches!(byte, b'\r' | b'\n' | b'\t'));
        before = byte;
    }
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = text.split("\r\n");
    let words = lines.next().unwrap_or_default().split(' ').count();
    assert_eq!(words, 3, "the request line");
    let of = |name: &str| {
        let fields = text.split("\r\n").skip(1);
        let named = fields.filter(|line| line.split(':').next().is_some_and(|n| n.trim() == name));
        named.count()
    };
    let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
    assert!(lengths + codings <= 1, "two lengths");
    assert_eq!(framing.body == wire::Length::Chunked, codings == 1);
    assert!(lines.all(|line| !line.starts_with([' ', '\t'])), "folded");
}

fn parsed(head: &[u8]) -> Option<Request<()>> {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let mut words = lines.next()?.split(|&byte| byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(()).ok()
}

fn judge(request: Request<()>) {
    let (mut head, ()) = request.into_parts();
    if rules::judge(&mut head, None, &LIMITS).is_err() {
        return;
    }
    assert!(head.uri.authority().is_none() && head.uri.scheme().is_none());
    let path = head.uri.path();
    assert!(path.starts_with('/') || path == "*", "{path:?}");
    assert_eq!(head.headers.get_all(HOST).iter().count(), 1);
    let host = head.headers.get(HOST).cloned();
    if rules::hop_by_hop(&mut head.headers).is_ok() {
        assert_eq!(head.headers.get(HOST), host.as_ref());
        for name in [CONNECTION, TRANSFER_ENCODING] {
            assert!(!head.headers.contains_key(name));
        }
    }
}
