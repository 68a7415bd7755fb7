//! What the gate and the server of a connection tell each other.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use crate::rules::Refusal;
use crate::rules::frames::Frames;

/// Deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) head: std::time::Duration,
    pub(crate) idle: std::time::Duration,
    pub(crate) stall: std::time::Duration,
}

/// What gate and server tell each other.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Requests whose head has passed and whose answer is not through.
    in_flight: Cell<usize>,
    /// The request under way asks to upgrade; the answer says yes or no.
    offered: Cell<bool>,
    decided: Cell<Option<bool>>,
    /// Why no further request passes.
    pub(crate) refusal: Cell<Option<Refusal>>,
    /// New answers say that the connection closes.
    pub(crate) draining: Cell<bool>,
    /// The client has ended what it sends.
    pub(crate) client_ended: Cell<bool>,
    /// HTTP/2.
    pub(crate) frames: RefCell<Option<Frames>>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// HTTP/2: a request came.
    pub(crate) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// An answer is through, or given up.
    pub(crate) fn finish(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        if let Some(frames) = &mut *self.frames.borrow_mut() {
            frames.earn();
        }
        self.wake();
    }

    /// Whether the request that is being looked at may become something else.
    pub(crate) fn takes_upgrade(&self) -> bool {
        self.offered.get()
    }

    /// The answer to a request that offered to upgrade.
    pub(crate) fn decide(&self, upgraded: bool) {
        if self.offered.replace(false) {
            self.decided.set(Some(upgraded));
            self.wake();
        }
    }

    /// The library is about to see a request that offers to upgrade, or one that does not.
    pub(super) fn offer(&self, offers: bool) {
        self.offered.set(offers);
        self.decided.set(None);
    }

    /// What was answered to the offer.
    pub(super) fn decision(&self) -> Option<bool> {
        self.decided.take()
    }

    /// HTTP/2: a request was begun and not ended.
    pub(crate) fn has_open_head(&self) -> bool {
        self.frames.borrow().as_ref().is_some_and(Frames::is_open)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn register(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }
}
