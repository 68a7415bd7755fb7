//! Which version a client speaks: HTTP/2 begins with a preface that is no HTTP/1 request.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use ::http::Version;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::{Settings, Spoken, Stage, Stop};
use crate::gate::expired;
use crate::io::Io;
use crate::limits;

pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The version, and what was read to know it. None: the client left, or said nothing.
pub(super) async fn first_bytes<S: Future<Output = ()>>(
    io: &mut impl Io,
    settings: &Settings,
    stop: &mut Stop<S>,
) -> io::Result<Option<(Version, Vec<u8>)>> {
    match settings.protocol {
        Spoken::Http1 => return Ok(Some((Version::HTTP_11, Vec::new()))),
        Spoken::Http2 => return Ok(Some((Version::HTTP_2, Vec::new()))),
        Spoken::Any => {}
    }
    let mut held = Vec::new();
    let mut clock = None;
    let mut since = Instant::now();
    poll_fn(|cx| {
        let mut scratch = [0; 4096];
        loop {
            if !held.is_empty()
                && let Some(version) = version(&held)
            {
                return Poll::Ready(Ok(Some(version)));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *io).poll_read(cx, &mut buffer)? {
                Poll::Ready(()) if buffer.filled().is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(()) => {
                    if held.is_empty() {
                        since = Instant::now();
                    }
                    held.extend_from_slice(buffer.filled());
                }
                Poll::Pending => break,
            }
        }
        if held.is_empty() && stop.poll(cx) == Stage::Closing {
            return Poll::Ready(Ok(None));
        }
        let after = if held.is_empty() {
            settings.idle
        } else {
            settings.head_deadline
        };
        expired(&mut clock, since + after, cx).map(|()| Ok(None))
    })
    .await
    .map(|version| version.map(|version| (version, held)))
}

fn version(held: &[u8]) -> Option<Version> {
    debug_assert!(held.len() <= limits::MAX_HEAD);
    let n = held.len().min(PREFACE.len());
    if held[..n] != PREFACE[..n] {
        return Some(Version::HTTP_11);
    }
    (n == PREFACE.len()).then_some(Version::HTTP_2)
}
