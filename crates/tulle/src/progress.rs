//! Showing the steps of an installation or removal on standard error.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use tulle_install::{Event, Progress};

use crate::limits::LINE_LENGTH;
use crate::output::{Style, Terminal};

/// One line per finished step; on a terminal, also a line that is rewritten while a step goes on.
pub(crate) struct Steps {
    terminal: Terminal,
    /// The step that goes on, on a terminal.
    open: Mutex<Option<String>>,
}

impl Steps {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Steps {
            terminal,
            open: Mutex::default(),
        }
    }

    /// Replaces the line that is being rewritten; an empty text takes it away.
    fn rewrite(&self, text: &str) {
        if self.terminal.lively {
            let line: String = text.chars().take(LINE_LENGTH).collect();
            let mut error = std::io::stderr().lock();
            let _ = write!(error, "\r\x1b[K{line}");
            let _ = error.flush();
        }
    }

    fn line(&self, text: &str) {
        self.rewrite("");
        self.terminal.error_line(text);
    }
}

impl Progress for Steps {
    fn event(&self, event: Event) {
        let mut open = self
            .open
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match event {
            Event::Step(step) => {
                self.rewrite(&format!("· {step} ..."));
                *open = Some(step);
            }
            Event::Done { step, took } => {
                let mark = self.terminal.paint(Style::Good, "✔");
                let took = self
                    .terminal
                    .paint(Style::Dim, &format!("({})", seconds(took)));
                self.line(&format!("{mark} {step} {took}"));
                *open = None;
            }
            Event::Waiting(seen) if self.terminal.lively => {
                let step = open.as_deref().unwrap_or_default();
                self.rewrite(&format!("· {step} ... {}", seen.replace('\n', "; ")));
            }
            Event::Waiting(seen) => {
                for line in seen.lines() {
                    self.line(&format!("  waiting: {line}"));
                }
            }
            Event::Note(note) => {
                let mark = self.terminal.paint(Style::Warn, "!");
                self.line(&format!("{mark} {note}"));
            }
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        // An error or Ctrl-C in the middle of a step: the message starts on a clean line.
        self.rewrite("");
    }
}

/// "0.3 s", "12.0 s", "2 min 5 s".
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(60) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}
