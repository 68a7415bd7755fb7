//! The body of an HTTP/2 request.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as _, Incoming, SizeHint};
use tokio::sync::Notify;

use super::Frame;
use crate::limits;

/// What a client sends with its request. Where it is answered before all of that was read, a small rest is still read for a
/// moment: a stream that is reset without an error behind its answer is in order (RFC 9113 §8.1), and yet curl 7 takes it for a
/// failure when both come at once.
pub(super) struct Asked(Option<Incoming>, Rc<Rest>);

/// What is left of a request whose body nobody wants any more.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    being_read: Cell<bool>,
    read: Notify,
}

impl Rest {
    /// Until the client has sent it, or long enough: curl 7 may wait for ever for the end of an answer that comes while it sends.
    pub(crate) async fn is_read(&self) {
        if self.being_read.get() {
            // An answer that does not wait is in order, too.
            let _ = tokio::time::timeout(limits::HELD_ANSWER, self.read.notified()).await;
        }
    }
}

impl Asked {
    pub(super) fn new(incoming: Incoming, rest: &Rc<Rest>) -> Self {
        Self(Some(incoming), Rc::clone(rest))
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
            let told = Rc::clone(&self.1);
            told.being_read.set(true);
            tokio::task::spawn_local(async move {
                // Whatever became of it, nobody waits any longer.
                let _ = tokio::time::timeout(limits::LINGER, read_out(rest)).await;
                told.read.notify_one();
            });
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
