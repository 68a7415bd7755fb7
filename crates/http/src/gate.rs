//! Stands between a client's bytes and the HTTP library. HTTP/1 heads pass whole, once they have kept the rules
//! ([`crate::rules`]), and bodies pass to their end and no further; so the library sees only what has one meaning. HTTP/2 frames
//! are counted as they pass. The gate also watches the clock where the library cannot: heads, idle connections, clients that do
//! not take their answers.

mod control;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

pub(crate) use control::{Clocks, Control};

use crate::io::Io;
use crate::limits;
use crate::rules::chunks::Chunks;
use crate::rules::frames::Frames;
use crate::rules::wire::{self, Length, Scan};
use crate::rules::{Limits, Refusal};

/// The gate.
pub(crate) struct Gate<I> {
    io: I,
    control: Rc<Control>,
    limits: Limits,
    clocks: Clocks,
    phase: Phase,
    /// Read and not passed on yet: `held[at..]`, of which the first `pass` may pass.
    held: Vec<u8>,
    at: usize,
    pass: usize,
    /// Since when the client is waited for.
    since: Option<Instant>,
    clock: Option<Pin<Box<Sleep>>>,
    /// Since when the client does not read.
    blocked: Option<Instant>,
    blocked_clock: Option<Pin<Box<Sleep>>>,
}

enum Phase {
    /// A head comes next.
    Head(Scan),
    Body(u64),
    Chunked(Chunks),
    /// After a request that offered to upgrade.
    Undecided,
    /// After the answer that says yes: what comes is for somebody else.
    Given,
    /// Whatever comes.
    Raw,
    /// HTTP/2.
    Frames,
    /// Nothing more passes; the answers under way are finished first.
    Refused,
    /// The client ended what it sends, or never began.
    Ended,
}

impl<I: Io> Gate<I> {
    /// `held` was read already.
    pub(crate) fn new(
        io: I,
        held: Vec<u8>,
        control: &Rc<Control>,
        limits: Limits,
        clocks: Clocks,
    ) -> Self {
        Self {
            io,
            control: Rc::clone(control),
            limits,
            clocks,
            phase: Phase::Head(Scan::default()),
            held,
            at: 0,
            pass: 0,
            since: None,
            clock: None,
            blocked: None,
            blocked_clock: None,
        }
    }

    /// From now on it counts HTTP/2 frames.
    pub(crate) fn count_frames(&mut self, preface: usize) -> Result<(), io::Error> {
        let mut frames = Frames::new(preface);
        frames.follow(&self.held).map_err(flooded)?;
        *self.control.frames.borrow_mut() = Some(frames);
        self.phase = Phase::Frames;
        self.pass = self.held.len();
        Ok(())
    }

    /// From now on everything passes; `unread` first.
    pub(crate) fn open(&mut self, unread: &[u8]) {
        let mut held = unread.to_vec();
        held.extend_from_slice(&self.held[self.at..]);
        (self.held, self.at) = (held, 0);
        self.pass = self.held.len();
        self.phase = Phase::Raw;
    }

    fn held(&self) -> &[u8] {
        &self.held[self.at..]
    }

