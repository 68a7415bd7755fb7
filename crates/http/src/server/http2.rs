//! HTTP/2.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use ::http::Response;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::sniff::PREFACE;
use super::{Exchange, Request, ServeError, Stage, Stop};
use crate::body::Body;
use crate::gate::{Gate, expired};
use crate::io::{Io, Worker};
use crate::limits;
use crate::rules::Refusal;

pub(super) async fn serve<I, H, S>(
    io: I,
    held: Vec<u8>,
    exchange: Exchange<H>,
    mut stop: Stop<S>,
) -> Result<(), ServeError>
where
    I: Io + 'static,
    H: AsyncFn(Request) -> Response<Body> + 'static,
    S: Future<Output = ()>,
{
    let settings = Rc::clone(&exchange.settings);
    let control = exchange.control.clone();
    let mut gate = Gate::new(io, held, &control, settings.limits, settings.clocks());
    gate.count_frames(PREFACE.len())?;
    let mut builder = Builder::new(Worker);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_streams)
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(u32::try_from(settings.limits.head).unwrap_or(u32::MAX))
        .max_send_buf_size(limits::STREAM_UNSENT)
        .enable_connect_protocol();
    if let Some(ping) = settings.ping {
        builder.keep_alive_interval(ping).keep_alive_timeout(ping);
    }
    let mut connection = builder.serve_connection(TokioIo::new(gate), exchange);
    let (mut leaving, mut idle_since, mut idle) = (false, None, None);
    let (mut open_since, mut open) = (None, None);
    let ended = poll_fn(|cx| {
        if !leaving && stop.poll(cx) != Stage::Serving {
            leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ended.map_err(ServeError::from));
        }
        if control.has_open_head() {
            let since = *open_since.get_or_insert_with(Instant::now);
            if expired(&mut open, since + settings.head_deadline, cx).is_ready() {
                return Poll::Ready(Err(Refusal::too_slow().into()));
            }
        } else {
            open_since = None;
        }
        if control.in_flight() > 0 || leaving {
            idle_since = None;
            return Poll::Pending;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if expired(&mut idle, since + settings.idle, cx).is_ready() {
            leaving = true;
            Pin::new(&mut connection).graceful_shutdown();
            let polled = Pin::new(&mut connection).poll(cx);
            return polled.map_err(ServeError::from);
        }
        Poll::Pending
    })
    .await;
    if let (Err(ServeError::Refused(refusal)), Some(refused)) = (&ended, &settings.refused) {
        refused(refusal);
    }
    ended
}
