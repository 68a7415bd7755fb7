//! A stream whose owner is on another worker.
//!
//! The tunnel's worker goes on doing the tunnel's work: cipher, frames, socket. Between the two workers there are two buffers
//! ([`Handover`]) that change hands whole, under a lock that is held for a copy at most, and one list of streams per tunnel
//! ([`Mailbox`]) that have something for the tunnel's driver. What arrives goes into the buffer in the driver's own wake-up; a
//! side that is not asleep, or was woken already, is not woken again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;
use crate::stream::{Fate, StreamState};

/// One open connection inside a tunnel, for any worker. What it has read is confirmed to the peer, so no more than a window
/// waits here; what it writes waits for the peer's window. Dropped before [`tokio::io::AsyncWriteExt::shutdown`], it is reset:
/// a failure must not look like an end.
pub struct Remote {
    handover: Arc<Handover>,
    /// What came over: `front[at..]`.
    front: Vec<u8>,
    at: usize,
    /// Bytes that were read and not yet reported.
    consumed: usize,
    /// From here on they are reported.
    report_at: usize,
}

/// What the two workers share of a stream.
pub(crate) struct Handover {
    pub(crate) id: u32,
    mailbox: Arc<Mailbox>,
    both: Mutex<Both>,
}

#[derive(Default)]
struct Both {
    /// Arrived, for the owner. At most a window.
    arrived: Vec<u8>,
    /// The peer sends no more.
    arrived_end: bool,
    /// Written by the owner.
    written: Vec<u8>,
    /// The owner writes no more.
    written_end: bool,
    /// The peer does not want more.
    refused: bool,
    /// Bytes the owner has read since it was last asked.
    consumed: usize,
    /// The owner is gone.
    left: bool,
    /// Why it is over before its time.
    fate: Option<Fate>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// In the mailbox.
    listed: bool,
}

/// The streams of a tunnel that have something for its driver: each at most once.
#[derive(Default)]
pub(crate) struct Mailbox(Mutex<Mail>);

#[derive(Default)]
struct Mail {
    streams: Vec<Arc<Handover>>,
    driver: Option<Waker>,
    /// The tunnel is over.
    closed: bool,
}

/// What an owner has for the driver.
pub(crate) struct Letter {
    /// Bytes it has read.
    pub(crate) consumed: usize,
    /// It writes no more, and everything was fetched.
    pub(crate) end: bool,
    /// It left.
    pub(crate) left: bool,
    /// It left without an end.
    pub(crate) broken: bool,
}

