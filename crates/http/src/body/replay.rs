//! A request's body for several attempts: what was read is kept, up to a bound.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as _, SizeHint};

use super::{Body, BodyError, Frame};

/// Keeps a body for another attempt. Each attempt gets its own [`Replay::body`]; the latest reads on from the client.
pub struct Replay(Rc<RefCell<Shared>>);

struct Shared {
    source: Body,
    kept: Vec<Frame>,
    bytes: usize,
    limit: usize,
    /// Something was read that is no longer kept.
    lost: bool,
    ended: bool,
    /// The attempt that may read.
    attempt: u64,
}

impl Replay {
    /// Keeps at most `limit` bytes; a body that is longer can be sent once.
    pub fn new(source: Body, limit: usize) -> Self {
        let ended = source.is_end();
        Self(Rc::new(RefCell::new(Shared {
            source,
            kept: Vec::new(),
            bytes: 0,
            limit,
            lost: false,
            ended,
            attempt: 0,
        })))
    }

    /// Whether another attempt would send everything that the first did.
    pub fn can_repeat(&self) -> bool {
        !self.0.borrow().lost
    }

    /// The body from its beginning; the one before is over. Once [`Replay::can_repeat`] is false, it only fails.
    pub fn body(&self) -> Body {
        let (attempt, empty) = {
            let mut shared = self.0.borrow_mut();
            shared.attempt += 1;
            let empty = shared.ended && shared.kept.is_empty() && !shared.lost;
            (shared.attempt, empty)
        };
        if empty {
            return Body::empty();
        }
        Body::from_body(Attempt {
            shared: Rc::clone(&self.0),
            number: attempt,
            next: 0,
        })
    }

    /// No further attempt: what is read from now on is not kept.
    pub fn last(&self) {
        self.0.borrow_mut().limit = 0;
    }
}

struct Attempt {
    shared: Rc<RefCell<Shared>>,
    number: u64,
    /// Of what is kept.
    next: usize,
}

impl Shared {
    /// Reads on from the client.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                self.keep(frame);
                self.ended |= self.source.is_end();
            }
            _ => {}
        }
        polled
    }

    fn keep(&mut self, frame: &Frame) {
        if self.lost {
            return;
        }
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        if self.bytes > self.limit {
            self.lost = true;
            self.kept = Vec::new();
            return;
        }
        self.kept.push(copy(frame));
    }
}

/// The same piece; data is shared, not copied.
pub(super) fn copy(frame: &Frame) -> Frame {
    match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => Frame::data(data.clone()),
        (_, Some(trailers)) => Frame::trailers(trailers.clone()),
        _ => Frame::data(Bytes::new()),
    }
}

impl hyper::body::Body for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let shared = Rc::clone(&self.shared);
        let mut shared = shared.borrow_mut();
        if shared.attempt != self.number || (shared.lost && self.next == 0) {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(frame) = shared.kept.get(self.next) {
            let frame = copy(frame);
            self.next += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        let polled = shared.read(cx);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            self.next += 1;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        shared.ended && (shared.lost || self.next >= shared.kept.len())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        if self.next > 0 {
            return SizeHint::default();
        }
        match shared.source.length() {
            Some(left) if shared.kept.iter().all(Frame::is_data) => {
                SizeHint::with_exact(shared.bytes as u64 + left)
            }
            _ => SizeHint::default(),
        }
    }
}
