//! Streams that are owned as bytes: by a task of this worker, or of another one.

use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Core;
use super::state::Inner;
use crate::frame::code;
use crate::limits;
use crate::remote::{Handover, Remote};
use crate::stream::StreamState;

impl Core {
    /// Takes bytes from an owner on this worker. Pending: not now, the stream's owner will be woken.
    pub(crate) fn send(&self, state: &Rc<StreamState>, slices: &[IoSlice<'_>]) -> Poll<usize> {
        let mut inner = self.inner.borrow_mut();
        let sent = inner.send_bytes(state, slices);
        if sent == 0 {
            return Poll::Pending;
        }
        inner.wake_driver();
        Poll::Ready(sent)
    }

    /// An owner on this worker writes no more.
    pub(crate) fn finish(&self, state: &StreamState) {
        let mut inner = self.inner.borrow_mut();
        inner.end_bytes(state);
        inner.wake_driver();
    }

    /// The owner of a stream ended what it writes in order and left. Its last bytes must not be overtaken by a reset, so the
    /// peer gets a moment to end its half.
    pub(crate) fn abandon(self: &Rc<Self>, state: &Rc<StreamState>) {
        if state.is_over() || state.received_end.get() {
            return;
        }
        // It is not reset when its handle goes; and what still comes goes nowhere.
        *state.far.borrow_mut() = Some(Handover::nobody(state.id));
        tokio::task::spawn_local(give_up(Rc::clone(self), Rc::clone(state)));
    }

    /// Makes another worker the owner of a stream.
    pub(crate) fn hand_over(&self, state: &Rc<StreamState>) -> Remote {
        let mut inner = self.inner.borrow_mut();
        let mailbox = Arc::clone(inner.mailbox.get_or_insert_default());
        if inner.is_closed() {
            mailbox.close();
        }
        let handover = Handover::new(state.id, mailbox);
        state.move_to(&handover);
        // The driver must learn of the mailbox before the owner's first letter.
        inner.wake_driver();
        Remote::new(handover, self.settings.stream_window)
    }

    /// Takes what owners on other workers have for this tunnel.
    pub(super) fn collect(self: &Rc<Self>, cx: &Context<'_>) {
        let mut inner = self.inner.borrow_mut();
        let Some(mailbox) = inner.mailbox.clone() else {
            return;
        };
        for handover in mailbox.empty(cx) {
            let Some(state) = inner.find(handover.id).map(Rc::clone) else {
                // It is over; the owner knows, or has left.
                continue;
            };
            inner.serve_owner(self, &handover, &state);
        }
    }
}

impl Inner {
    /// Seals as much as window and room allow. If that is nothing, the owner is woken when it is more.
    fn send_bytes(&mut self, state: &Rc<StreamState>, slices: &[IoSlice<'_>]) -> usize {
        if !self.writer.has_room() || self.send.available() == 0 {
            self.wait(state);
            return 0;
        }
        let limit = state.send_window().min(self.send.available());
        match self.writer.gather(state.id, slices, limit) {
            Ok(n) => {
                self.send.consume(n);
                state.consume(n);
                n
            }
            Err(error) => {
                self.survive(Err(error));
                0
            }
        }
    }

    fn end_bytes(&mut self, state: &StreamState) {
        if state.sent_end.get() || state.is_over() {
            return;
        }
        let sent = self.writer.end_stream(state.id);
        self.survive(sent);
        state.sent_end.set(true);
        self.forget_if_done(state);
    }

    /// Sends what the owner wrote, confirms what it read, and ends the stream as the owner did.
    fn serve_owner(&mut self, core: &Rc<Core>, handover: &Handover, state: &Rc<StreamState>) {
        let mut outgoing = state.outgoing.borrow_mut();
        loop {
            let letter = handover.fetch(&mut outgoing);
            if let Some(increment) = state.release(letter.consumed) {
                self.window_update(state.id, increment);
            }
            if letter.broken {
                self.reset(state, code::CANCEL);
                return;
            }
            while !outgoing.is_empty() {
                let rest = IoSlice::new(&outgoing.bytes[outgoing.sent..]);
                let sent = self.send_bytes(state, &[rest]);
                if sent == 0 {
                    return;
                }
                outgoing.sent += sent;
            }
            if !outgoing.bytes.is_empty() {
                continue;
            }
            if letter.end {
                self.end_bytes(state);
                if letter.left && !state.received_end.get() {
                    tokio::task::spawn_local(give_up(Rc::clone(core), Rc::clone(state)));
                }
            }
            return;
        }
    }
}

async fn give_up(core: Rc<Core>, state: Rc<StreamState>) {
    tokio::time::sleep(limits::HALF_CLOSED).await;
    core.reset(&state, code::NO_ERROR);
}
