//! The walks of README and docs/ as tests, driven by kubectl on a playground of their own: real Kubernetes, two nodes.
//!
//! `e2e [--keep] [FILTER...]`: cases whose name contains a filter. TULLE_BIN and TULLE_CNI name the programs to install.

mod authorization;
mod badinput;
mod broken;
mod canary;
mod certificates;
mod egress;
mod enforced;
mod features;
mod gateway;
mod lifecycle;
mod proof;
mod proxies;
mod ratelimit;
mod reach;
mod refusals;
mod requests;
mod stage;
mod steady;
mod table;
mod telemetry;
mod uninstall;
mod walk;
mod waypoint;
mod waypoint_steady;

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
        badinput::CASES,
        steady::CASES,
        proof::CASES,
        waypoint::CASES,
        authorization::CASES,
        telemetry::CASES,
        egress::CASES,
        canary::CASES,
        gateway::CASES,
        features::CASES,
        ratelimit::CASES,
        enforced::CASES,
        broken::CASES,
        waypoint_steady::CASES,
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