/// Bytes of an owner on another worker, on their way into the tunnel.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sent: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the list; the driver is woken when there is a new one.
    pub(crate) fn empty(&self, cx: &Context<'_>) -> Vec<Arc<Handover>> {
        let mut mail = self.lock();
        let known = mail.driver.as_ref();
        if !known.is_some_and(|driver| driver.will_wake(cx.waker())) {
            mail.driver = Some(cx.waker().clone());
        }
        std::mem::take(&mut mail.streams)
    }

    /// Nobody looks any more.
    pub(crate) fn close(&self) {
        let mut mail = self.lock();
        mail.closed = true;
        let dropped = std::mem::take(&mut mail.streams);
        mail.driver = None;
        drop(mail);
        drop(dropped);
    }

    fn post(&self, handover: &Arc<Handover>) {
        let driver = {
            let mut mail = self.lock();
            if mail.closed {
                return;
            }
            mail.streams.push(Arc::clone(handover));
            // Who is on the list already has woken the driver.
            if mail.streams.len() > 1 {
                return;
            }
            mail.driver.clone()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

/// The driver wants to look at this stream again: window or room came back.
impl Wake for Handover {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let list = !std::mem::replace(&mut self.lock().listed, true);
        if list {
            self.mailbox.post(self);
        }
    }
}

impl Handover {
    pub(crate) fn new(id: u32, mailbox: Arc<Mailbox>) -> Arc<Self> {
        Arc::new(Self {
            id,
            mailbox,
            both: Mutex::default(),
        })
    }

    /// For a stream whose owner has left already: what arrives goes nowhere.
    pub(crate) fn nobody(id: u32) -> Arc<Self> {
        let nobody = Self::new(id, Arc::default());
        nobody.mailbox.close();
        nobody.lock().left = true;
        nobody
    }

    fn lock(&self) -> MutexGuard<'_, Both> {
        self.both.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Driver: bytes for the owner.
    pub(crate) fn arrive(&self, slices: &[IoSlice<'_>]) {
        let reader = {
            let mut both = self.lock();
            if both.left {
                return;
            }
            for slice in slices {
                both.arrived.extend_from_slice(slice);
            }
            both.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Tunnel's worker: what became of the stream.
    pub(crate) fn learn(&self, state: &StreamState) {
        let (reader, writer) = {
            let mut both = self.lock();
            let end = state.received_end.get() && !both.arrived_end;
            let refused = state.sent_end.get() && !both.written_end && !both.refused;
            let fate = both.fate.is_none().then(|| state.fate()).flatten();
            both.arrived_end |= end;
            both.refused |= refused;
            let over = fate.is_some();
            if over {
                both.fate = fate;
            }
            let reader = (end || over).then(|| both.reader.take()).flatten();
            let writer = (refused || over).then(|| both.writer.take()).flatten();
            (reader, writer)
        };
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Driver: fetches what the owner wrote, if `outgoing` has been sent, and the rest of the news.
    pub(crate) fn fetch(&self, outgoing: &mut Outgoing) -> Letter {
        let (letter, writer) = {
            let mut both = self.lock();
            both.listed = false;
            let mut writer = None;
            if outgoing.is_empty() {
                outgoing.sent = 0;
                outgoing.bytes.clear();
                if both.written.is_empty() {
                    // An idle stream holds no buffer.
                    outgoing.bytes = Vec::new();
                } else {
                    std::mem::swap(&mut outgoing.bytes, &mut both.written);
                    writer = both.writer.take();
                }
            }
            let letter = Letter {
                consumed: std::mem::take(&mut both.consumed),
                end: both.written_end && both.written.is_empty(),
                left: both.left,
                broken: both.left && !both.written_end,
            };
            (letter, writer)
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        letter
    }
}

impl Remote {
    pub(crate) fn new(handover: Arc<Handover>, window: u32) -> Self {
        Self {
            handover,
            front: Vec::new(),
            at: 0,
            consumed: 0,
            report_at: (window / 2).max(1) as usize,
        }
    }

    /// Gets what arrived, if there is something.
    fn refill(&mut self, cx: &Context<'_>) -> Poll<io::Result<bool>> {
        self.front.clear();
        self.at = 0;
        if self.front.capacity() > limits::LARGEST_HANDOVER {
            self.front = Vec::new();
        }
        let mut both = self.handover.lock();
        if !both.arrived.is_empty() {
            std::mem::swap(&mut self.front, &mut both.arrived);
            return Poll::Ready(Ok(true));
        }
        // What came before an orderly end was delivered.
        if both.arrived_end {
            return Poll::Ready(Ok(false));
        }
        if let Some(fate) = &both.fate {
            return Poll::Ready(Err(fate.to_io()));
        }
        both.reader = Some(cx.waker().clone());
        both.arrived = Vec::new();
        drop(both);
        self.front = Vec::new();
        Poll::Pending
    }

    /// Tells the driver, from time to time, how much was read.
    fn report(&mut self, n: usize) {
        self.consumed += n;
        if self.consumed >= self.report_at {
            self.handover.lock().consumed += std::mem::take(&mut self.consumed);
            self.handover.wake_by_ref();
        }
    }

    fn write(&self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let n = {
            let mut both = self.handover.lock();
            if let Some(fate) = &both.fate {
                return Poll::Ready(Err(fate.to_io()));
            }
            if both.written_end || both.refused {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut room = limits::REMOTE_UNSENT.saturating_sub(both.written.len());
            if room == 0 {
                both.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let before = both.written.len();
            for slice in slices {
                let n = slice.len().min(room);
                both.written.extend_from_slice(&slice[..n]);
                room -= n;
            }
            both.written.len() - before
        };
        if n > 0 {
            self.handover.wake_by_ref();
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for Remote {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        if self.at == self.front.len() && !ready!(self.refill(cx))? {
            turn.made_progress();
            return Poll::Ready(Ok(()));
        }
        turn.made_progress();
        let n = buffer.remaining().min(self.front.len() - self.at);
        buffer.put_slice(&self.front[self.at..self.at + n]);
        self.at += n;
        self.report(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Remote {
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

    /// The driver has been woken for all that was written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Orderly end of what is written, after the last byte of it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tell = !std::mem::replace(&mut self.handover.lock().written_end, true);
        if tell {
            self.handover.wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        {
            let mut both = self.handover.lock();
            both.left = true;
            // Nobody will read it: the credit goes back, so that an owner who ended in order can still be answered.
            let unread = both.arrived.len() + self.front.len() - self.at + self.consumed;
            both.consumed += unread;
            both.arrived = Vec::new();
            (both.reader, both.writer) = (None, None);
        }
        self.handover.wake_by_ref();
    }
}
