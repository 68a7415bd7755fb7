//! HTTP/2 upstreams: many requests on one connection, up to a number of streams.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ::http::{Response, StatusCode};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming, SizeHint};
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::seats::Seats;
use super::shelf::{Flight, Shelf};
use super::{Answer, Cause, Failure, Options, Outgoing, Protocol, Written, judge, make, write};
use crate::body::{Body, BodyError, Frame};
use crate::io::{BoxIo, Worker};
use crate::limits;
use crate::upgrade::{self, Upgrade};

/// One connection.
pub(super) struct Http2 {
    sender: SendRequest<Body>,
    /// Its task drives it; here it is only asked.
    driver: Rc<RefCell<Connection<TokioIo<BoxIo>, Body, Worker>>>,
    streams: Rc<Cell<usize>>,
    /// Told when there is room again, where connections are limited.
    seats: Option<Rc<Seats>>,
    born: Instant,
    used: Cell<Instant>,
    requests: Cell<u32>,
    options: Options,
}

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
        key: websocket_key,
    } = write(outgoing, Protocol::Http2)?;
    let mut connect = Some(connect);
    for _ in 0..=limits::STALE_TRIES {
        let (connection, reused) = ready(shelf, key, options, &mut connect).await?;
        let stream = connection.begin_stream();
        if upgrade.is_some() && !connection.takes_extended_connect().await {
            return Err(Failure::of(Cause::Unsupported(
                "the upstream does not take WebSocket in HTTP/2",
            )));
        }
        match connection.sender.clone().try_send_request(request).await {
            Ok(response) => {
                judge(&response, upgrade.is_some())?;
                let wanted = upgrade.as_deref();
                return Ok(answer(
                    response,
                    wanted,
                    websocket_key.as_ref(),
                    stream,
                    reused,
                ));
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                let failure = Failure::from_hyper(failed.error(), unsent.is_none());
                let failure = failure.on_reused(reused);
                match unsent {
                    // It ended while we looked away.
                    Some(unsent) if reused => {
                        shelf.forget(key, &connection);
                        request = unsent;
                    }
                    _ => return Err(failure),
                }
            }
        }
    }
    Err(Failure::of(Cause::Closed))
}

/// A connection with room: pooled, or made here, or made by somebody else meanwhile.
async fn ready<K: Hash + Eq + Clone + 'static, E: 'static, C: AsyncFnOnce() -> Result<BoxIo, E>>(
    shelf: &Rc<Shelf<K>>,
    key: &K,
    options: &Options,
    connect: &mut Option<C>,
) -> Result<(Rc<Http2>, bool), Failure<E>> {
    let mut waiting = None;
    loop {
        if let Some(connection) = shelf.shared(key) {
            return Ok((connection, true));
        }
        if let (Some(limits), None) = (&options.limits, &waiting) {
            let full = |full| Failure::of(Cause::Overflow(full));
            waiting = Some(limits.waiting().map_err(full)?);
        }
        if let Some(flight) = shelf.making(key) {
            if let Some(error) = flight.landed().await {
                // Somebody else may have made it with another kind of error: then find out for ourselves.
                if let Ok(error) = error.downcast::<E>() {
                    return Err(Failure::of(Cause::Connect(error)));
                }
            }
            continue;
        }
        if connect.is_none() {
            return Err(Failure::of(Cause::Closed));
        }
        let mut seat = None;
        if let Some(limits) = &options.limits {
            let seats = shelf.seats(key);
            let Some(taken) = seats.take(&**limits) else {
                seats.freed().await;
                continue;
            };
            seat = Some((taken, seats));
        }
        let Some(connect) = connect.take() else {
            return Err(Failure::of(Cause::Closed));
        };
        let flight = Flight::begin(shelf, key);
        match make(connect, options).await {
            Ok(io) => {
                let (io, seats) = match seat {
                    None => (io, None),
                    Some((seat, seats)) => (seat.with(io), Some(seats)),
                };
                let connection = Http2::begin(io, options, seats).await?;
                if !flight.is_retired() {
                    shelf.share(key, &connection);
                }
                return Ok((connection, false));
            }
            Err(failure) => {
                if let Cause::Connect(error) = &failure.cause {
                    flight.fail(Rc::clone(error) as Rc<dyn std::any::Any>);
                }
                return Err(failure);
            }
        }
    }
}

