//! One kind of body for everything: what a client sends, what an upstream answers, what is made here.

mod asked;
mod channel;
mod error;
mod replay;
mod tee;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming, SizeHint};
use tokio::time::Instant;

pub(crate) use asked::Rest;
pub use channel::{Sender, channel};
pub use error::BodyError;
pub use replay::Replay;
pub use tee::tee;
pub use watch::{Counter, End};

use watch::Watch;

/// Data or trailers.
pub type Frame = hyper::body::Frame<Bytes>;

/// A body, with its trailers. Read it with [`Body::frame`] or [`Body::collect`], or give it on.
pub struct Body {
    kind: Kind,
    watch: Option<Box<Watch>>,
}

enum Kind {
    Empty,
    Once(Bytes, Option<Box<HeaderMap>>),
    Incoming(Incoming),
    Asked(asked::Asked),
    Channel(channel::Receiver),
    Other(Pin<Box<dyn hyper::body::Body<Data = Bytes, Error = BodyError>>>),
}

impl Body {
    /// Nothing.
    pub const fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Kind::Once(bytes.into(), None))
    }

    /// These bytes and trailers.
    pub fn with_trailers(bytes: impl Into<Bytes>, trailers: HeaderMap) -> Self {
        Self::of(Kind::Once(bytes.into(), Some(Box::new(trailers))))
    }

    /// Any other body of this worker.
    pub fn from_body(
        body: impl hyper::body::Body<Data = Bytes, Error = BodyError> + 'static,
    ) -> Self {
        Self::of(Kind::Other(Box::pin(body)))
    }

    pub(crate) fn incoming(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self::of(Kind::Incoming(incoming))
    }

    /// Of an HTTP/2 request, and what an answer to it waits for.
    pub(crate) fn asked(incoming: Incoming) -> (Self, Option<Rc<Rest>>) {
        if incoming.is_end_stream() {
            return (Self::empty(), None);
        }
        let rest = Rc::<Rest>::default();
        let asked = asked::Asked::new(incoming, &rest);
        (Self::of(Kind::Asked(asked)), Some(rest))
    }

    const fn of(kind: Kind) -> Self {
        Self { kind, watch: None }
    }

    /// Counts what goes through.
    #[must_use]
    pub fn counted(mut self, counter: &Rc<Counter>) -> Self {
        if self.is_end_stream() {
            counter.end(End::Whole);
        } else {
            self.watch().count(counter);
        }
        self
    }

    /// Fails when nothing comes for so long.
    #[must_use]
    pub fn stalling(mut self, after: Duration) -> Self {
        if !self.is_end_stream() {
            self.watch().stall_after = Some(after);
        }
        self
    }

    /// Fails when it is not at its end by then.
    #[must_use]
    pub fn until(mut self, deadline: Instant) -> Self {
        if !self.is_end_stream() {
            self.watch().until(deadline);
        }
        self
    }

    fn watch(&mut self) -> &mut Watch {
        self.watch.get_or_insert_default()
    }

    /// The next piece; none at the end.
    pub async fn frame(&mut self) -> Option<Result<Frame, BodyError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
    }

    /// The next piece of data; none at the end, trailers are skipped.
    pub async fn data(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            match self.frame().await?.map(Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// All of it, if it is not larger than `limit`.
    ///
    /// # Errors
    /// When it is larger, or does not come whole.
    pub async fn collect(mut self, limit: usize) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
        let (mut first, mut rest, mut trailers) = (Bytes::new(), BytesMut::new(), None);
        while let Some(frame) = self.frame().await {
            match frame?.into_data() {
                Ok(data) => {
                    if first.len() + rest.len() + data.len() > limit {
                        return Err(BodyError::TooLarge(limit));
                    }
                    if first.is_empty() && rest.is_empty() {
                        first = data;
                    } else {
                        rest.extend_from_slice(&std::mem::take(&mut first));
                        rest.extend_from_slice(&data);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let all = if rest.is_empty() {
            first
        } else {
            rest.freeze()
        };
        Ok((all, trailers))
    }

    /// Whether nothing more comes, as far as is known.
    pub fn is_end(&self) -> bool {
        self.is_end_stream()
    }

    /// How long it is, if that is known.
    pub fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Once(data, trailers) => {
                let data = std::mem::take(data);
                if !data.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                let trailers = trailers.take();
                self.kind = Kind::Empty;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(*trailers))))
            }
            Kind::Incoming(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map_err(|error| BodyError::from_hyper(&error)),
            Kind::Asked(asked) => asked
                .poll_frame(cx)
                .map_err(|error| BodyError::from_hyper(&error)),
            Kind::Channel(receiver) => receiver.poll_frame(cx),
            Kind::Other(body) => body.as_mut().poll_frame(cx),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.poll_kind(cx);
        let this = &mut *self;
        let Some(watch) = &mut this.watch else {
            return polled;
        };
        let seen = watch.see(polled, cx);
        if let Poll::Ready(Some(Ok(_))) = &seen
            && kind_is_end(&this.kind)
        {
            // Whoever writes it on may not ask for the end.
            watch.end(End::Whole);
        }
        seen
    }

    fn is_end_stream(&self) -> bool {
        kind_is_end(&self.kind)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Once(data, None) => SizeHint::with_exact(data.len() as u64),
            // A length would leave no room for trailers.
            Kind::Once(_, Some(_)) => SizeHint::default(),
            Kind::Incoming(incoming) => incoming.size_hint(),
            Kind::Asked(asked) => asked.size_hint(),
            Kind::Channel(receiver) => receiver.size_hint(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}

fn kind_is_end(kind: &Kind) -> bool {
    match kind {
        Kind::Empty => true,
        Kind::Once(data, trailers) => data.is_empty() && trailers.is_none(),
        Kind::Incoming(incoming) => incoming.is_end_stream(),
        Kind::Asked(asked) => asked.is_end(),
        Kind::Channel(receiver) => receiver.is_end(),
        Kind::Other(body) => body.is_end_stream(),
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "Empty",
            Kind::Once(..) => "Once",
            Kind::Incoming(_) => "Incoming",
            Kind::Asked(_) => "Asked",
            Kind::Channel(_) => "Channel",
            Kind::Other(_) => "Other",
        };
        f.debug_struct("Body")
            .field("kind", &kind)
            .field("length", &self.length())
            .finish()
    }
}
