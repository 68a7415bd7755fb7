//! The body of an HTTP/2 request.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as _, Incoming, SizeHint};

use super::Frame;
use crate::limits;

/// What a client sends with its request. Where it is answered before all of that was read, a small rest is still read for a
/// moment: a stream that is reset without an error behind its answer is in order (RFC 9113 §8.1), and yet curl 7 takes it for a
/// failure when both come at once.
pub(super) struct Asked(Option<Incoming>);

impl Asked {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(Some(incoming))
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, hyper::Error>>> {
        match &mut self.0 {
            Some(incoming) => Pin::new(incoming).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    pub(super) fn is_end(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let (false, Some(rest)) = (self.is_end(), self.0.take()) {
            tokio::task::spawn_local(tokio::time::timeout(limits::LINGER, read_out(rest)));
        }
    }
}

/// Ends when the client has, or has said too much; the stream is reset then.
async fn read_out(mut rest: Incoming) {
    let mut left = limits::LEFTOVER_BYTES;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await {
        let more = frame.data_ref().map_or(0, Bytes::len);
        if more > left {
            return;
        }
        left -= more;
    }
}
