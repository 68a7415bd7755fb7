//! One connection inside a tunnel: what the tunnel's driver and the stream's owner share.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::code;
use crate::relay::Counters;
use crate::remote::{Handover, Outgoing};
use crate::socket::would_block;
use crate::tunnel::Core;
use crate::{Error, Local, Remote};

/// One open connection inside a tunnel. Dropped without being relayed to its end, it is reset.
pub struct Stream {
    pub(crate) core: Rc<Core>,
    pub(crate) state: Rc<StreamState>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // One that lives on elsewhere says itself how it ends.
        if self.state.far.borrow().is_none() {
            self.core.reset(&self.state, code::CANCEL);
        }
    }
}

impl Stream {
    /// As a byte stream for this worker.
    pub fn into_local(self) -> Local {
        Local::new(self)
    }

    /// As a byte stream that may go to another worker. The tunnel's own worker goes on sealing, opening, reading and writing.
    pub fn into_remote(self) -> Remote {
        let remote = self.core.hand_over(&self.state);
        drop(self);
        remote
    }
}

/// Why a stream is over before its time.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// The peer reset it.
    Reset(u32),
    /// The tunnel is gone.
    Tunnel(Error),
    /// The peer surely did nothing about it; another tunnel may be tried.
    Unprocessed(Error),
}

impl Fate {
    /// As an owner that reads and writes gets to see it.
    pub(crate) fn to_io(&self) -> io::Error {
        match self {
            Self::Reset(code) => io::Error::new(
                io::ErrorKind::ConnectionReset,
                format!("the peer reset the stream (HTTP/2 code {code})"),
            ),
            Self::Tunnel(error) | Self::Unprocessed(error) => {
                io::Error::new(io::ErrorKind::ConnectionReset, error.clone())
            }
        }
    }
}

/// The answer to CONNECT.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) baggage: Option<String>,
}

/// The application that a stream is relayed to.
pub(crate) struct App {
    pub(crate) socket: RefCell<TcpStream>,
    pub(crate) counters: Rc<Counters>,
}

/// The state of a stream.
pub(crate) struct StreamState {
    pub(crate) id: u32,
    /// The task that owns the stream.
    owner: RefCell<Option<Waker>>,
    /// The task that writes to it, when it is another one.
    second: RefCell<Option<Waker>>,
    /// The owner is on another worker.
    pub(crate) far: RefCell<Option<Arc<Handover>>>,
    /// What was fetched from there and waits for window or room: `outgoing[..]`, in order.
    pub(crate) outgoing: RefCell<Outgoing>,
    app: RefCell<Option<Rc<App>>>,
    /// The application's socket failed when the driver wrote to it.
    app_failed: Cell<bool>,
    /// What the application did not take yet: `queue[taken..]`.
    queue: RefCell<Vec<u8>>,
    taken: Cell<usize>,
    receive: Cell<ReceiveWindow>,
    send: Cell<SendWindow>,
    /// The peer sends no more.
    pub(crate) received_end: Cell<bool>,
    /// We send no more.
    pub(crate) sent_end: Cell<bool>,
    /// In the tunnel's list of those who wait for room or connection window.
    pub(crate) waiting: Cell<bool>,
    /// CONNECT was answered (either role).
    pub(crate) answered: Cell<bool>,
    /// Bytes of the application that went before the answer came. They are still in its socket.
    pub(crate) early: Cell<usize>,
    pub(crate) answer: RefCell<Option<Answer>>,
    fate: RefCell<Option<Fate>>,
}

impl StreamState {
    pub(crate) fn new(id: u32, receive: u32, send: u32) -> Self {
        Self {
            id,
            owner: RefCell::new(None),
            second: RefCell::new(None),
            far: RefCell::new(None),
            outgoing: RefCell::default(),
            app: RefCell::new(None),
            app_failed: Cell::new(false),
            queue: RefCell::new(Vec::new()),
            taken: Cell::new(0),
            receive: Cell::new(ReceiveWindow::new(receive)),
            send: Cell::new(SendWindow::new(send)),
            received_end: Cell::new(false),
            sent_end: Cell::new(false),
            waiting: Cell::new(false),
            answered: Cell::new(false),
            early: Cell::new(0),
            answer: RefCell::new(None),
            fate: RefCell::new(None),
        }
    }

