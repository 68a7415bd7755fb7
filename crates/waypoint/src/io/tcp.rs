//! TCP whose small messages leave together. A worker turns to many connections before it waits again; what it writes to them
//! meanwhile is sent at the end of that turn, one message after the other. Whoever receives is then woken once for several
//! messages, instead of falling asleep again between any two of them, and waking somebody is much of what a message costs.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tulle_http::Unsent;

use crate::limits::{MESSAGES_TOGETHER, SMALL_MESSAGE};

/// A TCP connection.
pub(crate) struct Tcp(Rc<RefCell<Socket>>);

struct Socket {
    tcp: TcpStream,
    /// Some of it is in the post.
    posted: bool,
    /// What the kernel had no room for.
    left: Option<Left>,
    /// What became of a message after its writer was told that it was on its way.
    failed: Option<Failed>,
}

struct Failed {
    kind: io::ErrorKind,
    /// Bytes of which nobody has been told yet that they were not sent.
    unsent: usize,
}

/// Brought to the kernel by a task of its own: whoever wrote it may never ask again.
struct Left {
    bytes: Vec<u8>,
    /// Waits for it to be gone.
    writer: Option<Waker>,
    task: AbortHandle,
}

/// What is sent at the end of this turn.
#[derive(Default)]
struct Post {
    messages: Vec<Message>,
    bytes: Vec<u8>,
    /// Comes at the end of a turn; without one, nothing is posted.
    postman: Option<Waker>,
}

struct Message {
    to: Rc<RefCell<Socket>>,
    bytes: Range<usize>,
    /// Hears when it cannot be sent.
    writer: Waker,
}

thread_local! {
    static POST: RefCell<Post> = RefCell::default();
}

/// Sends what is posted on this thread, for ever.
pub(crate) async fn deliver() {
    poll_fn(|cx| {
        POST.with_borrow_mut(|post| post.postman = Some(cx.waker().clone()));
        send_all();
        Poll::Pending
    })
    .await
}

fn send_all() {
    let (mut messages, bytes) = POST.with_borrow_mut(|post| {
        (
            std::mem::take(&mut post.messages),
            std::mem::take(&mut post.bytes),
        )
    });
    for message in messages.drain(..) {
        send(&message.to, &bytes[message.bytes], message.writer);
    }
    // Both for the next turn.
    POST.with_borrow_mut(|post| {
        if post.messages.is_empty() {
            (post.messages, post.bytes) = (messages, bytes);
            post.bytes.clear();
        }
    });
}

/// One message; what there is no room for now follows later.
fn send(to: &Rc<RefCell<Socket>>, bytes: &[u8], writer: Waker) {
    let mut socket = to.borrow_mut();
    socket.posted = false;
    if let Some(failed) = &mut socket.failed {
        failed.unsent += bytes.len();
        return;
    }
    if let Some(left) = &mut socket.left {
        return left.bytes.extend_from_slice(bytes);
    }
    let sent = match socket.tcp.try_write(bytes) {
        Ok(n) => n,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => {
            socket.failed = Some(Failed {
                kind: error.kind(),
                unsent: bytes.len(),
            });
            return writer.wake();
        }
    };
    if sent < bytes.len() {
        let to = to.clone();
        let rest = async move { poll_fn(|cx| to.borrow_mut().poll_left(cx)).await };
        socket.left = Some(Left {
            bytes: bytes[sent..].to_vec(),
            writer: None,
            task: tokio::task::spawn_local(rest).abort_handle(),
        });
    }
}

impl From<TcpStream> for Tcp {
    fn from(tcp: TcpStream) -> Self {
        Self(Rc::new(RefCell::new(Socket {
            tcp,
            posted: false,
            left: None,
            failed: None,
        })))
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        if let Some(left) = &self.0.borrow().left {
            left.task.abort();
        }
    }
}

impl Socket {
    /// Sends what is left; then, or when that failed, whoever waits goes on.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(left) = &mut self.left {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, &left.bytes)) {
                Ok(n) => drop(left.bytes.drain(..n)),
                Err(error) => {
                    self.failed = Some(Failed {
                        kind: error.kind(),
                        unsent: left.bytes.len(),
                    });
                }
            }
            if self.failed.is_some() || left.bytes.is_empty() {
                let left = self.left.take();
                if let Some(writer) = left.and_then(|left| left.writer) {
                    writer.wake();
                }
            }
        }
        Poll::Ready(())
    }

    /// A failure stays one: the kernel would tell of it only once, and from then on of an end.
    fn check(&mut self) -> io::Result<()> {
        let Some(failed) = &mut self.failed else {
            return Ok(());
        };
        match std::mem::take(&mut failed.unsent) {
            0 => Err(failed.kind.into()),
            unsent => Err(io::Error::new(failed.kind, Unsent(unsent as u64))),
        }
    }

    /// Whether the socket can be written to; pending while something is left.
    fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        match &mut self.left {
            None => Poll::Ready(Ok(())),
            Some(left) => {
                left.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Tcp {
    /// Closes with a reset rather than an end.
    pub(super) fn reset(&self) {
        // A socket that is gone already needs no RST.
        let _ = tulle_linux::socket::reset_on_close(&self.0.borrow().tcp);
    }

    /// Has a message sent at the end of this turn; false if there is nobody to do that.
    fn post(&self, slices: &[IoSlice<'_>], length: usize, cx: &Context<'_>) -> bool {
        let posted = POST.with_borrow_mut(|post| {
            let postman = post.postman.as_ref()?;
            if post.messages.is_empty() {
                postman.wake_by_ref();
            }
            let from = post.bytes.len();
            slices
                .iter()
                .for_each(|slice| post.bytes.extend_from_slice(slice));
            self.0.borrow_mut().posted = true;
            post.messages.push(Message {
                to: self.0.clone(),
                bytes: from..from + length,
                writer: cx.waker().clone(),
            });
            Some(post.messages.len())
        });
        if posted >= Some(MESSAGES_TOGETHER) {
            send_all();
        }
        posted.is_some()
    }

    /// What was written before is with the kernel, as far as that has room.
    fn poll_sent(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.0.borrow().posted {
            send_all();
        }
        self.0.borrow_mut().poll_ready(cx)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut socket = self.0.borrow_mut();
        socket.check()?;
        Pin::new(&mut socket.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
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
        ready!(self.0.borrow_mut().poll_ready(cx))?;
        let length = slices.iter().map(|slice| slice.len()).sum();
        if length <= SMALL_MESSAGE && self.post(slices, length, cx) {
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut self.0.borrow_mut().tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_ready(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut self.0.borrow_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
