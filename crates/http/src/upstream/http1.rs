//! HTTP/1 upstreams. A connection has no task of its own: whoever waits for its answer drives it, so that a request costs no
//! switch between tasks, and giving up a request gives up its connection at once. Only where a request is still being sent
//! while the answer comes, a task takes over.

use std::cell::Cell;
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::meter::Meter;
use super::seats::{Held, Limits, Seat};
use super::shelf::Shelf;
use super::{Answer, Cause, Failure, Options, Outgoing, Protocol, Written, judge, make, write};
use crate::body::{Body, BodyError, Counter, End, Frame};
use crate::io::BoxIo;
use crate::limits;
use crate::upgrade::Upgrade;

/// One connection.
pub(super) struct Http1 {
    /// None: it is over.
    driver: Option<Connection<TokioIo<Meter>, Body>>,
    /// The driver must not be polled again; if the connection was upgraded, it still has the bytes.
    ended: bool,
    sender: SendRequest<Body>,
    written: Rc<Cell<u64>>,
    born: Instant,
    /// Since when nobody uses it.
    pub(super) idle_since: Instant,
    requests: u32,
    options: Rc<Options>,
    /// Its key was retired.
    pub(super) retired: Rc<Cell<bool>>,
}

/// What came of a request.
type Sent = Result<Response<Incoming>, (hyper::Error, Option<Request<Body>>)>;

pub(super) async fn send<K: Hash + Eq + Clone + 'static, E: 'static>(
    shelf: &Rc<Shelf<K>>,
    key: &K,
    options: &Options,
    connect: impl AsyncFnOnce() -> Result<BoxIo, E>,
    outgoing: Outgoing,
) -> Result<Answer, Failure<E>> {
    let Written {
        mut request,
        upgrade,
        ..
    } = write(outgoing, Protocol::Http1)?;
    let sending = (!request.body().is_end()).then(Rc::<Counter>::default);
    if let Some(sending) = &sending {
        request = request.map(|body| body.counted(sending));
    }
    let mut connect = Some(connect);
    for tries in 0.. {
        let mut pooled = if tries < limits::STALE_TRIES {
            shelf.take(key)
        } else {
            None
        };
        let mut admitted = None;
        if pooled.is_none()
            && connect.is_some()
            && let Some(limits) = &options.limits
        {
            match admit(shelf, key, &**limits).await? {
                Admitted::Pooled(connection) => pooled = Some(connection),
                Admitted::Seat(seat, waiting) => admitted = Some((seat, waiting)),
            }
        }
        let reused = pooled.is_some();
        let mut connection = match (pooled, connect.take()) {
            (Some(connection), unused) => {
                connect = unused;
                connection
            }
            (None, Some(connect)) => {
                let io = make(connect, options).await?;
                let io = match admitted {
                    None => io,
                    Some((seat, waiting)) => {
                        drop(waiting);
                        seat.with(io)
                    }
                };
                Http1::begin(io, options, shelf.retired(key)).await?
            }
            (None, None) => break,
        };
        let before = connection.written.get();
        match connection.exchange(request).await {
            Ok(response) => {
                judge(&response, upgrade.is_some())?;
                let sending = sending.is_some_and(|sending| sending.ended() == End::Not);
                return Ok(connection.answer(response, upgrade, sending, shelf, key, reused));
            }
            Err((_, Some(unsent))) if reused && connection.written.get() == before => {
                request = unsent;
            }
            Err((error, _)) => {
                let wrote = connection.written.get() > before;
                return Err(Failure::from_hyper(&error, wrote).on_reused(reused));
            }
        }
    }
    Err(Failure::of(Cause::Closed))
}

/// The way to a connection, where they are limited.
enum Admitted {
    /// One fell free.
    Pooled(Box<Http1>),
    /// A new one may be made; until it is there, the request waits.
    Seat(Seat, Held),
}

async fn admit<K: Hash + Eq + Clone + 'static, E>(
    shelf: &Rc<Shelf<K>>,
    key: &K,
    limits: &dyn Limits,
) -> Result<Admitted, Failure<E>> {
    let full = |full| Failure::of(Cause::Overflow(full));
    let waiting = limits.waiting().map_err(full)?;
    let seats = shelf.seats(key);
    loop {
        if let Some(seat) = seats.take(limits) {
            return Ok(Admitted::Seat(seat, waiting));
        }
        seats.freed().await;
        if let Some(connection) = shelf.take(key) {
            return Ok(Admitted::Pooled(connection));
        }
    }
}

impl Http1 {
    async fn begin<E>(
        io: BoxIo,
        options: &Options,
        retired: Rc<Cell<bool>>,
    ) -> Result<Box<Self>, Failure<E>> {
        let (meter, written) = Meter::new(io);
        // Of headers, the library takes as many as we do of clients (and as Envoy): to say so would cost lists on the heap for each.
        let (sender, driver) = Builder::new()
            .max_buf_size(limits::HTTP1_BUFFER * 2)
            .handshake(TokioIo::new(meter))
            .await
            .map_err(|error| Failure::from_hyper(&error, false))?;
        let now = Instant::now();
        Ok(Box::new(Self {
            driver: Some(driver),
            ended: false,
            sender,
            written,
            born: now,
            idle_since: now,
            requests: 0,
            options: Rc::new(options.clone()),
            retired,
        }))
    }