    /// Gives out what may pass; false if there is nothing.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.pass == 0 {
            return false;
        }
        let n = self.pass.min(buffer.remaining());
        buffer.put_slice(&self.held[self.at..self.at + n]);
        self.at += n;
        self.pass -= n;
        if self.at == self.held.len() {
            // No buffer is held while the client is idle.
            self.held = Vec::new();
            self.at = 0;
        }
        true
    }

    /// Reads on into `held`; how much.
    fn read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        let n = SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(limits::LOOK, 0);
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            self.held.extend_from_slice(buffer.filled());
            Poll::Ready(Ok::<_, io::Error>(buffer.filled().len()))
        });
        let n = ready!(n)?;
        if n == 0 {
            self.control.client_ended.set(true);
        }
        Poll::Ready(Ok(n))
    }

    /// Reads straight into the library's buffer, at most `limit` bytes; how many.
    fn read_through(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        let mut some = (&mut self.io).take(limit);
        ready!(Pin::new(&mut some).poll_read(cx, buffer))?;
        let n = buffer.filled().len() - before;
        if n == 0 {
            self.control.client_ended.set(true);
        }
        Poll::Ready(Ok(n))
    }

    /// One step; ready when the library's buffer got something, or nothing more comes.
    fn step(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Step>> {
        if self.give(buffer) {
            return Poll::Ready(Ok(Step::Done));
        }
        match &mut self.phase {
            Phase::Head(_) => self.head(cx),
            Phase::Body(0) => {
                self.phase = Phase::Head(Scan::default());
                Poll::Ready(Ok(Step::Again))
            }
            Phase::Body(left) => {
                let left = *left;
                let n = if self.held().is_empty() {
                    let n = ready!(self.read_through(cx, buffer, left))?;
                    self.phase = Phase::Body(left - n as u64);
                    return Poll::Ready(Ok(Step::Done));
                } else {
                    left.min(self.held().len() as u64)
                };
                self.pass = n as usize;
                self.phase = Phase::Body(left - n);
                Poll::Ready(Ok(Step::Again))
            }
            Phase::Chunked(_) => self.chunked(cx, buffer),
            Phase::Undecided => self.undecided(cx),
            Phase::Given => Poll::Pending,
            Phase::Raw => {
                ready!(self.read_through(cx, buffer, u64::MAX))?;
                Poll::Ready(Ok(Step::Done))
            }
            Phase::Frames => {
                let before = buffer.filled().len();
                ready!(self.read_through(cx, buffer, u64::MAX))?;
                if let Some(frames) = &mut *self.control.frames.borrow_mut() {
                    frames.follow(&buffer.filled()[before..]).map_err(flooded)?;
                }
                Poll::Ready(Ok(Step::Done))
            }
            Phase::Ended => Poll::Ready(Ok(Step::Done)),
            Phase::Refused => {
                if self.control.in_flight() > 0 {
                    self.control.register(cx);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Step::Done))
            }
        }
    }

    /// Waits for a whole head that keeps the rules.
    fn head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        let found = match &mut self.phase {
            Phase::Head(scan) if self.at < self.held.len() => {
                scan.find_end(&self.held[self.at..], &self.limits)
            }
            _ => Ok(None),
        };
        match found {
            Err(refusal) => return Poll::Ready(Ok(self.refuse(refusal))),
            Ok(Some(end)) => {
                self.since = None;
                return self.pass_head(end, cx).map(Ok);
            }
            Ok(None) => {}
        }
        let had = self.held().len();
        match self.read_more(cx)? {
            Poll::Ready(0) => {
                // What is held is no request.
                self.phase = Phase::Ended;
                Poll::Ready(Ok(Step::Again))
            }
            Poll::Ready(_) => {
                if had == 0 {
                    self.since = None;
                }
                Poll::Ready(Ok(Step::Again))
            }
            Poll::Pending => self.wait_for_head(cx, had > 0),
        }
    }

    fn wait_for_head(&mut self, cx: &mut Context<'_>, begun: bool) -> Poll<io::Result<Step>> {
        let since = *self.since.get_or_insert_with(Instant::now);
        // While an answer is under way, the client may take its time.
        let after = match (begun, self.control.in_flight()) {
            (true, _) => self.clocks.head,
            (false, 0) => self.clocks.idle,
            (false, _) => {
                self.since = None;
                return Poll::Pending;
            }
        };
        ready!(expired(&mut self.clock, since + after, cx));
        if begun {
            return Poll::Ready(Ok(self.refuse(Refusal::too_slow())));
        }
        self.phase = Phase::Ended;
        Poll::Ready(Ok(Step::Again))
    }

    fn pass_head(&mut self, end: usize, cx: &Context<'_>) -> Poll<Step> {
        let framing = match wire::judge(&self.held()[..end], &self.limits) {
            Ok(framing) => framing,
            Err(refusal) => return Poll::Ready(self.refuse(refusal)),
        };
        let offers = framing.upgrade && framing.body == Length::Known(0);
        if offers && self.control.in_flight() > 0 {
            // Its answer must not be mistaken for the answer to the one before.
            self.control.register(cx);
            return Poll::Pending;
        }
        self.pass = end;
        self.control.begin();
        self.control.offer(offers);
        self.phase = match framing.body {
            _ if offers => Phase::Undecided,
            Length::Known(length) => Phase::Body(length),
            Length::Chunked => Phase::Chunked(Chunks::new()),
        };
        Poll::Ready(Step::Again)
    }

    fn chunked(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        let Phase::Chunked(chunks) = &mut self.phase else {
            return Poll::Ready(Ok(Step::Again));
        };
        if chunks.is_done() {
            self.phase = Phase::Head(Scan::default());
            return Poll::Ready(Ok(Step::Again));
        }
        if self.at < self.held.len() {
            self.pass = chunks
                .follow(&self.held[self.at..])
                .map_err(|refusal| io::Error::new(io::ErrorKind::InvalidData, refusal))?;
            return Poll::Ready(Ok(Step::Again));
        }
        let data = chunks.data_left();
        if data >= limits::LOOK as u64 {
            let n = ready!(self.read_through(cx, buffer, data))?;
            if let Phase::Chunked(chunks) = &mut self.phase {
                chunks.skip(n as u64);
            }
            return Poll::Ready(Ok(Step::Done));
        }
        match ready!(self.read_more(cx))? {
            0 => Poll::Ready(Ok(Step::Done)),
            _ => Poll::Ready(Ok(Step::Again)),
        }
    }

    /// Nothing passes before the answer is known; but a client that leaves is noticed.
    fn undecided(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        match self.control.decision() {
            Some(true) => {
                self.phase = Phase::Given;
                return Poll::Ready(Ok(Step::Again));
            }
            Some(false) => {
                self.phase = Phase::Head(Scan::default());
                return Poll::Ready(Ok(Step::Again));
            }
            None => self.control.register(cx),
        }
        if self.held().len() >= limits::EARLY_BYTES {
            return Poll::Pending;
        }
        match ready!(self.read_more(cx))? {
            0 => Poll::Ready(Ok(Step::Done)),
            _ => Poll::Ready(Ok(Step::Again)),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Step {
        self.control.refusal.set(Some(refusal));
        self.phase = Phase::Refused;
        Step::Again
    }

    /// Whether the client has not taken anything for too long.
    fn watch_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let since = *self.blocked.get_or_insert_with(Instant::now);
        ready!(expired(
            &mut self.blocked_clock,
            since + self.clocks.stall,
            cx
        ));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    fn wrote<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        self.watch_write(cx).map(Err)
    }
}

enum Step {
    /// The library's buffer got something, or this is the end.
    Done,
    Again,
}

thread_local! {
    /// Where heads are read into before they are held.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A timer that is moved only when it fires, or has to fire earlier.
pub(crate) fn expired(
    clock: &mut Option<Pin<Box<Sleep>>>,
    due: Instant,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let clock = clock.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
    if clock.deadline() > due {
        clock.as_mut().reset(due);
    }
    while clock.as_mut().poll(cx).is_ready() {
        if clock.deadline() >= due {
            return Poll::Ready(());
        }
        clock.as_mut().reset(due);
    }
    Poll::Pending
}

fn flooded(flood: crate::rules::frames::Flood) -> io::Error {
    tracing::debug!(target: "http", %flood, "closing the connection");
    io::Error::new(io::ErrorKind::InvalidData, flood)
}

impl<I: Io> AsyncRead for Gate<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Step::Done = ready!(self.step(cx, buffer))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: Io> AsyncWrite for Gate<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
