//! `tulle run …`: the parts of the mesh, each with its own runtime and nothing of the command line's.

use std::fmt::Display;
use std::process::ExitCode;

use tulle_telemetry::{flush_logs, init_logging};

use crate::cli::RunCommand;
use crate::exit;

/// Runs one part until it is asked to end.
pub(crate) fn run(part: &RunCommand) -> ExitCode {
    match part {
        RunCommand::ControlPlane => control_plane(),
        RunCommand::NodeAgent => node_agent(),
        RunCommand::Ztunnel { worker: false } => ztunnel_keeper(),
        RunCommand::Ztunnel { worker: true } => ztunnel(),
        RunCommand::Waypoint => waypoint(),
    }
}

fn control_plane() -> ExitCode {
    init_logging("pilot");
    let variable = |name: &str| std::env::var(name).ok();
    let options = match tulle_control_plane::Options::from_env(variable) {
        Ok(options) => options,
        Err(error) => return failed("control plane", exit::USAGE.0, &error),
    };
    ended("control plane", tulle_control_plane::run(options))
}

fn node_agent() -> ExitCode {
    init_logging("node_agent");
    let options = match tulle_node_agent::Options::from_env() {
        Ok(options) => options,
        Err(error) => return failed("node agent", exit::USAGE.0, &error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(NODE_AGENT_BLOCKING_THREADS)
        .build();
    match runtime {
        Ok(runtime) => ended(
            "node agent",
            runtime.block_on(tulle_node_agent::run(options)),
        ),
        Err(error) => failed("node agent", exit::FAILURE, &error),
    }
}

/// Threads that enter network namespaces and run `nft` for the node agent.
const NODE_AGENT_BLOCKING_THREADS: usize = 8;

/// The parent that outlives its worker. It stays small: it knows nothing of what it holds.
fn ztunnel_keeper() -> ExitCode {
    init_logging("ztunnel");
    let worker = ["run", "ztunnel", "--worker"].map(Into::into).into();
    // The program itself, also when its file has been replaced or renamed meanwhile.
    match tulle_ztunnel::main_keeper("/proc/self/exe", worker) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed("ztunnel", exit::FAILURE, &error),
    }
}

fn ztunnel() -> ExitCode {
    init_logging("ztunnel");
    let options = match tulle_ztunnel::Options::from_env() {
        Ok(options) => options,
        Err(error) => return failed("ztunnel", exit::USAGE.0, &error),
    };
    ended("ztunnel", tulle_ztunnel::run(options))
}

fn waypoint() -> ExitCode {
    init_logging("waypoint");
    let options = match tulle_waypoint::Options::from_env() {
        Ok(options) => options,
        Err(error) => return failed("waypoint", exit::USAGE.0, &error),
    };
    ended("waypoint", tulle_waypoint::run(options))
}

fn ended(part: &'static str, outcome: Result<(), impl Display>) -> ExitCode {
    match outcome {
        Ok(()) => {
            flush_logs();
            ExitCode::SUCCESS
        }
        Err(error) => failed(part, exit::FAILURE, &error),
    }
}

/// The last line of a part's log says why it ended.
fn failed(part: &'static str, code: u8, error: &dyn Display) -> ExitCode {
    tracing::error!("{part}: {error}");
    flush_logs();
    ExitCode::from(code)
}
