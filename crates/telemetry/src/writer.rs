//! The one thread that writes log lines.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

use crate::access::AccessRecord;
use crate::limits::{LOG_FLUSH, LOG_GATHER, LOG_QUEUE};
use crate::registry::Registry;
use crate::request_log::RequestRecord;

static SENDER: OnceLock<SyncSender<Line>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What waits to be written.
pub(crate) enum Line {
    /// Complete, with its line feed.
    Text(String),
    /// Formatted by the writer.
    Access(Box<AccessRecord>),
    /// Formatted by the writer, in the record's own format.
    Request(Box<RequestRecord>),
    /// Everything before this is written when the other end is dropped.
    Flush(SyncSender<()>),
}

/// Starts the writer thread; false when it runs already or cannot start.
pub(crate) fn start(json: bool) -> bool {
    let (sender, receiver) = sync_channel(LOG_QUEUE);
    if SENDER.set(sender).is_err() {
        return false;
    }
    std::thread::Builder::new()
        .name("log".to_owned())
        .stack_size(128 << 10)
        .spawn(move || run(&receiver, json))
        .is_ok()
}

/// Hands a line over, or drops and counts it. Never blocks.
pub(crate) fn send(line: Line) {
    let sent = SENDER.get().is_some_and(|s| s.try_send(line).is_ok());
    if !sent {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until everything so far is written, within [`LOG_FLUSH`].
pub(crate) fn flush() {
    let Some(sender) = SENDER.get() else { return };
    let (done, waiting) = sync_channel(1);
    let deadline = Instant::now() + LOG_FLUSH;
    let mut line = Line::Flush(done);
    while let Err(std::sync::mpsc::TrySendError::Full(back)) = sender.try_send(line) {
        if Instant::now() > deadline {
            return;
        }
        line = back;
        std::thread::yield_now();
    }
    match waiting.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
    }
}

/// Counts dropped lines in `registry`.
pub(crate) fn register(registry: &Registry) {
    registry.collector(|out| {
        let name = "tulle_log_lines_dropped";
        out.describe(
            name,
            "counter",
            "Log lines dropped because standard output was slow",
        );
        out.sample(name, "_total", &[], DROPPED.load(Ordering::Relaxed) as f64);
    });
}

fn run(lines: &Receiver<Line>, json: bool) {
    let mut batch = String::new();
    while let Ok(first) = lines.recv() {
        let mut flushed = Vec::new();
        take(first, json, &mut batch, &mut flushed);
        if flushed.is_empty() {
            std::thread::sleep(LOG_GATHER);
        }
        loop {
            match lines.try_recv() {
                Ok(line) => take(line, json, &mut batch, &mut flushed),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            if batch.len() >= WRITE_AT_ONCE {
                write(&mut batch);
            }
        }
        write(&mut batch);
        drop(flushed);
    }
}

/// Bytes after which a batch is written, complete or not.
const WRITE_AT_ONCE: usize = 32 << 10;

fn take(line: Line, json: bool, batch: &mut String, flushed: &mut Vec<SyncSender<()>>) {
    match line {
        Line::Text(text) => batch.push_str(&text),
        // Writing to a String cannot fail.
        Line::Access(record) if json => drop(record.write_json(batch)),
        Line::Access(record) => drop(record.write_text(batch)),
        Line::Request(record) => drop(record.write_line(batch)),
        Line::Flush(done) => flushed.push(done),
    }
}

fn write(batch: &mut String) {
    if !batch.is_empty() {
        let mut out = std::io::stdout().lock();
        // Nobody is left to tell when standard output is gone.
        drop(out.write_all(batch.as_bytes()).and_then(|()| out.flush()));
        batch.clear();
        batch.shrink_to(2 * WRITE_AT_ONCE);
    }
}
