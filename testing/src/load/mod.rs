//! Test traffic: a server that answers in a few fixed ways, and clients that count every outcome.
//!
//! The first byte that a client sends chooses the answer: `E` echo, `S` sink (swallow, then report the count), `O` one answer of 64
//! bytes and the end, `G` requests of HTTP. A port of its own speaks first.

mod ask;
mod closed;
mod open;
pub mod requests;
mod serve;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// Longest that one connection may take before it counts as failed.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Answer: echo or sink on PORT, server-first on PORT+1
    Serve {
        /// Port of the echo and sink server
        #[arg(long, default_value_t = 7000)]
        port: u16,
    },
    /// Open new connections at a steady rate, whatever happens to the earlier ones (open loop)
    New {
        /// host:port
        #[arg(long)]
        to: String,
        /// Connections per second
        #[arg(long, default_value_t = 200)]
        rate: u32,
        /// How long
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Text to send in every request, to be looked for on the wire
        #[arg(long, default_value = "")]
        marker: String,
    },
    /// Keep connections open and exchange a byte on each now and then; count those that die
    Hold {
        /// host:port
        #[arg(long)]
        to: String,
        /// How many
        #[arg(long, default_value_t = 100)]
        connections: usize,
        /// How long
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// Request and response in turn on each of several connections (closed loop)
    Rr {
        /// host:port
        #[arg(long)]
        to: String,
        /// How many
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// Bytes each way
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// How long
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Connect, one request, one response, the server closes; one after the other on each of several threads of work
    Crr {
        /// host:port
        #[arg(long)]
        to: String,
        /// How many at a time
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// How long
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Push bytes as fast as they go
    Bulk {
        /// host:port
        #[arg(long)]
        to: String,
        /// Flows at a time
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// How long
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Send requests at a steady rate, whatever becomes of the earlier ones (open loop); count those that fail
    Ask {
        /// host:port
        #[arg(long)]
        to: String,
        /// Host header; that of --to unless given
        #[arg(long)]
        host: Option<String>,
        /// Path and query
        #[arg(long, default_value = "/")]
        target: String,
        /// Requests per second
        #[arg(long, default_value_t = 500)]
        rate: u32,
        /// How long
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Text in the head of an answer, in lower case: when it is first there, and last not, is told
        #[arg(long, default_value = "")]
        mark: String,
    },
    /// Relay every connection on PORT to an address: the plain relay that benches compare with
    Relay {
        /// Address to listen on
        #[arg(long)]
        listen: SocketAddr,
        /// Where to
        #[arg(long)]
        to: SocketAddr,
    },
}

/// What the clients print.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Connections or requests that ended well.
    pub ok: u64,
    /// Those that did not.
    pub failed: u64,
    /// Texts of failures, with counts, at most a few.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// Requests that went on a new connection because the one they had was closed already.
    pub retried: u64,
    /// When the first answer with the mark came, milliseconds since 1970.
    pub first_marked_at_ms: f64,
    /// When the last answer without the mark came.
    pub last_unmarked_at_ms: f64,
    /// Longest time between two successes, milliseconds.
    pub longest_gap_ms: f64,
    /// When the last success ended, milliseconds since 1970.
    pub last_success_at_ms: f64,
    /// Per second of the run.
    pub rate: f64,
    /// Bytes moved (bulk).
    pub bytes: u64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Length of the run, seconds.
    pub seconds: f64,
}

/// Runs a command to its end and prints its outcome.
pub fn run(command: Command) -> anyhow::Result<()> {
    if let Command::Relay { listen, to } = command {
        return crate::relay::run(listen, to).context("relay");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve { port } => serve::serve(port).await.map(|()| Outcome::default()),
            Command::New {
                to,
                rate,
                seconds,
                marker,
            } => open::new_connections(&to, rate, seconds, &marker).await,
            Command::Hold {
                to,
                connections,
                seconds,
            } => open::hold(&to, connections, seconds).await,
            Command::Rr {
                to,
                connections,
                size,
                seconds,
            } => closed::request_response(&to, connections, size, seconds).await,
            Command::Crr {
                to,
                connections,
                seconds,
            } => closed::connect_request_close(&to, connections, seconds).await,
            Command::Bulk {
                to,
                connections,
                seconds,
            } => closed::bulk(&to, connections, seconds).await,
            Command::Ask {
                to,
                host,
                target,
                rate,
                seconds,
                mark,
            } => {
                let asking = ask::Asking {
                    host: host.unwrap_or_else(|| to.clone()),
                    to,
                    target,
                    rate,
                    seconds,
                    mark,
                };
                ask::ask(&asking).await
            }
            Command::Relay { .. } => Ok(Outcome::default()),
        }
    })?;
    print_line(&serde_json::to_string(&outcome)?)
}

/// One line to standard output; a closed pipe is an error like any other.
fn print_line(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").context("printing the outcome")
}
