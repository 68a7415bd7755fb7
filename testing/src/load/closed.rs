//! Closed loop: as fast as the answers come. For benches: rates and percentiles, never pass or fail.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::Outcome;
use super::serve::ONCE;

/// Unit of bulk writes.
const BULK_WRITE: usize = 256 << 10;

pub(super) type Latencies = Rc<RefCell<hdrhistogram::Histogram<u64>>>;

pub(super) fn latencies() -> anyhow::Result<Latencies> {
    Ok(Rc::new(RefCell::new(
        hdrhistogram::Histogram::new_with_bounds(1, 60_000_000, 3)?,
    )))
}

pub(super) fn outcome(latencies: &Latencies, started: Instant, bytes: u64) -> Outcome {
    let histogram = latencies.borrow();
    let seconds = started.elapsed().as_secs_f64();
    Outcome {
        ok: histogram.len(),
        rate: histogram.len() as f64 / seconds,
        bytes,
        p50_us: histogram.value_at_quantile(0.5) as f64,
        p99_us: histogram.value_at_quantile(0.99) as f64,
        seconds,
        ..Outcome::default()
    }
}

pub(super) fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros().try_into().unwrap_or(u64::MAX)
}

/// `size` bytes there and back, in turn, on each connection.
pub async fn request_response(
    to: &str,
    connections: usize,
    size: usize,
    seconds: f64,
) -> anyhow::Result<Outcome> {
    let latencies = latencies()?;
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let task = |stream: TcpStream, latencies: Latencies| async move {
        let mut stream = stream;
        let request = vec![b'E'; size];
        let mut response = vec![0; size];
        while Instant::now() < end {
            let begun = Instant::now();
            stream.write_all(&request).await?;
            stream.read_exact(&mut response).await?;
            latencies.borrow_mut().saturating_record(micros(begun));
        }
        anyhow::Ok(())
    };
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let stream = connect(to).await?;
        tasks.push(local.spawn_local(task(stream, latencies.clone())));
    }
    local.await;
    for task in tasks {
        task.await??;
    }
    Ok(outcome(&latencies, started, 0))
}

/// Connect, 64 bytes there and back, and the server closes.
pub async fn connect_request_close(
    to: &str,
    connections: usize,
    seconds: f64,
) -> anyhow::Result<Outcome> {
    let latencies = latencies()?;
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (to, latencies) = (to.to_owned(), latencies.clone());
        tasks.push(local.spawn_local(async move {
            while Instant::now() < end {
                let begun = Instant::now();
                let mut stream = connect(&to).await?;
                stream.write_all(&ONCE).await?;
                stream.read_exact(&mut [0; ONCE.len()]).await?;
                // Not to be the first to close: see the server.
                let more = stream.read(&mut [0; 1]).await?;
                ensure!(more == 0, "the server says more than it was asked for");
                drop(stream);
                latencies.borrow_mut().saturating_record(micros(begun));
            }
            anyhow::Ok(())
        }));
    }
    local.await;
    for task in tasks {
        task.await??;
    }
    Ok(outcome(&latencies, started, 0))
}

/// Pushes until the time is over, then waits for the sink's count.
pub async fn bulk(to: &str, connections: usize, seconds: f64) -> anyhow::Result<Outcome> {
    let latencies = latencies()?;
    let total = Rc::new(Cell::new(0u64));
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (to, total) = (to.to_owned(), total.clone());
        tasks.push(local.spawn_local(async move {
            let mut stream = connect(&to).await?;
            let block = vec![b'S'; BULK_WRITE];
            while Instant::now() < end {
                stream.write_all(&block).await?;
            }
            stream.shutdown().await?;
            let received = stream.read_u64().await.context("the sink's count")?;
            total.set(total.get() + received);
            anyhow::Ok(())
        }));
    }
    local.await;
    for task in tasks {
        task.await??;
    }
    Ok(outcome(&latencies, started, total.get()))
}

async fn connect(to: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
