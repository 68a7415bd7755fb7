//! The state of a tunnel, shared by its driver (which owns the socket) and the tasks that own its streams.
//!
//! Everything happens on one worker: no locks, only short borrows, none across an await. Whoever has something to send seals it
//! into the writer at once and wakes the driver, which flushes everything that came together by one system call.

mod driver;
mod outgoing;
mod receive;
mod state;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tulle_identity::channel::Established;
use tulle_model::Identity;

use self::state::{Inner, broken_cipher};
use crate::frame::{Violation, code, flag, kind};
use crate::server::Incoming;
use crate::socket::would_block;
use crate::stream::{App, Stream, StreamState};
use crate::transport::Transport;
use crate::writer::DataError;
use crate::{Error, OpenError, Settings};

/// Which end of the tunnel we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Where a tunnel is in its life.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Takes new streams.
    Open,
    /// GOAWAY was announced by a server, and a PING shows when the peer knows.
    Announced,
    /// No new streams; closes when the last one ends.
    Leaving,
    /// Over.
    Closed(Error),
}

/// A tunnel.
pub(crate) struct Core {
    pub(crate) peer: Identity,
    pub(crate) settings: Settings,
    inner: RefCell<Inner>,
}

impl Core {
    /// A tunnel on a socket whose handshake is done. Its driver runs as a task of this worker until the tunnel is over.
    pub(crate) fn start(
        tcp: TcpStream,
        established: Established,
        role: Role,
        settings: &Settings,
    ) -> Result<Rc<Self>, Error> {
        let Established {
            channel,
            unsent,
            early,
            unread,
        } = established;
        let peer = channel.peer().clone();
        let transport = Transport::Tls(Box::new(channel));
        Self::begin(
            tcp,
            transport,
            peer,
            Rest {
                unsent,
                early,
                unread,
            },
            role,
            settings,
        )
    }

    pub(crate) fn begin(
        tcp: TcpStream,
        transport: Transport,
        peer: Identity,
        rest: Rest,
        role: Role,
        settings: &Settings,
    ) -> Result<Rc<Self>, Error> {
        let inner = Inner::greeting(transport, rest.unsent, rest.unread, role, settings)?;
        let core = Rc::new(Self {
            peer,
            settings: settings.clone(),
            inner: RefCell::new(inner),
        });
        tokio::task::spawn_local(driver::drive(Rc::clone(&core), tcp, rest.early));
        Ok(core)
    }

    /// Opens a stream with this header block.
    pub(crate) fn request(self: &Rc<Self>, block: &[u8]) -> Result<Stream, OpenError> {
        let mut inner = self.inner.borrow_mut();
        if let Phase::Closed(error) = &inner.phase {
            return Err(OpenError::Tunnel(error.clone()));
        }
        if !inner.is_usable() || inner.streams.len() >= inner.peer_max_streams as usize {
            return Err(OpenError::Tunnel(Error::Closed));
        }
        let id = inner.next_stream;
        inner.next_stream += 2;
        let sent = inner
            .writer
            .frame(kind::HEADERS, flag::END_HEADERS, id, block);
        sent.map_err(|error| OpenError::Tunnel(broken_cipher(error)))?;
        let state = Rc::new(StreamState::new(
            id,
            self.settings.stream_window,
            inner.peer_window,
        ));
        inner.streams.push(Rc::clone(&state));
        inner.wake_driver();
        drop(inner);
        Ok(Stream {
            core: Rc::clone(self),
            state,
        })
    }

    /// Answers a request with headers; `end` if nothing follows.
    pub(crate) fn answer(&self, state: &StreamState, block: &[u8], end: bool) {
        let mut inner = self.inner.borrow_mut();
        if state.is_over() || inner.is_closed() {
            return;
        }
        state.answered.set(true);
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        let sent = inner.writer.frame(kind::HEADERS, flags, state.id, block);
        if end {
            state.sent_end.set(true);
            // The request's body, if the client wants to send one, is of no use (RFC 9113 §8.1).
            inner.reset(state, code::NO_ERROR);
        } else {
            inner.budget.earn();
        }
        inner.survive(sent);
        inner.wake_driver();
    }

    /// Ends a stream before its time, if it is not over already.
    pub(crate) fn reset(&self, state: &StreamState, code: u32) {
        let mut inner = self.inner.borrow_mut();
        if !(state.sent_end.get() && state.received_end.get()) {
            inner.reset(state, code);
        }
        inner.forget(state.id);
        inner.wake_driver();
    }

