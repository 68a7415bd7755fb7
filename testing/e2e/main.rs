//! The walks of README and docs/ as tests, driven by kubectl on a playground of their own: real Kubernetes, two nodes.
//!
//! `e2e [--keep] [FILTER...]`: cases whose name contains a filter. TULLE_BIN and TULLE_CNI name the programs to install.

mod canary;
mod certificates;
mod egress;
mod lifecycle;
mod proof;
mod reach;
mod refusals;
mod stage;
mod steady;
mod table;
mod uninstall;
mod walk;
mod waypoint;

use std::process::ExitCode;

use stage::Stage;
use tulle_testing::suite;

fn main() -> ExitCode {
    let mut filters: Vec<String> = std::env::args().skip(1).collect();
    let keep = filters.iter().any(|f| f == "--keep");
    filters.retain(|f| !f.starts_with("--"));
    if std::env::var_os("TULLE_BIN").is_none() {
        eprintln!(
            "skipped: the walks need TULLE_BIN, TULLE_CNI and LOAD_BIN; `make test` sets them"
        );
        return ExitCode::SUCCESS;
    }
    let stage = match Stage::up() {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("error: the playground did not come up: {error:#}\n0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let groups = [
        walk::CASES,
        lifecycle::CASES,
        reach::CASES,
        refusals::CASES,
        steady::CASES,
        proof::CASES,
        waypoint::CASES,
        canary::CASES,
        egress::CASES,
        uninstall::CASES,
    ];
    let cases: Vec<_> = groups
        .into_iter()
        .flatten()
        .map(|c| suite::Case {
            name: c.name,
            run: c.run,
        })
        .collect();
    let passed = suite::run(
        &stage,
        &cases,
        &filters,
        &mut std::io::stdout(),
        Stage::explain,
    );
    if keep {
        stage.keep();
    }
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
