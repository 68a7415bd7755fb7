//! Two sockets, no tunnel: passthrough and inbound plaintext.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::{Counters, EndReason, RelayEnd, StopReason, shutdown_write};
use crate::limits;
use crate::socket::{self, would_block};

/// Moves bytes between two sockets until both directions are closed, one fails, or `stop` says so. Failures reach the other
/// side as a reset. No buffer is held while nothing moves.
pub async fn plain(
    a: TcpStream,
    b: TcpStream,
    counters: &Rc<Counters>,
    stop: impl Future<Output = StopReason>,
) -> RelayEnd {
    let (mut a, mut b) = (a, b);
    let mut stop = pin!(stop);
    let (mut there, mut back) = (Direction::default(), Direction::default());
    let reason = poll_fn(|cx| {
        if let Poll::Ready(reason) = stop.as_mut().poll(cx) {
            return Poll::Ready(EndReason::Stopped(reason));
        }
        if let Err(side) = there.pump(cx, &mut a, &mut b, &counters.to_tunnel) {
            return Poll::Ready(side.of(EndReason::AppReset, EndReason::PeerReset(0)));
        }
        if let Err(side) = back.pump(cx, &mut b, &mut a, &counters.to_app) {
            return Poll::Ready(side.of(EndReason::PeerReset(0), EndReason::AppReset));
        }
        if there.done && back.done {
            return Poll::Ready(EndReason::Clean);
        }
        Poll::Pending
    })
    .await;
    if !matches!(reason, EndReason::Clean) {
        for socket in [&a, &b] {
            let _ = socket.set_zero_linger();
        }
    }
    RelayEnd {
        to_tunnel: counters.to_tunnel.get(),
        to_app: counters.to_app.get(),
        reason,
    }
}

/// One direction.
#[derive(Default)]
struct Direction {
    /// What the sink did not take yet: `kept[taken..]`.
    kept: Vec<u8>,
    taken: usize,
    /// The source said that it is done.
    ended: bool,
    /// And the sink knows.
    done: bool,
}

/// Who failed.
enum Failed {
    Source,
    Sink,
}

impl Failed {
    fn of(self, source: EndReason, sink: EndReason) -> EndReason {
        match self {
            Self::Source => source,
            Self::Sink => sink,
        }
    }
}

impl Direction {
    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut TcpStream,
        sink: &mut TcpStream,
        counter: &std::cell::Cell<u64>,
    ) -> Result<(), Failed> {
        for _ in 0..limits::APP_READS_PER_TURN {
            if !self.flush(cx, sink).map_err(|_| Failed::Sink)? {
                return Ok(());
            }
            if self.ended {
                if !self.done {
                    self.done = true;
                    shutdown_write(sink).map_err(|_| Failed::Sink)?;
                }
                return Ok(());
            }
            match source.poll_read_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Failed::Source),
            }
            let n = self.transfer(source, sink)?;
            counter.set(counter.get() + n as u64);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// One read and one write through the worker's buffer.
    fn transfer(&mut self, source: &TcpStream, sink: &TcpStream) -> Result<usize, Failed> {
        socket::with_scratch(|scratch| {
            let n = match socket::read(source, &mut scratch.bytes) {
                Ok(n) => n,
                Err(error) if would_block(&error) => return Ok(0),
                Err(_) => return Err(Failed::Source),
            };
            if n == 0 {
                self.ended = true;
                return Ok(0);
            }
            let written = match sink.try_write(&scratch.bytes[..n]) {
                Ok(written) => written,
                Err(error) if would_block(&error) => 0,
                Err(_) => return Err(Failed::Sink),
            };
            self.kept.extend_from_slice(&scratch.bytes[written..n]);
            Ok(n)
        })
    }

    /// Whether nothing is kept any more.
    fn flush(&mut self, cx: &mut Context<'_>, sink: &TcpStream) -> io::Result<bool> {
        while self.taken < self.kept.len() {
            if sink.poll_write_ready(cx)?.is_pending() {
                return Ok(false);
            }
            match sink.try_write(&self.kept[self.taken..]) {
                Ok(n) => self.taken += n,
                Err(error) if would_block(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if self.taken > 0 {
            (self.kept, self.taken) = (Vec::new(), 0);
        }
        Ok(true)
    }
}