    /// Reads the application into the tunnel: at most `records` DATA frames. None: not now, the stream's owner will be woken.
    pub(crate) fn take_from(
        &self,
        state: &Rc<StreamState>,
        app: &App,
        records: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, std::io::Error>> {
        let mut inner = self.inner.borrow_mut();
        let limit = state.send_window().min(inner.send.available());
        if !inner.writer.has_room() || inner.send.available() == 0 {
            inner.wait(state);
            return Poll::Pending;
        }
        if limit == 0 {
            return Poll::Pending;
        }
        let socket = app.socket.borrow();
        loop {
            match socket.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            match inner.writer.data(state.id, &socket, limit, records) {
                Ok(n) => {
                    if n == 0 {
                        let sent = inner.writer.end_stream(state.id);
                        inner.survive(sent);
                        state.sent_end.set(true);
                        inner.forget_if_done(state);
                    } else {
                        inner.send.consume(n);
                        state.consume(n);
                    }
                    inner.wake_driver();
                    return Poll::Ready(Ok(n));
                }
                Err(DataError::App(error)) if would_block(&error) => {}
                Err(DataError::App(error)) => return Poll::Ready(Err(error)),
                Err(DataError::Record(error)) => {
                    inner.survive(Err(error));
                    return Poll::Pending;
                }
            }
        }
    }

    /// Lets the application's first bytes follow their CONNECT before the answer is there: that saves a round trip. They stay in
    /// the socket until it is: if the peer refuses, they are somebody else's.
    pub(crate) fn send_early(&self, state: &StreamState, app: &TcpStream, cx: &mut Context<'_>) {
        let mut inner = self.inner.borrow_mut();
        let limit = state.send_window().min(inner.send.available());
        if inner.is_closed() || !inner.writer.has_room() || limit == 0 {
            return;
        }
        match inner.writer.peek(state.id, app, limit, cx) {
            Ok(0) => {}
            Ok(n) => {
                inner.send.consume(n);
                state.consume(n);
                state.early.set(n);
                inner.wake_driver();
            }
            Err(error) => inner.survive(Err(error)),
        }
    }

    /// Tells the peer that it may send more on a stream.
    pub(crate) fn release(&self, state: &StreamState, bytes: usize) {
        if let Some(increment) = state.release(bytes) {
            let mut inner = self.inner.borrow_mut();
            if !inner.is_closed() && !state.is_over() {
                inner.window_update(state.id, increment);
                inner.wake_driver();
            }
        }
    }

    /// Whether new streams may be opened now.
    pub(crate) fn is_usable(&self) -> bool {
        self.inner.borrow().is_usable()
    }

    /// Whether the tunnel is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.borrow().is_closed()
    }

    /// Open streams.
    pub(crate) fn streams(&self) -> usize {
        self.inner.borrow().streams.len()
    }

    /// How many streams the peer allows.
    pub(crate) fn peer_max_streams(&self) -> usize {
        self.inner.borrow().peer_max_streams as usize
    }

    /// No new streams; closes when the last one ends. A server tells the peer first, and takes what is already on its way.
    pub(crate) fn retire(&self) {
        let mut inner = self.inner.borrow_mut();
        if !matches!(inner.phase, Phase::Open) {
            return;
        }
        if inner.role == Role::Server {
            inner.phase = Phase::Announced;
            inner.go_away(i32::MAX as u32, code::NO_ERROR);
            let sent = inner.writer.frame(kind::PING, 0, 0, &driver::DRAIN_PING);
            inner.survive(sent);
        } else {
            inner.phase = Phase::Leaving;
        }
        inner.wake_driver();
    }

    /// Cuts the tunnel now.
    pub(crate) fn abort(&self) {
        self.inner.borrow_mut().end(Error::Aborted);
    }

    /// The next request, for a server's owner.
    pub(crate) fn poll_request(&self, cx: &Context<'_>) -> Poll<Option<Incoming>> {
        let mut inner = self.inner.borrow_mut();
        if let Some(request) = inner.requests.pop_front() {
            return Poll::Ready(Some(request));
        }
        if inner.is_closed() {
            return Poll::Ready(None);
        }
        inner.acceptor = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Nobody takes requests any more.
    pub(crate) fn stop_accepting(&self) {
        let dropped = {
            let mut inner = self.inner.borrow_mut();
            inner.deaf = true;
            std::mem::take(&mut inner.requests)
        };
        for request in dropped {
            self.reset(&request.state, code::REFUSED_STREAM);
        }
        self.retire();
    }

    /// Resolves when the tunnel is over.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>) -> Poll<Error> {
        let mut inner = self.inner.borrow_mut();
        if let Phase::Closed(error) = &inner.phase {
            return Poll::Ready(error.clone());
        }
        if !inner
            .watchers
            .iter()
            .any(|watcher| watcher.will_wake(cx.waker()))
        {
            inner.watchers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// What the handshake left over.
#[derive(Default)]
pub(crate) struct Rest {
    pub(crate) unsent: Vec<u8>,
    pub(crate) early: Vec<u8>,
    pub(crate) unread: Vec<u8>,
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Protocol {
            code: violation.code,
            what: violation.what,
        }
    }
}
