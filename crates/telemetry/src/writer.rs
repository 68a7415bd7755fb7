//! The one thread that writes log lines.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};

use crate::access::AccessRecord;
use crate::limits::{LOG_FLUSH, LOG_GATHER, LOG_QUEUE};
use crate::registry::Registry;
use crate::request_log::RequestRecord;

/// Bounded by [`WAITING`]: a channel with a bound of its own takes the memory of all its places at once.
static SENDER: OnceLock<Sender<Line>> = OnceLock::new();
/// Lines in the channel.
static WAITING: AtomicUsize = AtomicUsize::new(0);
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
    let (sender, receiver) = channel();
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
    let sender = SENDER.get();
    if !sender.is_some_and(|sender| offer(sender, &WAITING, line)) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// False when as many wait as may, or nobody takes them.
fn offer<T>(sender: &Sender<T>, waiting: &AtomicUsize, what: T) -> bool {
    let room = waiting.fetch_add(1, Ordering::Relaxed) < LOG_QUEUE;
    let sent = room && sender.send(what).is_ok();
    if !sent {
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
    sent
}

/// Waits until everything so far is written, within [`LOG_FLUSH`].
pub(crate) fn flush() {
    let Some(sender) = SENDER.get() else { return };
    let (done, waiting) = sync_channel(1);
    // However many wait: this is no line. Without a writer there is nothing to wait for.
    WAITING.fetch_add(1, Ordering::Relaxed);
    if sender.send(Line::Flush(done)).is_err() {
        return;
    }
    match waiting.recv_timeout(LOG_FLUSH) {
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
        while let Ok(line) = lines.try_recv() {
            take(line, json, &mut batch, &mut flushed);
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
    WAITING.fetch_sub(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_wait_than_may() {
        let (sender, receiver) = channel();
        let waiting = AtomicUsize::new(0);
        let sent = (0..LOG_QUEUE + 3).filter(|n| offer(&sender, &waiting, *n));
        assert_eq!(sent.count(), LOG_QUEUE);
        assert_eq!(waiting.load(Ordering::Relaxed), LOG_QUEUE);
        assert_eq!(receiver.recv(), Ok(0));
        waiting.fetch_sub(1, Ordering::Relaxed);
        assert!(offer(&sender, &waiting, 0) && !offer(&sender, &waiting, 0));
        drop(receiver);
        waiting.store(0, Ordering::Relaxed);
        assert!(!offer(&sender, &waiting, 0), "nobody takes it");
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