impl Http2 {
    async fn begin<E>(
        io: BoxIo,
        options: &Options,
        seats: Option<Rc<Seats>>,
    ) -> Result<Rc<Self>, Failure<E>> {
        let mut builder = Builder::new(Worker);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_header_list_size(limits::MAX_HEAD as u32)
            .max_send_buf_size(limits::STREAM_UNSENT)
            .max_concurrent_reset_streams(limits::RESET_STREAMS);
        if let Some(ping) = options.ping {
            builder.keep_alive_interval(ping).keep_alive_timeout(ping);
        }
        let (sender, driver) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::from_hyper(&error, false))?;
        let driver = Rc::new(RefCell::new(driver));
        let driven = Rc::clone(&driver);
        tokio::task::spawn_local(async move {
            let driving = poll_fn(|cx| Pin::new(&mut *driven.borrow_mut()).poll(cx));
            if let Err(error) = driving.await {
                tracing::debug!(target: "http", %error, "an upstream connection ended");
            }
        });
        let now = Instant::now();
        Ok(Rc::new(Self {
            sender,
            driver,
            streams: Rc::default(),
            seats,
            born: now,
            used: Cell::new(now),
            requests: Cell::new(0),
            options: options.clone(),
        }))
    }

    fn begin_stream(&self) -> StreamCount {
        self.streams.set(self.streams.get() + 1);
        self.requests.set(self.requests.get().saturating_add(1));
        StreamCount {
            streams: Rc::clone(&self.streams),
            seats: self.seats.clone(),
        }
    }

    /// Whether it takes new streams at all.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        if self.streams.get() > 0 {
            self.used.set(now);
        }
        let options = &self.options;
        let fresh = now - self.used.get() < options.idle;
        !self.sender.is_closed()
            && fresh
            && options
                .max_requests
                .is_none_or(|most| self.requests.get() < most)
            && options.max_age.is_none_or(|most| now - self.born < most)
    }

    /// Whether it takes another stream now.
    pub(super) fn has_room(&self) -> bool {
        // Only while it is driven it cannot be asked.
        let allowed = self
            .driver
            .try_borrow()
            .map_or(1, |driver| driver.current_max_send_streams());
        self.streams.get() < self.options.max_streams.min(allowed.max(1))
    }

    /// The peer's SETTINGS say it; they may still be on their way.
    async fn takes_extended_connect(&self) -> bool {
        let due = Instant::now() + limits::TEND_EVERY;
        let enabled = || {
            let driver = self.driver.try_borrow();
            driver.is_ok_and(|driver| driver.is_extended_connect_protocol_enabled())
        };
        while !enabled() {
            if self.sender.is_closed() || Instant::now() >= due {
                return false;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        true
    }
}

fn answer(
    mut response: Response<Incoming>,
    upgrade: Option<&str>,
    key: Option<&::http::HeaderValue>,
    stream: StreamCount,
    reused: bool,
) -> Answer {
    if let (StatusCode::OK, Some(protocol)) = (response.status(), upgrade) {
        let on = hyper::upgrade::on(&mut response);
        let (mut head, _) = response.into_parts();
        upgrade::response_from_http2(&mut head, protocol, key);
        debug_assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
        // The stream lives on: it no longer counts, as nobody here sees its end.
        drop(stream);
        return Answer {
            response: Response::from_parts(head, Body::empty()),
            upgrade: Some(Upgrade::http2(protocol, on)),
            reused,
        };
    }
    let response = response.map(|incoming| {
        if incoming.is_end_stream() {
            return Body::empty();
        }
        Body::from_body(Receiving {
            incoming,
            _stream: stream,
        })
    });
    Answer {
        response,
        upgrade: None,
        reused,
    }
}

/// A stream that is open.
struct StreamCount {
    streams: Rc<Cell<usize>>,
    seats: Option<Rc<Seats>>,
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        if let Some(seats) = &self.seats {
            seats.free();
        }
    }
}

struct Receiving {
    incoming: Incoming,
    _stream: StreamCount,
}

impl hyper::body::Body for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        polled.map_err(|error| BodyError::from_hyper(&error))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
