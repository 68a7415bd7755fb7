//! A value that is told once, to one waiter on the same thread.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

/// Empty until [`Once::tell`].
#[derive(Debug)]
pub(crate) struct Once<T: Copy> {
    value: Cell<Option<T>>,
    waiting: RefCell<Option<Waker>>,
}

impl<T: Copy> Default for Once<T> {
    fn default() -> Self {
        Self {
            value: Cell::new(None),
            waiting: RefCell::default(),
        }
    }
}

impl<T: Copy> Once<T> {
    /// The first value counts.
    pub(crate) fn tell(&self, value: T) {
        if self.value.get().is_none() {
            self.value.set(Some(value));
            if let Some(waker) = self.waiting.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Waits for the value; only the latest waiter is woken.
    pub(crate) fn told(&self) -> impl Future<Output = T> + '_ {
        std::future::poll_fn(|context| self.poll(context.waker()))
    }

    /// One step of waiting.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<T> {
        if let Some(value) = self.value.get() {
            return Poll::Ready(value);
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *waiting = Some(waker.clone());
        }
        Poll::Pending
    }
}
