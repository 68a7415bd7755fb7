//! Bodies that are watched: gRPC messages are counted, trailers are looked at, and the end is noticed.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, SizeHint};
use tulle_http::body::{Body, BodyError, Frame};
use tulle_telemetry::Flag;

use crate::exchange::{Exchange, status_of};

/// Counts the messages of a gRPC body: each begins with a byte and a length of four.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    count: Cell<u64>,
    /// Bytes of the prefix that came, and the length as far as it is known.
    prefix: Cell<(u8, u32)>,
    /// Bytes of the message that are still to come.
    left: Cell<u64>,
}

impl Messages {
    /// Messages that began.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    fn follow(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let left = self.left.get();
            if left > 0 {
                let skip = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.left.set(left - skip as u64);
                bytes = &bytes[skip..];
                continue;
            }
            let (seen, length) = self.prefix.get();
            let (byte, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            let length = if seen == 0 {
                0
            } else {
                length << 8 | u32::from(byte)
            };
            if seen == 4 {
                self.count.set(self.count.get() + 1);
                self.left.set(length.into());
                self.prefix.set((0, 0));
            } else {
                self.prefix.set((seen + 1, length));
            }
        }
    }
}

/// A request's body whose messages are counted.
pub(crate) fn watched_request(body: Body, messages: &Rc<Messages>) -> Body {
    if body.is_end() {
        return body;
    }
    Body::from_body(Counted(body, messages.clone()))
}

struct Counted(Body, Rc<Messages>);

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.1.follow(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// An answer's body that takes its exchange with it to the end.
pub(crate) fn watched_response(body: Body, mut exchange: Box<Exchange>) -> Body {
    if body.is_end() {
        exchange.seen.whole = true;
        return body;
    }
    Body::from_body(Watched {
        body,
        exchange: Some(exchange),
    })
}

struct Watched {
    body: Body,
    /// Until the end.
    exchange: Option<Box<Exchange>>,
}

impl Watched {
    fn see(&mut self, polled: &Poll<Option<Result<Frame, BodyError>>>) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match polled {
            Poll::Pending => return,
            Poll::Ready(None) => exchange.seen.whole = true,
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    if let Some(status) = status_of(trailers) {
                        exchange.seen.grpc_status = Some(status);
                    }
                    exchange.seen.whole = true;
                } else if let Some(data) = frame.data_ref()
                    && exchange.grpc
                {
                    exchange.response_messages.follow(data);
                }
                if self.body.is_end_stream() {
                    // Whoever writes it on may not ask for the end.
                    exchange.seen.whole = true;
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let flag = match error {
                    BodyError::Deadline => Flag::UpstreamTimeout,
                    BodyError::Stalled(_) => Flag::IdleTimeout,
                    BodyError::Reset(_) => Flag::UpstreamReset,
                    BodyError::Protocol(_) => Flag::UpstreamProtocol,
                    _ => Flag::UpstreamTermination,
                };
                exchange.seen.flags.set(flag);
                exchange.seen.upstream_failure = Some(error.to_string().into());
                self.exchange = None;
                return;
            }
        }
        if exchange.seen.whole {
            self.exchange = None;
        }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.see(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What was read of a body already, and the rest of it.
pub(crate) fn followed(first: Bytes, rest: Body) -> Body {
    if rest.is_end() {
        return Body::full(first);
    }
    Body::from_body(Followed(first, rest))
}

struct Followed(Bytes, Body);

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let first = std::mem::take(&mut self.0);
        if !first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        Pin::new(&mut self.1).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty() && self.1.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
