//! A small test runner for walks: cases in the order in which a newcomer meets them, on one playground.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// One case of a walk.
pub struct Case<S> {
    /// Shown, and matched by filters.
    pub name: &'static str,
    /// What it does; fails with a reason.
    pub run: fn(&S) -> anyhow::Result<()>,
}

/// Runs all cases whose name contains one of the filters (all, when there is none); writes a line each and a closing
/// line. `after_failure` is told of each failure, to print what helps to understand it.
pub fn run<S>(
    stage: &S,
    cases: &[Case<S>],
    filters: &[String],
    out: &mut dyn Write,
    after_failure: fn(&S),
) -> bool {
    // Nobody may listen any more; the outcome is in the exit code too.
    let mut say = |line: &str| {
        let _ = writeln!(out, "{line}");
    };
    let (mut passed, mut failed) = (0, Vec::new());
    for case in cases {
        if !filters.is_empty() && !filters.iter().any(|f| case.name.contains(f.as_str())) {
            continue;
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(stage)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("panicked")));
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                passed += 1;
                say(&format!("ok      {:<60} {took:6.1} s", case.name));
            }
            Err(error) => {
                say(&format!(
                    "FAILED  {:<60} {took:6.1} s\n        {error:#}",
                    case.name
                ));
                after_failure(stage);
                failed.push(case.name);
            }
        }
    }
    if !failed.is_empty() {
        say(&format!("failures: {}", failed.join(", ")));
    }
    say(&format!("{passed} passed, {} failed", failed.len()));
    failed.is_empty() && passed > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [Case<()>; 3] = [
        Case {
            name: "a: fine",
            run: |_| Ok(()),
        },
        Case {
            name: "b: fails",
            run: |_| anyhow::bail!("for a reason"),
        },
        Case {
            name: "c: panics",
            run: |_| panic!("at once"),
        },
    ];

    #[test]
    fn failures_and_panics_fail_the_suite() {
        let mut out = Vec::new();
        assert!(!run(&(), &CASES, &[], &mut out, |_| ()));
        assert!(out.ends_with(b"failures: b: fails, c: panics\n1 passed, 2 failed\n"));
        assert!(run(&(), &CASES, &["fine".into()], &mut out, |_| ()));
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert!(!run(
            &(),
            &CASES,
            &["no such case".into()],
            &mut Vec::new(),
            |_| ()
        ));
    }
}
