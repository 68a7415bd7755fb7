//! Requests with as little work as possible: HTTP/1.1 clients that count, and a server that answers everything alike. What stands
//! between the two is what is measured.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;

use super::Outcome;
use super::closed::{Latencies, latencies, micros, outcome};

/// Ends a head.
pub(super) const END: &[u8] = b"\r\n\r\n";
/// Bytes of a head, at most.
const MAX_HEAD: usize = 16 << 10;
/// Bytes of every answer's body.
const BODY: usize = 128;
/// Requests of an open loop that wait for a connection: more, and the rate cannot be carried.
const MAX_WAITING: usize = 20_000;

/// A request as a plain client sends it.
pub fn request(host: &str, target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: load/1.0\r\naccept: */*\r\n\
         accept-encoding: gzip, deflate\r\nx-session: 0123456789abcdef0123456789abcdef\r\n\r\n"
    )
    .into_bytes()
}

/// Answers every request on a connection with 200 and a short text. Requests have no body and do not overtake each other.
///
/// # Errors
/// When the connection fails, or something other than requests comes.
pub async fn answer(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let text = "a".repeat(BODY);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\n\
         cache-control: no-store\r\nserver: load\r\n\r\n{text}"
    );
    let mut buffer = Vec::with_capacity(MAX_HEAD);
    loop {
        buffer.clear();
        while !buffer.ends_with(END) {
            if buffer.len() >= MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if io.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        io.write_all(answer.as_bytes()).await?;
        io.flush().await?;
    }
}

/// One connection of a client.
pub struct Caller<S> {
    io: S,
    request: Rc<[u8]>,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Caller<S> {
    /// On an open connection.
    pub fn new(io: S, request: &Rc<[u8]>) -> Self {
        Self {
            io,
            request: request.clone(),
            buffer: Vec::with_capacity(MAX_HEAD),
        }
    }

    /// One request and its whole answer, which must be a success.
    ///
    /// # Errors
    /// When it is not, or the connection fails.
    pub async fn exchange(&mut self) -> Result<()> {
        self.io.write_all(&self.request).await?;
        self.io.flush().await?;
        self.buffer.clear();
        let head = loop {
            self.more().await?;
            let found = self.buffer.windows(END.len()).position(|w| w == END);
            if let Some(found) = found {
                break found + END.len();
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("the answer's head")?;
        if !text.starts_with("HTTP/1.1 200") {
            bail!("{}", text.lines().next().unwrap_or_default());
        }
        let whole = head + length(text).context("an answer without Content-Length")?;
        while self.buffer.len() < whole {
            self.more().await?;
        }
        ensure!(self.buffer.len() == whole, "more than one answer");
        Ok(())
    }

    async fn more(&mut self) -> Result<()> {
        let n = self.io.read_buf(&mut self.buffer).await?;
        ensure!(n > 0, "the connection ended before the answer did");
        Ok(())
    }
}

pub(super) fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let wanted = name.eq_ignore_ascii_case("content-length");
        wanted.then(|| value.trim().parse().ok())?
    })
}

/// Each connection asks again as soon as it has its answer.
///
/// # Errors
/// With the first request that fails.
pub async fn closed<S>(callers: Vec<Caller<S>>, seconds: f64) -> Result<Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let latencies = latencies()?;
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let task = move |mut caller: Caller<S>, latencies: Latencies| async move {
        while Instant::now() < end {
            let begun = Instant::now();
            caller.exchange().await?;
            latencies.borrow_mut().saturating_record(micros(begun));
        }
        anyhow::Ok(())
    };
    let all = callers.into_iter().map(|c| task(c, latencies.clone()));
    all_of(all).await?;
    Ok(outcome(&latencies, started, 0))
}

/// Requests begin on time, whatever became of the others, on whichever connection is free; one that has to wait for a connection
/// is late, and that counts.
///
/// # Errors
/// With the first request that fails, or when the rate cannot be carried.
pub async fn open<S>(callers: Vec<Caller<S>>, rate: f64, seconds: f64) -> Result<Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let latencies = latencies()?;
    let started = Instant::now();
    let due = Rc::new(Due::default());
    let (ticks, mut ticking) = mpsc::unbounded_channel();
    // The runtime's own timers are no finer than a millisecond.
    let clock = std::thread::spawn(move || keep_time(rate, seconds, &ticks));
    let task = |mut caller: Caller<S>, latencies: Latencies, due: Rc<Due>| async move {
        while let Some(begun) = due.next().await {
            caller.exchange().await?;
            latencies.borrow_mut().saturating_record(micros(begun));
        }
        anyhow::Ok(())
    };
    let all = callers
        .into_iter()
        .map(|c| task(c, latencies.clone(), due.clone()));
    let distribute = async {
        while let Some(tick) = ticking.recv().await {
            due.push(tick)?;
        }
        due.end();
        anyhow::Ok(())
    };
    tokio::try_join!(all_of(all), distribute)?;
    ensure!(clock.join().is_ok(), "the clock's thread panicked");
    Ok(outcome(&latencies, started, 0))
}

/// Requests whose time has come.
#[derive(Default)]
struct Due {
    waiting: RefCell<VecDeque<Instant>>,
    ended: Cell<bool>,
    changed: Notify,
}

impl Due {
    fn push(&self, at: Instant) -> Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push_back(at);
        ensure!(waiting.len() < MAX_WAITING, "the rate cannot be carried");
        self.changed.notify_one();
        Ok(())
    }

    fn end(&self) {
        self.ended.set(true);
        self.changed.notify_waiters();
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            if let Some(at) = self.waiting.borrow_mut().pop_front() {
                return Some(at);
            }
            if self.ended.get() {
                return None;
            }
            self.changed.notified().await;
        }
    }
}

fn keep_time(rate: f64, seconds: f64, ticks: &mpsc::UnboundedSender<Instant>) {
    // Without it, the kernel may let us sleep 50 us longer; that costs accuracy and nothing else.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let started = Instant::now();
    let mut sent = 0.0;
    while sent < rate * seconds {
        let due = started + Duration::from_secs_f64(sent / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if ticks.send(due).is_err() {
            return;
        }
        sent += 1.0;
    }
}

/// Runs all at once on this thread.
async fn all_of<F>(tasks: impl Iterator<Item = F>) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    let local = LocalSet::new();
    let tasks: Vec<_> = tasks.map(|task| local.spawn_local(task)).collect();
    local.await;
    for task in tasks {
        task.await??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn run<T>(what: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(LocalSet::new().run_until(what))
    }

    /// As many clients as asked for, each with a server of its own.
    fn pairs(count: usize) -> Vec<Caller<tokio::io::DuplexStream>> {
        let request: Rc<[u8]> = request("a.example", "/").into();
        let pair = |_| {
            let (near, far) = tokio::io::duplex(4096);
            tokio::task::spawn_local(answer(far));
            Caller::new(near, &request)
        };
        (0..count).map(pair).collect()
    }

    #[test]
    fn a_closed_loop_counts_what_was_answered() {
        let outcome = run(async { closed(pairs(3), 0.1).await.unwrap() });
        assert!(outcome.ok >= 3, "{outcome:?}");
        assert!(outcome.p99_us >= outcome.p50_us);
    }

    #[test]
    fn an_open_loop_asks_as_often_as_it_is_told() {
        let outcome = run(async { open(pairs(4), 500.0, 0.2).await.unwrap() });
        assert_eq!(outcome.ok, 100);
    }

    #[test]
    fn an_answer_that_is_no_success_ends_the_loop() {
        let outcome = run(async {
            let (near, mut far) = tokio::io::duplex(4096);
            tokio::task::spawn_local(async move {
                let mut sink = [0; 1024];
                assert_ne!(far.read(&mut sink).await.unwrap(), 0);
                let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
                far.write_all(answer).await.unwrap();
            });
            let request: Rc<[u8]> = request("a.example", "/").into();
            closed(vec![Caller::new(near, &request)], 1.0).await
        });
        let said = outcome.unwrap_err().to_string();
        assert_eq!(said, "HTTP/1.1 503 Service Unavailable");
    }
}
