//! HTTP/1.1 and 1.0.

use std::future::{Future, poll_fn};
use std::pin::Pin;

use ::http::Response;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Exchange, Request, ServeError, Stage, Stop};
use crate::body::Body;
use crate::gate::{Control, Gate};
use crate::io::Io;
use crate::limits;

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
    let settings = std::rc::Rc::clone(&exchange.settings);
    let (control, upgrading) = (exchange.control.clone(), exchange.upgrading.clone());
    let gate = Gate::new(io, held, &control, settings.limits, settings.clocks());
    let mut builder = Builder::new();
    builder.max_buf_size(limits::HTTP1_BUFFER.max(settings.limits.head + 4096));
    if settings.limits.headers != limits::MAX_HEADERS {
        // The library's own limit is the same as ours, and costs no list on the heap for each head.
        builder.max_headers(settings.limits.headers);
    }
    let mut connection = builder.serve_connection(TokioIo::new(gate), exchange);
    let mut told = false;
    let ended = poll_fn(|cx| {
        match stop.poll(cx) {
            Stage::Serving => {}
            Stage::Draining => control.draining.set(true),
            Stage::Closing if !told => {
                told = true;
                control.draining.set(true);
                Pin::new(&mut connection).graceful_shutdown();
            }
            Stage::Closing => {}
        }
        connection.poll_without_shutdown(cx)
    })
    .await;
    let parts = connection.into_parts();
    let mut gate = parts.io.into_inner();
    ended?;
    if let Some(upgrading) = upgrading.take() {
        gate.open(&parts.read_buf);
        // Whoever asked for the upgrade may have lost interest: then the connection closes.
        let _ = upgrading.waiting.send(Box::new(gate));
        return Ok(());
    }
    drop(parts.service);
    let refusal = control.refusal.take();
    if let Some(refusal) = &refusal {
        if let Some(refused) = &settings.refused {
            refused(refusal);
        }
        gate.write_all(&refusal.bytes()).await?;
    }
    say_goodbye(gate, &control).await?;
    refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Ends what we send, and reads what is still under way, so that our last words are not lost to a reset.
async fn say_goodbye<I: Io>(mut gate: Gate<I>, control: &Control) -> std::io::Result<()> {
    gate.shutdown().await?;
    if control.client_ended.get() {
        return Ok(());
    }
    gate.open(&[]);
    let listen = async {
        let mut sink = [0; 4096];
        let mut left = limits::LINGER_BYTES;
        while let Ok(n @ 1..) = gate.read(&mut sink).await {
            left = left.saturating_sub(n);
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(limits::LINGER, listen).await;
    Ok(())
}
