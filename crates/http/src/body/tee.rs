//! A body for two: the upstream, and a mirror that may fall behind or fail without anybody noticing.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::SizeHint;

use super::{Body, BodyError, Frame, Sender, channel, replay};

/// `source`, and a copy of it that is fed as the first is read. A copy that lags more than `limit` bytes behind fails; the
/// first never waits for it.
pub fn tee(source: Body, limit: usize) -> (Body, Body) {
    if source.is_end() {
        return (source, Body::empty());
    }
    let (sender, copy) = channel::with_limit(limit);
    let first = Body::from_body(Tee {
        source,
        copy: Some(sender),
        limit,
    });
    (first, copy)
}

struct Tee {
    source: Body,
    copy: Option<Sender>,
    limit: usize,
}

impl hyper::body::Body for Tee {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = hyper::body::Body::poll_frame(Pin::new(&mut self.source), cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(copy) = &self.copy
                    && !copy.try_send(replay::copy(frame))
                    && let Some(copy) = self.copy.take()
                {
                    copy.fail(BodyError::Lagging(self.limit));
                }
                if self.source.is_end()
                    && let Some(copy) = self.copy.take()
                {
                    copy.finish();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(copy) = self.copy.take() {
                    copy.fail(error.clone());
                }
            }
            Poll::Ready(None) => {
                if let Some(copy) = self.copy.take() {
                    copy.finish();
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.source)
    }
}
