//! A body that is written here, piece by piece, on the same worker. The writer waits for the reader.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ::http::HeaderMap;
use bytes::Bytes;
use hyper::body::SizeHint;

use super::{Body, BodyError, Frame, Kind};
use crate::limits;

/// A body and who writes it. At most about [`limits::CHANNEL_BYTES`] wait between them.
pub fn channel() -> (Sender, Body) {
    with_limit(limits::CHANNEL_BYTES)
}

pub(super) fn with_limit(limit: usize) -> (Sender, Body) {
    let shared = Rc::new(RefCell::new(Shared {
        queue: VecDeque::new(),
        bytes: 0,
        limit,
        ended: false,
        deaf: false,
        error: None,
        reader: None,
        writer: None,
    }));
    let body = Body::of(Kind::Channel(Receiver(Rc::clone(&shared))));
    (Sender(shared), body)
}

struct Shared {
    queue: VecDeque<Frame>,
    bytes: usize,
    limit: usize,
    ended: bool,
    /// The reader is gone.
    deaf: bool,
    error: Option<BodyError>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    fn push(&mut self, frame: Frame) {
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        self.queue.push_back(frame);
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// Writes a body. Dropped before [`Sender::finish`], the body fails.
pub struct Sender(Rc<RefCell<Shared>>);

impl Sender {
    /// Waits until there is room; false if nobody reads any more.
    pub async fn ready(&mut self) -> bool {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    fn poll_ready(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut shared = self.0.borrow_mut();
        if shared.deaf {
            return Poll::Ready(false);
        }
        if shared.bytes < shared.limit {
            return Poll::Ready(true);
        }
        shared.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Writes a piece when there is room; false if nobody reads any more.
    pub async fn send(&mut self, data: impl Into<Bytes>) -> bool {
        let data = data.into();
        if !self.ready().await {
            return false;
        }
        if !data.is_empty() {
            self.0.borrow_mut().push(Frame::data(data));
        }
        true
    }

    /// Writes a piece now, if there is room for it.
    pub(super) fn try_send(&self, frame: Frame) -> bool {
        let mut shared = self.0.borrow_mut();
        if shared.deaf || shared.bytes >= shared.limit {
            return false;
        }
        shared.push(frame);
        true
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().deaf
    }

    /// The end.
    pub fn finish(self) {
        let mut shared = self.0.borrow_mut();
        shared.ended = true;
        shared.wake_reader();
    }

    /// The end, with trailers.
    pub fn finish_with(self, trailers: HeaderMap) {
        self.0.borrow_mut().push(Frame::trailers(trailers));
        self.finish();
    }

    /// Lets the body fail.
    pub fn fail(self, error: BodyError) {
        let mut shared = self.0.borrow_mut();
        shared.error = Some(error);
        shared.wake_reader();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        if !shared.ended && shared.error.is_none() {
            shared.error = Some(BodyError::Aborted);
            shared.wake_reader();
        }
    }
}

pub(super) struct Receiver(Rc<RefCell<Shared>>);

impl Receiver {
    pub(super) fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut shared = self.0.borrow_mut();
        if let Some(frame) = shared.queue.pop_front() {
            shared.bytes -= frame.data_ref().map_or(0, Bytes::len);
            if shared.bytes < shared.limit
                && let Some(writer) = shared.writer.take()
            {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = &shared.error {
            return Poll::Ready(Some(Err(error.clone())));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        shared.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn is_end(&self) -> bool {
        let shared = self.0.borrow();
        shared.ended && shared.queue.is_empty()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let shared = self.0.borrow();
        let only_data = shared.queue.iter().all(Frame::is_data);
        if shared.ended && only_data {
            SizeHint::with_exact(shared.bytes as u64)
        } else {
            SizeHint::default()
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.deaf = true;
        shared.queue.clear();
        shared.bytes = 0;
        if let Some(writer) = shared.writer.take() {
            writer.wake();
        }
    }
}
