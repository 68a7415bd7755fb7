//! What the user sees while a playground starts: one line for each step, with the time it took.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a step that reports numbers shows them when the output is not a terminal.
const QUIET_REPORT: Duration = Duration::from_secs(15);

/// Where progress goes.
#[derive(Debug)]
pub struct Progress {
    output: Output,
    step: Option<Step>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Output {
    Silent,
    Lines,
    Terminal,
}

#[derive(Debug)]
struct Step {
    what: String,
    since: Instant,
    reported: Instant,
}

impl Progress {
    /// Says nothing.
    pub fn silent() -> Self {
        Progress {
            output: Output::Silent,
            step: None,
        }
    }

    /// Lines on standard error; on a terminal with colours and a line that changes while a step runs.
    pub fn stderr() -> Self {
        let output = if stderr().is_terminal() {
            Output::Terminal
        } else {
            Output::Lines
        };
        Progress { output, step: None }
    }

    /// Runs one step and prints what it was and how long it took.
    pub fn step<T>(
        &mut self,
        what: &str,
        run: impl FnOnce(&mut Progress) -> Result<T>,
    ) -> Result<T> {
        let now = Instant::now();
        let outer = self.step.replace(Step {
            what: what.to_owned(),
            since: now,
            reported: now,
        });
        self.draw("");
        let result = run(self);
        self.finish(result.is_ok());
        self.step = outer;
        result
    }

    /// Tells how far the running step is, such as "820 of 1,610 packages". Cheap to call often.
    pub fn report(&mut self, how_far: &str) {
        if let (Output::Lines, Some(step)) = (self.output, &mut self.step) {
            if step.reported.elapsed() < QUIET_REPORT {
                return;
            }
            step.reported = Instant::now();
            let line = format!(
                "{} ... {how_far} ({:.0} s)\n",
                step.what,
                step.since.elapsed().as_secs_f32()
            );
            print(&line);
        } else {
            self.draw(how_far);
        }
    }

    /// A line of its own.
    pub fn say(&mut self, line: &str) {
        match self.output {
            Output::Silent => {}
            Output::Lines => print(&format!("{line}\n")),
            Output::Terminal => print(&format!("\r\x1b[K{line}\n")),
        }
    }

    fn draw(&self, how_far: &str) {
        if let (Output::Terminal, Some(step)) = (self.output, &self.step) {
            print(&format!(
                "\r\x1b[K  {} ... \x1b[2m{how_far}\x1b[0m",
                step.what
            ));
        }
    }

    fn finish(&mut self, good: bool) {
        let Some(step) = &self.step else { return };
        let seconds = step.since.elapsed().as_secs_f32();
        let line = match (self.output, good) {
            (Output::Silent, _) => return,
            (Output::Lines, true) => format!("{} ... {seconds:.1} s\n", step.what),
            (Output::Lines, false) => format!("{} ... failed after {seconds:.1} s\n", step.what),
            (Output::Terminal, true) => {
                format!(
                    "\r\x1b[K\x1b[32m✓\x1b[0m {} \x1b[2m{seconds:.1} s\x1b[0m\n",
                    step.what
                )
            }
            (Output::Terminal, false) => {
                format!(
                    "\r\x1b[K\x1b[31m✗\x1b[0m {} \x1b[2mfailed after {seconds:.1} s\x1b[0m\n",
                    step.what
                )
            }
        };
        print(&line);
    }
}

/// Standard error may be closed; a playground starts all the same.
fn print(text: &str) {
    let mut output = stderr().lock();
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}
