//! Limits of a destination: how many connections there may be, and how many requests may wait for one.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::io::BoxIo;

/// What connections to a destination, and requests that wait for one, count against.
pub trait Limits: fmt::Debug + Send + Sync {
    /// One more connection.
    ///
    /// # Errors
    /// When there may be none.
    fn connection(&self) -> Result<Held, Full>;

    /// One more request that waits for a connection.
    ///
    /// # Errors
    /// When there may be none.
    fn waiting(&self) -> Result<Held, Full>;
}

/// Counted until it is dropped.
pub type Held = Box<dyn Any>;

/// A limit is reached; which, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full(pub Arc<str>);

/// The connections of one key that count.
#[derive(Default)]
pub(super) struct Seats {
    taken: Cell<usize>,
    freed: Notify,
}

impl Seats {
    /// A seat for another connection. The first one may always have it, however many other connections the destination has:
    /// else its requests would wait for nobody (as Envoy does it).
    pub(super) fn take(self: &Rc<Self>, limits: &dyn Limits) -> Option<Seat> {
        let held = limits.connection().ok();
        if held.is_none() && self.taken.get() > 0 {
            return None;
        }
        self.taken.set(self.taken.get() + 1);
        Some(Seat {
            seats: Rc::clone(self),
            _held: held,
        })
    }

    /// A connection has room again, or is gone: one of those who wait looks.
    pub(super) fn free(&self) {
        self.freed.notify_one();
    }

    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }
}

/// A connection's, for as long as it lives.
pub(super) struct Seat {
    seats: Rc<Seats>,
    _held: Option<Held>,
}

impl Seat {
    /// The connection takes its seat.
    pub(super) fn with(self, io: BoxIo) -> BoxIo {
        Box::new(Seated { io, _seat: self })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.set(self.seats.taken.get() - 1);
        self.seats.free();
    }
}

struct Seated {
    io: BoxIo,
    _seat: Seat,
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
