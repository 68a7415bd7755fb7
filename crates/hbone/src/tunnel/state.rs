//! What changes in a tunnel, and what is said when it does.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use tulle_identity::channel::RecordError;

use super::{Phase, Role};
use crate::flood::Budget;
use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::{Head, PREFACE, Parser, kind, setting};
use crate::remote::Mailbox;
use crate::server::Incoming;
use crate::stream::{Fate, StreamState};
use crate::transport::Transport;
use crate::writer::Writer;
use crate::{Error, Settings, hpack, limits};

/// What changes.
pub(super) struct Inner {
    pub(super) role: Role,
    pub(super) writer: Writer,
    pub(super) phase: Phase,
    pub(super) driver: Option<Waker>,
    pub(super) watchers: Vec<Waker>,
    /// Sorted by id, which only grows.
    pub(super) streams: Vec<Rc<StreamState>>,
    /// Those whose owners wait for room in the writer or for connection window.
    pub(super) waiting: Vec<Rc<StreamState>>,
    /// For those whose owners are on other workers; there is none as long as nobody is.
    pub(super) mailbox: Option<Arc<Mailbox>>,
    pub(super) next_stream: u32,
    pub(super) last_peer_stream: u32,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// SETTINGS_INITIAL_WINDOW_SIZE of the peer.
    pub(super) peer_window: u32,
    pub(super) peer_max_streams: u32,
    /// The peer's first SETTINGS came.
    pub(super) settled: bool,
    pub(super) preface_left: usize,
    pub(super) parser: Parser,
    pub(super) decoder: hpack::Decoder,
    pub(super) budget: Budget,
    /// The beginning of a record that is not complete yet.
    pub(super) carry: Vec<u8>,
    pub(super) requests: VecDeque<Incoming>,
    pub(super) acceptor: Option<Waker>,
    /// Nobody takes requests any more.
    pub(super) deaf: bool,
    /// Something arrived since the driver's last look at the clock.
    pub(super) heard: bool,
}

impl Inner {
    /// A fresh tunnel whose greeting is sealed behind `unsent`, the end of the handshake. `unread` came with it.
    pub(super) fn greeting(
        transport: Transport,
        unsent: Vec<u8>,
        unread: Vec<u8>,
        role: Role,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let header_list = match role {
            Role::Client => settings.client_header_list,
            Role::Server => settings.server_header_list,
        };
        let mut inner = Inner {
            role,
            writer: Writer::new(transport, unsent),
            phase: Phase::Open,
            driver: None,
            watchers: Vec::new(),
            streams: Vec::new(),
            waiting: Vec::new(),
            mailbox: None,
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
            carry: unread,
            requests: VecDeque::new(),
            acceptor: None,
            deaf: false,
            heard: true,
        };
        inner.greet(settings, header_list).map_err(broken_cipher)?;
        Ok(inner)
    }

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
            let head = Head {
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

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    pub(super) fn is_usable(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.next_stream < limits::LAST_STREAM
    }

    pub(super) fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    pub(super) fn find(&self, id: u32) -> Option<&Rc<StreamState>> {
        let at = self
            .streams
            .binary_search_by_key(&id, |stream| stream.id)
            .ok()?;
        self.streams.get(at)
    }

    pub(super) fn forget(&mut self, id: u32) {
        if let Ok(at) = self.streams.binary_search_by_key(&id, |stream| stream.id) {
            self.streams.remove(at);
        }
    }

    pub(super) fn forget_if_done(&mut self, state: &StreamState) {
        if state.sent_end.get() && state.received_end.get() {
            self.forget(state.id);
        }
    }

    /// `state`'s owner wants to be woken when there is room and window again.
    pub(super) fn wait(&mut self, state: &Rc<StreamState>) {
        if !state.waiting.replace(true) {
            self.waiting.push(Rc::clone(state));
        }
    }

    pub(super) fn wake_waiting(&mut self) {
        for state in self.waiting.drain(..) {
            state.waiting.set(false);
            state.wake();
        }
    }

    /// Resets a stream that both sides still know; the peer hears of it.
    pub(super) fn reset(&mut self, state: &StreamState, code: u32) {
        if self.find(state.id).is_none() {
            return;
        }
        self.forget(state.id);
        let sent = self
            .writer
            .frame(kind::RST_STREAM, 0, state.id, &code.to_be_bytes());
        self.survive(sent);
    }

    pub(super) fn window_update(&mut self, stream: u32, increment: u32) {
        let sent = self
            .writer
            .frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
        self.survive(sent);
    }

    pub(super) fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        let sent = self.writer.frame(kind::GOAWAY, 0, 0, &payload);
        self.survive(sent);
    }

    /// A cipher that fails ends the tunnel: nothing may go out unsealed or twice.
    pub(super) fn survive(&mut self, sealed: Result<(), RecordError>) {
        if let Err(error) = sealed {
            self.end(broken_cipher(error));
        }
    }

    /// The tunnel is over: everybody learns why.
    pub(super) fn end(&mut self, error: Error) {
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closed(error.clone());
        for stream in self.streams.drain(..) {
            let fate = if stream.answered.get() || stream.early.get() > 0 {
                Fate::Tunnel(error.clone())
            } else {
                Fate::Unprocessed(error.clone())
            };
            stream.decide(fate);
        }
        self.requests.clear();
        if let Some(mailbox) = &self.mailbox {
            mailbox.close();
        }
        self.wake_waiting();
        for watcher in self.watchers.drain(..).chain(self.acceptor.take()) {
            watcher.wake();
        }
        self.wake_driver();
    }
}

/// Ours to explain, never the peer's fault.
pub(super) fn broken_cipher(error: RecordError) -> Error {
    match error {
        RecordError::Cipher(_) => Error::Io(std::sync::Arc::new(std::io::Error::other(error))),
        RecordError::Alert(_) => Error::Tls(std::sync::Arc::new(error.into())),
        _ => Error::Tls(std::sync::Arc::new(error.into())),
    }
}