    /// The owner's task, to be woken when there is something for it.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut owner = self.owner.borrow_mut();
        if !owner
            .as_ref()
            .is_some_and(|owner| owner.will_wake(cx.waker()))
        {
            *owner = Some(cx.waker().clone());
        }
    }

    /// The same for a task that writes.
    pub(crate) fn register_second(&self, cx: &Context<'_>) {
        let mut second = self.second.borrow_mut();
        if !second
            .as_ref()
            .is_some_and(|second| second.will_wake(cx.waker()))
        {
            *second = Some(cx.waker().clone());
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(far) = &*self.far.borrow() {
            far.learn(self);
        }
        if let Some(owner) = &*self.owner.borrow() {
            owner.wake_by_ref();
        }
        if let Some(second) = &*self.second.borrow() {
            second.wake_by_ref();
        }
    }

    /// From now on, what arrives goes to `far`, and so does what has arrived already.
    pub(crate) fn move_to(&self, far: &Arc<Handover>) {
        let mut queue = self.queue.borrow_mut();
        far.arrive(&[IoSlice::new(&queue[self.taken.get()..])]);
        *queue = Vec::new();
        self.taken.set(0);
        *self.owner.borrow_mut() = Some(Waker::from(Arc::clone(far)));
        *self.far.borrow_mut() = Some(Arc::clone(far));
        far.learn(self);
    }

    /// Copies out what arrived; how many bytes.
    pub(crate) fn take(&self, buffer: &mut ReadBuf<'_>) -> usize {
        let mut queue = self.queue.borrow_mut();
        let from = self.taken.get();
        let n = buffer.remaining().min(queue.len() - from);
        buffer.put_slice(&queue[from..from + n]);
        if from + n == queue.len() {
            // An idle stream holds no buffer.
            *queue = Vec::new();
            self.taken.set(0);
        } else {
            self.taken.set(from + n);
        }
        n
    }

    /// From now on, what arrives goes to `app`.
    pub(crate) fn attach(&self, app: Rc<App>) {
        *self.app.borrow_mut() = Some(app);
    }

    pub(crate) fn detach(&self) {
        *self.app.borrow_mut() = None;
    }

    pub(crate) fn fate(&self) -> Option<Fate> {
        self.fate.borrow().clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.fate.borrow().is_some()
    }

    /// Ends the stream before its time; the first reason counts.
    pub(crate) fn decide(&self, fate: Fate) {
        self.fate.borrow_mut().get_or_insert(fate);
        self.wake();
    }

    /// The peer reset the stream. An application's bytes that came before an orderly end are still delivered.
    pub(crate) fn peer_reset(&self, code: u32) {
        if code == code::NO_ERROR && self.answered.get() {
            // The peer is done with us, and not unhappy (RFC 9113 §8.1).
            self.received_end.set(true);
            self.sent_end.set(true);
            self.wake();
        } else {
            self.decide(Fate::Reset(code));
        }
    }

    pub(crate) fn send_window(&self) -> usize {
        self.send.get().available()
    }

    pub(crate) fn consume(&self, bytes: usize) {
        let mut window = self.send.get();
        window.consume(bytes);
        self.send.set(window);
    }

    /// More (or less) window from the peer; false if it is beyond what the protocol allows.
    pub(crate) fn adjust_send_window(&self, by: i64) -> bool {
        let mut window = self.send.get();
        let was_empty = window.available() == 0;
        let fine = window.adjust(by).is_ok();
        self.send.set(window);
        if was_empty && window.available() > 0 {
            self.wake();
        }
        fine
    }

    /// Bytes arrived; false if the peer had no window for them.
    pub(crate) fn arrived(&self, bytes: usize) -> bool {
        let mut window = self.receive.get();
        let fine = window.arrived(bytes);
        self.receive.set(window);
        fine
    }

    /// Bytes left our hands; from time to time, the increment to tell the peer.
    pub(crate) fn release(&self, bytes: usize) -> Option<u32> {
        if self.received_end.get() {
            return None;
        }
        let mut window = self.receive.get();
        let increment = window.release(bytes);
        self.receive.set(window);
        increment
    }

    /// Hands arrived bytes to the application, or keeps what it does not take. Returns how many are out of our hands.
    pub(crate) fn deliver(&self, slices: &[IoSlice<'_>], total: usize) -> usize {
        if let Some(far) = &*self.far.borrow() {
            far.arrive(slices);
            return 0;
        }
        let mut queue = self.queue.borrow_mut();
        let app = self.app.borrow();
        let mut written = 0;
        if let (Some(app), true) = (&*app, queue.is_empty()) {
            if self.app_failed.get() {
                return total;
            }
            match write(&app.socket.borrow(), slices) {
                Ok(n) => written = n,
                Err(error) if would_block(&error) => {}
                Err(_) => {
                    self.app_failed.set(true);
                    self.wake();
                    return total;
                }
            }
            app.counters
                .to_app
                .set(app.counters.to_app.get() + written as u64);
            if written == total {
                return written;
            }
        }
        let mut skip = written;
        for slice in slices {
            if skip >= slice.len() {
                skip -= slice.len();
            } else {
                queue.extend_from_slice(&slice[skip..]);
                skip = 0;
            }
        }
        self.wake();
        written
    }

    /// Hands on what was kept. Returns how many bytes the application took.
    pub(crate) fn deliver_kept(&self, app: &App) -> io::Result<usize> {
        let mut queue = self.queue.borrow_mut();
        let socket = app.socket.borrow();
        let (begin, mut taken) = (self.taken.get(), self.taken.get());
        let result = loop {
            if taken == queue.len() {
                break Ok(());
            }
            match socket.try_write(&queue[taken..]) {
                Ok(n) => taken += n,
                Err(error) if would_block(&error) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let written = taken - begin;
        app.counters
            .to_app
            .set(app.counters.to_app.get() + written as u64);
        if taken == queue.len() {
            // An idle stream holds no buffer.
            *queue = Vec::new();
            taken = 0;
        } else if taken > queue.len() / 2 {
            queue.drain(..taken);
            taken = 0;
        }
        self.taken.set(taken);
        result.map(|()| written)
    }

    /// Whether the application has not yet taken everything.
    pub(crate) fn has_kept(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    pub(crate) fn app_failed(&self) -> bool {
        self.app_failed.get()
    }
}

fn write(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        [one] => socket.try_write(one),
        several => socket.try_write_vectored(several),
    }
}
