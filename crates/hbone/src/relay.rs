//! Bytes between an application's socket and a tunnel's stream ([`Stream::relay`]), or between two sockets ([`plain`]).

mod plain;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

pub use plain::plain;

use crate::frame::code;
use crate::socket::with_scratch;
use crate::stream::{App, Fate, StreamState};
use crate::tunnel::Core;
use crate::{Error, Stream, limits};

/// Bytes moved so far; updated as they move, readable from elsewhere on the worker.
#[derive(Debug, Default)]
pub struct Counters {
    /// From the application into the tunnel (or from the first socket to the second).
    pub to_tunnel: Cell<u64>,
    /// From the tunnel to the application (or from the second socket to the first).
    pub to_app: Cell<u64>,
}

/// Why the owner of a relay ends it early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A policy that came into force denies the connection.
    Policy,
    /// The time for draining is over.
    Drain,
    /// The workload left the mesh or this node.
    Removed,
}

/// Why a relay ended.
#[derive(Clone, Debug)]
pub enum EndReason {
    /// Both directions were closed in order.
    Clean,
    /// The application's connection failed (plain relay: the first socket's).
    AppReset,
    /// The peer reset the stream, with this HTTP/2 code (plain relay: the second socket failed; the code is 0).
    PeerReset(u32),
    /// The tunnel underneath is gone.
    Tunnel(Error),
    /// The owner said so.
    Stopped(StopReason),
}

/// How a relay went.
#[derive(Clone, Debug)]
pub struct RelayEnd {
    /// Bytes from the application to the tunnel.
    pub to_tunnel: u64,
    /// Bytes from the tunnel to the application.
    pub to_app: u64,
    /// Why it ended.
    pub reason: EndReason,
}

impl Stream {
    /// Moves bytes both ways until both are closed, one fails, or `stop` says so. A failure of one side reaches the other as a
    /// reset; an orderly end as an orderly end, after the last byte.
    pub async fn relay(
        self,
        app: TcpStream,
        counters: &Rc<Counters>,
        stop: impl Future<Output = StopReason>,
    ) -> RelayEnd {
        let app = Rc::new(App {
            socket: RefCell::new(app),
            counters: Rc::clone(counters),
        });
        let mut stop = pin!(stop);
        let mut relay = Relay {
            core: &self.core,
            state: &self.state,
            app: &app,
            records: 1,
            app_told: false,
        };
        let reason = match relay.take_early() {
            Ok(()) => {
                relay.state.attach(Rc::clone(&app));
                poll_fn(|cx| relay.poll(cx, stop.as_mut())).await
            }
            Err(_) => EndReason::AppReset,
        };
        relay.finish(&reason);
        RelayEnd {
            to_tunnel: counters.to_tunnel.get(),
            to_app: counters.to_app.get(),
            reason,
        }
    }
}

/// A stream and its application. Bytes to the application are mostly moved by the tunnel's driver, in its own wake-up; this
/// task moves those from the application, and what the application did not take at once.
struct Relay<'a> {
    core: &'a Core,
    state: &'a Rc<StreamState>,
    app: &'a Rc<App>,
    /// How many TLS records the next read from the application may fill.
    records: usize,
    /// The application was told that nothing more comes.
    app_told: bool,
}

impl Relay<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stop: Pin<&mut impl Future<Output = StopReason>>,
    ) -> Poll<EndReason> {
        if let Poll::Ready(reason) = stop.poll(cx) {
            return Poll::Ready(EndReason::Stopped(reason));
        }
        self.state.register(cx);
        let moved = self.move_to_app(cx).and_then(|()| self.move_from_app(cx));
        if moved.is_err() || self.state.app_failed() {
            return Poll::Ready(EndReason::AppReset);
        }
        match self.state.fate() {
            // What came before an orderly end is still delivered.
            Some(_) if self.state.received_end.get() && self.state.has_kept() => Poll::Pending,
            Some(Fate::Reset(code)) => Poll::Ready(EndReason::PeerReset(code)),
            Some(Fate::Tunnel(error) | Fate::Unprocessed(error)) => {
                Poll::Ready(EndReason::Tunnel(error))
            }
            None if self.app_told && self.state.sent_end.get() => Poll::Ready(EndReason::Clean),
            None => Poll::Pending,
        }
    }

    /// Takes from the application what went before the answer came.
    fn take_early(&mut self) -> io::Result<()> {
        let socket = self.app.socket.borrow();
        while self.state.early.get() > 0 {
            let left = self.state.early.get();
            let n = with_scratch(|scratch| socket.try_read(&mut scratch.bytes[..left]))?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.state.early.set(left - n);
            let counter = &self.app.counters.to_tunnel;
            counter.set(counter.get() + n as u64);
        }
        Ok(())
    }

    /// Hands on what the application did not take at once, and the end.
    fn move_to_app(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.state.has_kept() {
            let ready = self.app.socket.borrow().poll_write_ready(cx)?;
            if ready.is_pending() {
                return Ok(());
            }
            let written = self.state.deliver_kept(self.app)?;
            self.core.release(self.state, written);
        }
        if self.state.received_end.get() && !self.app_told {
            self.app_told = true;
            shutdown_write(&mut self.app.socket.borrow_mut())?;
        }
        Ok(())
    }

    /// Takes what the application has to say.
    fn move_from_app(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..limits::APP_READS_PER_TURN {
            if self.state.sent_end.get() || self.state.is_over() {
                return Ok(());
            }
            let taken = self.core.take_from(self.state, self.app, self.records, cx);
            let Poll::Ready(n) = taken else {
                return Ok(());
            };
            let n = n?;
            let counter = &self.app.counters.to_tunnel;
            counter.set(counter.get() + n as u64);
            self.adapt(n);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Small messages are read into one record; who fills it gets more.
    fn adapt(&mut self, n: usize) {
        let per_record = crate::transport::MAX_PLAINTEXT;
        if n + per_record / 8 >= self.records * per_record {
            self.records = (self.records * 4).min(limits::BULK_RECORDS);
        } else if n < self.records * per_record / 4 {
            self.records = (self.records / 2).max(1);
        }
    }

    fn finish(&self, reason: &EndReason) {
        self.state.detach();
        if matches!(reason, EndReason::Clean) {
            return;
        }
        // The application must not mistake a failure for an end.
        if let Err(error) = self.app.socket.borrow().set_zero_linger() {
            tracing::debug!(target: "hbone", %error, "the application's socket cannot be set to reset on close");
        }
        self.core.reset(self.state, code::CANCEL);
    }
}

/// Sends FIN. Tokio's shutdown of a TCP socket never waits.
pub(crate) fn shutdown_write(socket: &mut TcpStream) -> io::Result<()> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(socket).poll_shutdown(&mut cx) {
        Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}
