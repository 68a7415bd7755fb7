//! Requests in an open loop that goes on after failures and counts them: what users notice of an operation.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::open::Tally;
use super::requests::{END, length, request};
use super::{CONNECTION_DEADLINE, Outcome};

/// Bytes of an answer, at most.
const MAX_ANSWER: usize = 64 << 10;

/// What to ask.
#[derive(Debug, Clone)]
pub struct Asking {
    /// host:port.
    pub to: String,
    /// Sent as Host.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Requests per second.
    pub rate: u32,
    /// How long.
    pub seconds: f64,
    /// Answers whose head holds this text are told apart from others.
    pub mark: String,
}

/// Asks at a steady rate. Connections are used again; one that turns out to be closed before it answered anything is replaced once,
/// as every HTTP client does with a GET.
///
/// # Errors
/// Never for requests that fail: these are counted.
pub async fn ask(asking: &Asking) -> Result<Outcome> {
    let client = Rc::new(Client {
        to: asking.to.clone(),
        request: request(&asking.host, &asking.target),
        mark: asking.mark.clone().into_bytes(),
        idle: RefCell::default(),
        tally: RefCell::new(Tally::new()?),
    });
    let local = LocalSet::new();
    let started = Instant::now();
    let interval = Duration::from_secs_f64(1.0 / f64::from(asking.rate));
    local
        .run_until(async {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            while started.elapsed().as_secs_f64() < asking.seconds {
                ticks.tick().await;
                let client = client.clone();
                tokio::task::spawn_local(async move { client.one().await });
            }
        })
        .await;
    // Those that are still under way end within their deadline.
    local.await;
    let client = Rc::try_unwrap(client).map_err(|_| anyhow!("a request outlived its deadline"))?;
    Ok(client.tally.into_inner().finish())
}

struct Client {
    to: String,
    request: Vec<u8>,
    mark: Vec<u8>,
    idle: RefCell<Vec<TcpStream>>,
    tally: RefCell<Tally>,
}

/// A connection without an answer; nothing of one had come.
struct Stale;

impl Client {
    async fn one(&self) {
        let begun = Instant::now();
        let answered = tokio::time::timeout(CONNECTION_DEADLINE, self.exchange()).await;
        let answered = answered.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
        let mut tally = self.tally.borrow_mut();
        match answered {
            Ok(marked) => {
                tally.success(begun.elapsed());
                tally.marked(marked);
            }
            Err(error) => tally.failure(&error),
        }
    }

    /// Whether the answer holds the mark.
    async fn exchange(&self) -> Result<bool> {
        let idle = self.idle.borrow_mut().pop();
        if let Some(stream) = idle {
            match self.on(stream).await? {
                Ok(marked) => return Ok(marked),
                Err(Stale) => self.tally.borrow_mut().retried(),
            }
        }
        let stream = TcpStream::connect(&self.to).await.context("connect")?;
        stream.set_nodelay(true)?;
        match self.on(stream).await? {
            Ok(marked) => Ok(marked),
            Err(Stale) => bail!("a new connection ended without an answer"),
        }
    }

    async fn on(&self, mut stream: TcpStream) -> Result<Result<bool, Stale>> {
        if stream.write_all(&self.request).await.is_err() {
            return Ok(Err(Stale));
        }
        let mut answer = Vec::new();
        let head = loop {
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) if answer.is_empty() => return Ok(Err(Stale)),
                Ok(0) => bail!("the connection ended within the answer's head"),
                Ok(_) => {}
                Err(error) => return Err(error).context("the answer's head"),
            }
            if let Some(found) = answer.windows(END.len()).position(|w| w == END) {
                break found + END.len();
            }
            ensure!(answer.len() < MAX_ANSWER, "an endless head");
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        if !text.starts_with("http/1.1 200") {
            bail!("{}", text.lines().next().unwrap_or_default());
        }
        let whole = head + length(&text).context("an answer without Content-Length")?;
        ensure!(whole <= MAX_ANSWER, "an endless answer");
        while answer.len() < whole {
            let n = stream.read_buf(&mut answer).await.context("the body")?;
            ensure!(n > 0, "the connection ended within the answer's body");
        }
        if !text.contains("\r\nconnection: close") {
            self.idle.borrow_mut().push(stream);
        }
        let marked = !self.mark.is_empty()
            && text
                .as_bytes()
                .windows(self.mark.len())
                .any(|w| w == self.mark);
        Ok(Ok(marked))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    /// Asks a server that plays these answers, one connection each.
    fn asked(rate: u32, answers: &'static [&'static str]) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = listener.local_addr().unwrap().to_string();
            let server = tokio::spawn(async move {
                for answer in answers.iter().cycle() {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut sink = [0; 1024];
                    while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        if answer.is_empty() || answer.contains("close") {
                            break;
                        }
                    }
                }
            });
            let asking = Asking {
                to,
                host: "a.example".into(),
                target: "/".into(),
                rate,
                seconds: 0.3,
                mark: "x-version: 2".into(),
            };
            let outcome = ask(&asking).await.unwrap();
            server.abort();
            outcome
        })
    }

    #[test]
    fn failures_are_counted_and_do_not_end_the_loop() {
        let outcome = asked(20, &["HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n"]);
        assert!(outcome.failed >= 5 && outcome.ok == 0, "{outcome:?}");
        assert!(
            outcome.errors.keys().all(|k| k.contains("503")),
            "{outcome:?}"
        );
        let outcome = asked(20, &[""]);
        assert!(outcome.failed >= 5, "{outcome:?}");
    }

    #[test]
    fn a_mark_is_told_apart_by_time() {
        let outcome = asked(
            10,
            &[
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nX-Version: 2\r\ncontent-length: 1\r\n\r\na",
            ],
        );
        assert!(outcome.ok >= 3 && outcome.failed == 0, "{outcome:?}");
        assert!(
            outcome.first_marked_at_ms > outcome.last_unmarked_at_ms,
            "{outcome:?}"
        );
        assert!(outcome.last_unmarked_at_ms > 0.0, "{outcome:?}");
    }
}
