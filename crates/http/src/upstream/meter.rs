//! An upstream connection's bytes, counted: what was written tells whether a request can have been seen.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::{BoxIo, Unsent};

/// Counts what is written.
pub(super) struct Meter {
    io: BoxIo,
    written: Rc<Cell<u64>>,
    /// Comes before what is read.
    unread: Bytes,
}

impl Meter {
    pub(super) fn new(io: BoxIo) -> (Self, Rc<Cell<u64>>) {
        let written = Rc::new(Cell::new(0));
        let meter = Self {
            io,
            written: Rc::clone(&written),
            unread: Bytes::new(),
        };
        (meter, written)
    }

    pub(super) fn with_unread(mut self, unread: Bytes) -> Self {
        self.unread = unread;
        self
    }

    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = polled {
            self.written.set(self.written.get() + n as u64);
        }
        self.uncount(polled)
    }

    /// What could not be sent after all cannot have been seen.
    fn uncount<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled
            && let Some(Unsent(n)) = error.get_ref().and_then(|why| why.downcast_ref())
        {
            self.written.set(self.written.get().saturating_sub(*n));
        }
        polled
    }
}

impl AsyncRead for Meter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            let read = Pin::new(&mut self.io).poll_read(cx, buffer);
            return self.uncount(read);
        }
        let n = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..n]);
        self.unread.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Meter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.uncount(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
