//! Counting, and watching the clock.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::{BodyError, Frame};

/// How a body ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It goes on.
    #[default]
    Not,
    /// All of it went through.
    Whole,
    /// It failed.
    Failed,
    /// Whoever read it lost interest, or is gone.
    Dropped,
}

/// What went through a body; readable from elsewhere on the worker.
#[derive(Debug, Default)]
pub struct Counter {
    bytes: Cell<u64>,
    frames: Cell<u64>,
    end: Cell<End>,
}

impl Counter {
    /// Bytes of data.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Pieces of data.
    pub fn frames(&self) -> u64 {
        self.frames.get()
    }

    /// Whether and how it ended.
    pub fn ended(&self) -> End {
        self.end.get()
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        self.frames.set(self.frames.get() + 1);
    }

    /// The first end counts.
    pub(super) fn end(&self, end: End) {
        if self.end.get() == End::Not {
            self.end.set(end);
        }
    }
}

#[derive(Default)]
pub(super) struct Watch {
    /// Most bodies have one or two.
    counters: [Option<Rc<Counter>>; 2],
    further: Vec<Rc<Counter>>,
    pub(super) stall_after: Option<Duration>,
    /// Since when the next piece is waited for.
    waiting: Option<Instant>,
    stall: Option<Pin<Box<Sleep>>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn count(&mut self, counter: &Rc<Counter>) {
        match self.counters.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(Rc::clone(counter)),
            None => self.further.push(Rc::clone(counter)),
        }
    }

    fn counters(&self) -> impl Iterator<Item = &Rc<Counter>> {
        self.counters.iter().flatten().chain(&self.further)
    }

    /// The earlier of two deadlines counts.
    pub(super) fn until(&mut self, deadline: Instant) {
        match &mut self.deadline {
            Some(sleep) if sleep.deadline() <= deadline => {}
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.deadline = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    pub(super) fn see(
        &mut self,
        polled: Poll<Option<Result<Frame, BodyError>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && !matches!(polled, Poll::Ready(None))
            && deadline.as_mut().poll(cx).is_ready()
        {
            return self.fail(BodyError::Deadline);
        }
        match &polled {
            Poll::Pending => return self.wait(cx),
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = None;
                if let Some(data) = frame.data_ref() {
                    for counter in self.counters() {
                        counter.add(data.len() as u64);
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => self.end(End::Failed),
            Poll::Ready(None) => self.end(End::Whole),
        }
        polled
    }

    /// Nothing there: has it been too long?
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Some(after) = self.stall_after else {
            return Poll::Pending;
        };
        let due = *self.waiting.get_or_insert_with(Instant::now) + after;
        let sleep = self
            .stall
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        // The timer is left alone while pieces come, and moved when it fires.
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= due {
                return self.fail(BodyError::Stalled(after));
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.end(End::Failed);
        Poll::Ready(Some(Err(error)))
    }

    pub(super) fn end(&self, end: End) {
        for counter in self.counters() {
            counter.end(end);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}
