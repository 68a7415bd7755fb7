//! A stream as bytes, on the tunnel's own worker.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Stream;

/// One open connection inside a tunnel, read and written on the tunnel's worker. Dropped before
/// [`tokio::io::AsyncWriteExt::shutdown`], it is reset: a failure must not look like an end.
pub struct Local {
    stream: Stream,
    /// The owner writes no more.
    ended: bool,
}

impl Local {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            ended: false,
        }
    }

    fn write(&self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let (core, state) = (&self.stream.core, &self.stream.state);
        if let Some(fate) = state.fate() {
            return Poll::Ready(Err(fate.to_io()));
        }
        if self.ended || state.sent_end.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        state.register_second(cx);
        core.send(state, slices).map(Ok)
    }
}

impl AsyncRead for Local {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let (core, state) = (&self.stream.core, &self.stream.state);
        if state.has_kept() {
            turn.made_progress();
            let n = state.take(buffer);
            core.release(state, n);
            return Poll::Ready(Ok(()));
        }
        if state.received_end.get() {
            turn.made_progress();
            return Poll::Ready(Ok(()));
        }
        if let Some(fate) = state.fate() {
            return Poll::Ready(Err(fate.to_io()));
        }
        state.register(cx);
        Poll::Pending
    }
}

impl AsyncWrite for Local {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let written = ready!(self.write(cx, slices));
        turn.made_progress();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is sealed, and the driver woken.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.stream.core.finish(&self.stream.state);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.ended {
            // Then the stream's own end does nothing more.
            self.stream.core.abandon(&self.stream.state);
        }
    }
}