    /// Moves the connection on. At its end it is shut down, unless it has become something else.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && (self.ended || Pin::new(driver).poll(cx).is_ready())
        {
            self.driver = None;
        }
    }

    /// Takes leave in order: a connection that is only dropped may look like one that failed.
    pub(super) fn close(self) {
        let Self {
            driver,
            sender,
            ended,
            ..
        } = self;
        drop(sender);
        if let (Some(driver), false) = (driver, ended) {
            tokio::task::spawn_local(tokio::time::timeout(limits::LINGER, driver));
        }
    }

    /// Sends a request, and waits for the head of the answer.
    async fn exchange(&mut self, request: Request<Body>) -> Sent {
        self.requests += 1;
        let mut answer = pin!(self.sender.try_send_request(request));
        let sent = poll_fn(|cx| {
            if let Some(driver) = &mut self.driver
                && Pin::new(driver).poll(cx).is_ready()
            {
                // An upgraded connection has ended, too: its bytes are still needed.
                self.ended = true;
                if let Poll::Ready(sent) = answer.as_mut().poll(cx) {
                    return Poll::Ready(sent);
                }
                self.driver = None;
            }
            answer.as_mut().poll(cx)
        })
        .await;
        sent.map_err(|mut failed| {
            let request = failed.take_message();
            (failed.into_error(), request)
        })
    }

    fn answer<K: Hash + Eq + Clone + 'static>(
        mut self: Box<Self>,
        response: Response<Incoming>,
        upgrade: Option<Box<str>>,
        sending: bool,
        shelf: &Rc<Shelf<K>>,
        key: &K,
        reused: bool,
    ) -> Answer {
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(protocol)) = (response.status(), upgrade) {
            let upgrade = self.upgraded(&protocol);
            let response = response.map(|_| Body::empty());
            return Answer {
                response,
                upgrade,
                reused,
            };
        }
        let response = response.map(|incoming| {
            if sending {
                return self.go_on_alone(incoming);
            }
            if incoming.is_end_stream() {
                drop(incoming);
                self.drive(&mut Context::from_waker(Waker::noop()));
                shelf.put(key, self);
                return Body::empty();
            }
            Body::from_body(Receiving {
                incoming,
                connection: Some(self),
                shelf: Rc::downgrade(shelf),
                key: key.clone(),
            })
        });
        Answer {
            response,
            upgrade: None,
            reused,
        }
    }

    /// The request is still being sent: both directions must go on whoever waits for what.
    fn go_on_alone(self: Box<Self>, incoming: Incoming) -> Body {
        let Self {
            driver,
            sender,
            ended,
            ..
        } = *self;
        if let (Some(driver), false) = (driver, ended) {
            tokio::task::spawn_local(async move {
                if let Err(error) = driver.await {
                    tracing::debug!(target: "http", %error, "an upstream connection ended");
                }
            });
        }
        // No further request: the connection ends with this exchange.
        drop(sender);
        Body::incoming(incoming)
    }

    /// The bytes of a connection that speaks something else now.
    fn upgraded(mut self: Box<Self>, protocol: &str) -> Option<Upgrade> {
        let mut driver = self.driver.take()?;
        if !self.ended {
            // Ends now, as the head of the answer is there. Once more would shut the connection down.
            let _ = Pin::new(&mut driver).poll(&mut Context::from_waker(Waker::noop()));
        }
        let parts = driver.into_parts();
        let io = parts.io.into_inner().with_unread(parts.read_buf);
        let (upgrade, sender) = Upgrade::http1(protocol);
        // The receiver is at hand.
        let _ = sender.send(Box::new(io));
        Some(upgrade)
    }

    /// Whether it can take another request. A connection that has died meanwhile is noticed here.
    pub(super) fn is_usable(&mut self, now: Instant) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_fit(now)
    }

    /// The same, as far as is known from when it was last moved on.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        let options = &self.options;
        self.driver.is_some()
            && self.sender.is_ready()
            && !self.retired.get()
            && options.max_requests.is_none_or(|most| self.requests < most)
            && options.max_age.is_none_or(|most| now - self.born < most)
            && now - self.idle_since < options.idle
    }
}

/// The body of an answer, and the connection that it comes on. At its end, the connection is free for the next request.
struct Receiving<K: Hash + Eq + Clone + 'static> {
    incoming: Incoming,
    connection: Option<Box<Http1>>,
    shelf: Weak<Shelf<K>>,
    key: K,
}

impl<K: Hash + Eq + Clone + 'static> Receiving<K> {
    fn finish(&mut self, cx: &mut Context<'_>) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        connection.drive(cx);
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.put(&self.key, connection);
        }
    }
}

impl<K: Hash + Eq + Clone + 'static> Unpin for Receiving<K> {}

impl<K: Hash + Eq + Clone + 'static> hyper::body::Body for Receiving<K> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let this = &mut *self;
        if let Some(connection) = &mut this.connection {
            connection.drive(cx);
        }
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => this.finish(cx),
            Poll::Ready(Some(Ok(_))) if this.incoming.is_end_stream() => this.finish(cx),
            _ => {}
        }
        polled.map_err(|error| BodyError::from_hyper(&error))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
