//! Open loop: the next connection starts on time, whatever became of the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::{CONNECTION_DEADLINE, Outcome};

/// Most different error texts that an outcome lists.
const MAX_ERROR_TEXTS: usize = 20;

/// Outcomes as they come.
pub(super) struct Tally {
    outcome: Outcome,
    started: Instant,
    last_success: Instant,
    took: hdrhistogram::Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        let now = Instant::now();
        let took = hdrhistogram::Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self {
            outcome: Outcome::default(),
            started: now,
            last_success: now,
            took,
        })
    }

    pub(super) fn success(&mut self, took: Duration) {
        let now = Instant::now();
        self.outcome.ok += 1;
        let gap = now.duration_since(self.last_success).as_secs_f64() * 1e3;
        self.outcome.longest_gap_ms = self.outcome.longest_gap_ms.max(gap);
        self.last_success = now;
        self.outcome.last_success_at_ms = now_ms();
        self.took
            .saturating_record(took.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// Whether the last success held the mark.
    pub(super) fn marked(&mut self, marked: bool) {
        if !marked {
            self.outcome.last_unmarked_at_ms = now_ms();
        } else if self.outcome.first_marked_at_ms == 0.0 {
            self.outcome.first_marked_at_ms = now_ms();
        }
    }

    /// A request goes on another connection.
    pub(super) fn retried(&mut self) {
        self.outcome.retried += 1;
    }

    pub(super) fn failure(&mut self, error: &anyhow::Error) {
        self.outcome.failed += 1;
        let at = self.started.elapsed().as_secs();
        let text = format!("{error:#} (second {at})");
        if self.outcome.errors.len() < MAX_ERROR_TEXTS || self.outcome.errors.contains_key(&text) {
            *self.outcome.errors.entry(text).or_default() += 1;
        }
    }

    pub(super) fn finish(mut self) -> Outcome {
        self.outcome.seconds = self.started.elapsed().as_secs_f64();
        self.outcome.rate = self.outcome.ok as f64 / self.outcome.seconds;
        self.outcome.p50_us = self.took.value_at_quantile(0.5) as f64;
        self.outcome.p99_us = self.took.value_at_quantile(0.99) as f64;
        self.outcome
    }
}

/// Milliseconds since 1970.
fn now_ms() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// New connections at `rate` per second: connect, 64 bytes and the marker there and back, close.
pub async fn new_connections(
    to: &str,
    rate: u32,
    seconds: f64,
    marker: &str,
) -> anyhow::Result<Outcome> {
    let request: Rc<[u8]> = [&[b'E'; 64], marker.as_bytes()].concat().into();
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let local = LocalSet::new();
    let started = Instant::now();
    let interval = Duration::from_secs_f64(1.0 / f64::from(rate));
    local
        .run_until(async {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            while started.elapsed().as_secs_f64() < seconds {
                ticks.tick().await;
                let (to, tally, request) = (to.to_owned(), tally.clone(), request.clone());
                tokio::task::spawn_local(async move {
                    let begun = Instant::now();
                    match one_exchange(&to, &request).await {
                        Ok(()) => tally.borrow_mut().success(begun.elapsed()),
                        Err(error) => tally.borrow_mut().failure(&error),
                    }
                });
            }
        })
        .await;
    // Those that are still under way end within the connection deadline.
    local.await;
    let tally =
        Rc::try_unwrap(tally).map_err(|_| anyhow::anyhow!("a connection outlived its deadline"))?;
    Ok(tally.into_inner().finish())
}

/// Holds connections open, a byte there and back on each every 200 ms; a failure ends that connection.
pub async fn hold(to: &str, connections: usize, seconds: f64) -> anyhow::Result<Outcome> {
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let local = LocalSet::new();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    for _ in 0..connections {
        let (to, tally) = (to.to_owned(), tally.clone());
        local.spawn_local(async move {
            match exchange_until(&to, end).await {
                Ok(()) => tally.borrow_mut().success(Duration::ZERO),
                Err(error) => tally.borrow_mut().failure(&error),
            }
        });
    }
    local.await;
    let tally =
        Rc::try_unwrap(tally).map_err(|_| anyhow::anyhow!("a connection outlived its deadline"))?;
    Ok(tally.into_inner().finish())
}

async fn one_exchange(to: &str, request: &[u8]) -> anyhow::Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(to)
            .await
            .map_err(|e| anyhow::anyhow!("connect: {e}"))?;
        stream
            .write_all(request)
            .await
            .map_err(|e| anyhow::anyhow!("write: {e}"))?;
        let mut response = vec![0; request.len()];
        stream
            .read_exact(&mut response)
            .await
            .map_err(|e| anyhow::anyhow!("read: {e}"))?;
        anyhow::ensure!(response == request, "the answer differs from the request");
        Ok(())
    };
    tokio::time::timeout(CONNECTION_DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| {
            Err(anyhow::anyhow!(
                "no answer within {} s",
                CONNECTION_DEADLINE.as_secs()
            ))
        })
}

async fn exchange_until(to: &str, end: Instant) -> anyhow::Result<()> {
    let mut stream = tokio::time::timeout(CONNECTION_DEADLINE, TcpStream::connect(to)).await??;
    while Instant::now() < end {
        stream.write_all(b"E").await?;
        let mut response = [0; 1];
        tokio::time::timeout(CONNECTION_DEADLINE, stream.read_exact(&mut response)).await??;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
