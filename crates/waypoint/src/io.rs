//! Bytes from and to anywhere: one type, so that everything above is compiled once.

mod tcp;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tulle_hbone::{Local, Remote};
use tulle_identity::{backend, gateway};

use tcp::Tcp;

pub(crate) use tcp::deliver;

/// A connection, with what was read of it already.
pub(crate) struct Io {
    /// Comes first.
    prefix: Bytes,
    inner: Inner,
}

enum Inner {
    Tcp(Tcp),
    /// In a tunnel of another worker, or of this one.
    Remote(Remote),
    /// In a tunnel of this worker.
    Local(Local),
    /// TLS that ends here.
    Server(Box<gateway::TlsStream<Io>>),
    /// TLS that begins here.
    Client(Box<backend::TlsStream<Io>>),
}

impl From<TcpStream> for Io {
    fn from(inner: TcpStream) -> Self {
        Self::new(Inner::Tcp(inner.into()))
    }
}

impl From<Remote> for Io {
    fn from(inner: Remote) -> Self {
        Self::new(Inner::Remote(inner))
    }
}

impl From<Local> for Io {
    fn from(inner: Local) -> Self {
        Self::new(Inner::Local(inner))
    }
}

impl From<gateway::TlsStream<Self>> for Io {
    fn from(inner: gateway::TlsStream<Self>) -> Self {
        Self::new(Inner::Server(Box::new(inner)))
    }
}

impl From<backend::TlsStream<Self>> for Io {
    fn from(inner: backend::TlsStream<Self>) -> Self {
        Self::new(Inner::Client(Box::new(inner)))
    }
}

impl Io {
    fn new(inner: Inner) -> Self {
        Self {
            prefix: Bytes::new(),
            inner,
        }
    }

    /// Puts back what was read.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.prefix.is_empty(), "read before it was put back");
        self.prefix = bytes;
    }

    /// Closes with a reset rather than an end, where that can be told apart.
    pub(crate) fn reset(self) {
        if let Inner::Tcp(tcp) = &self.inner {
            tcp.reset();
        }
    }
}

/// Calls the same method of whatever it is.
macro_rules! inner {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.get_mut().inner {
            Inner::Tcp($io) => $call,
            Inner::Remote($io) => $call,
            Inner::Local($io) => $call,
            Inner::Server($io) => $call,
            Inner::Client($io) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..length]);
            self.prefix.advance(length);
            return Poll::Ready(Ok(()));
        }
        inner!(self, io => Pin::new(io).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        inner!(self, io => Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inner!(self, io => Pin::new(io).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Tcp(io) => io.is_write_vectored(),
            Inner::Remote(io) => io.is_write_vectored(),
            Inner::Local(io) => io.is_write_vectored(),
            Inner::Server(io) => io.is_write_vectored(),
            Inner::Client(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
