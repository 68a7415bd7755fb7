//! The state of a tunnel, shared by its driver (which owns the socket) and the tasks that own its streams.
//!
//! Everything happens on one worker: no locks, only short borrows, none across an await. Whoever has something to send seals it
//! into the writer at once and wakes the driver, which flushes everything that came together by one system call.

mod driver;
mod receive;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::net::TcpStream;
use tulle_identity::channel::{Established, RecordError};
use tulle_model::Identity;

use crate::flood::Budget;
use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::{PREFACE, Parser, Violation, code, flag, kind, setting};
use crate::limits;
use crate::server::Incoming;
use crate::socket::{self};
use crate::stream::{App, Fate, Stream, StreamState};
use crate::transport::Transport;
use crate::writer::{DataError, Writer};
use crate::{Error, OpenError, Settings, hpack};

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

/// What changes.
struct Inner {
    role: Role,
    writer: Writer,
    phase: Phase,
    driver: Option<Waker>,
    watchers: Vec<Waker>,
    /// Sorted by id, which only grows.
    streams: Vec<Rc<StreamState>>,
    /// Those whose owners wait for room in the writer or for connection window.
    waiting: Vec<Rc<StreamState>>,
    next_stream: u32,
    last_peer_stream: u32,
    send: SendWindow,
    receive: ReceiveWindow,
    /// Connection credit waits to be sent with the next flush.
    peer_window: u32,
    peer_max_streams: u32,
    /// The peer's first SETTINGS came.
    settled: bool,
    preface_left: usize,
    parser: Parser,
    decoder: hpack::Decoder,
    budget: Budget,
    /// The beginning of a record that is not complete yet.
    carry: Vec<u8>,
    requests: VecDeque<Incoming>,
    acceptor: Option<Waker>,
    /// Nobody takes requests any more.
    deaf: bool,
    /// Something arrived since the driver's last look at the clock.
    heard: bool,
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
        let header_list = match role {
            Role::Client => settings.client_header_list,
            Role::Server => settings.server_header_list,
        };
        let mut inner = Inner {
            role,
            writer: Writer::new(transport, rest.unsent),
            phase: Phase::Open,
            driver: None,
            watchers: Vec::new(),
            streams: Vec::new(),
            waiting: Vec::new(),
            next_stream: 1,
            last_peer_stream: 0,
            send: SendWindow::new(limits::DEFAULT_WINDOW),
            receive: ReceiveWindow::new(settings.connection_window),
            peer_window: limits::DEFAULT_WINDOW,
            peer_max_streams: settings.pool_max_streams,
            settled: false,
            preface_left: if role == Role::Server {
                PREFACE.len()
            } else {
                0
            },
            parser: Parser::new(settings.max_frame as usize, header_list as usize),
            decoder: hpack::Decoder::new(),
            budget: Budget::new(),
            carry: rest.unread,
            requests: VecDeque::new(),
            acceptor: None,
            deaf: false,
            heard: true,
        };
        inner.greet(settings, header_list).map_err(broken_cipher)?;
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
                Err(DataError::App(error)) if socket::would_block(&error) => {}
                Err(DataError::App(error)) => return Poll::Ready(Err(error)),
                Err(DataError::Record(error)) => {
                    inner.survive(Err(error));
                    return Poll::Pending;
                }
            }
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

impl Inner {
    /// Preface, SETTINGS and the connection's window, in one record (RFC 9113 §3.4).
    fn greet(&mut self, settings: &Settings, header_list: u32) -> Result<(), RecordError> {
        let mut plain = Vec::with_capacity(128);
        let mut values = vec![
            (setting::INITIAL_WINDOW_SIZE, settings.stream_window),
            (setting::MAX_FRAME_SIZE, settings.max_frame),
            (setting::MAX_HEADER_LIST_SIZE, header_list),
        ];
        match self.role {
            Role::Client => {
                plain.extend_from_slice(PREFACE);
                values.push((setting::ENABLE_PUSH, 0));
            }
            Role::Server => values.push((setting::MAX_CONCURRENT_STREAMS, settings.max_streams)),
        }
        let mut frame = |kind, payload: &[u8]| {
            let head = crate::frame::Head {
                len: payload.len(),
                kind,
                flags: 0,
                stream: 0,
            };
            plain.extend_from_slice(&head.encode());
            plain.extend_from_slice(payload);
        };
        let payload: Vec<u8> = values
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frame(kind::SETTINGS, &payload);
        let more = settings
            .connection_window
            .saturating_sub(limits::DEFAULT_WINDOW);
        if more > 0 {
            frame(kind::WINDOW_UPDATE, &more.to_be_bytes());
        }
        self.writer.raw(&plain)
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    fn is_usable(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.next_stream < limits::LAST_STREAM
    }

    fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    fn find(&self, id: u32) -> Option<&Rc<StreamState>> {
        let at = self
            .streams
            .binary_search_by_key(&id, |stream| stream.id)
            .ok()?;
        self.streams.get(at)
    }

    fn forget(&mut self, id: u32) {
        if let Ok(at) = self.streams.binary_search_by_key(&id, |stream| stream.id) {
            self.streams.remove(at);
        }
    }

    fn forget_if_done(&mut self, state: &StreamState) {
        if state.sent_end.get() && state.received_end.get() {
            self.forget(state.id);
        }
    }

    /// `state`'s owner wants to be woken when there is room and window again.
    fn wait(&mut self, state: &Rc<StreamState>) {
        if !state.waiting.replace(true) {
            self.waiting.push(Rc::clone(state));
        }
    }

    fn wake_waiting(&mut self) {
        for state in self.waiting.drain(..) {
            state.waiting.set(false);
            state.wake();
        }
    }

    /// Resets a stream that both sides still know; the peer hears of it.
    fn reset(&mut self, state: &StreamState, code: u32) {
        if self.find(state.id).is_none() {
            return;
        }
        self.forget(state.id);
        let sent = self
            .writer
            .frame(kind::RST_STREAM, 0, state.id, &code.to_be_bytes());
        self.survive(sent);
    }

    fn window_update(&mut self, stream: u32, increment: u32) {
        let sent = self
            .writer
            .frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
        self.survive(sent);
    }

    fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        let sent = self.writer.frame(kind::GOAWAY, 0, 0, &payload);
        self.survive(sent);
    }

    /// A cipher that fails ends the tunnel: nothing may go out unsealed or twice.
    fn survive(&mut self, sealed: Result<(), RecordError>) {
        if let Err(error) = sealed {
            self.end(broken_cipher(error));
        }
    }

    /// The tunnel is over: everybody learns why.
    fn end(&mut self, error: Error) {
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closed(error.clone());
        for stream in self.streams.drain(..) {
            let fate = if stream.answered.get() {
                Fate::Tunnel(error.clone())
            } else {
                Fate::Unprocessed(error.clone())
            };
            stream.decide(fate);
        }
        self.requests.clear();
        self.wake_waiting();
        for watcher in self.watchers.drain(..).chain(self.acceptor.take()) {
            watcher.wake();
        }
        self.wake_driver();
    }
}

/// Ours to explain, never the peer's fault.
fn broken_cipher(error: RecordError) -> Error {
    match error {
        RecordError::Cipher(_) => Error::Io(std::sync::Arc::new(std::io::Error::other(error))),
        RecordError::Alert(_) => Error::Tls(std::sync::Arc::new(error.into())),
        _ => Error::Tls(std::sync::Arc::new(error.into())),
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Protocol {
            code: violation.code,
            what: violation.what,
        }
    }
}
