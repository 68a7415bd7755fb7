//! How the program ends: what is said, and with which code.

use std::process::ExitCode;

use tulle_install::SetError;

use crate::output::{Style, Terminal};

/// Something failed.
pub(crate) const FAILURE: u8 = 1;
/// The command was not understood.
pub(crate) const USAGE: Code = Code(2);
/// Nothing was refused, but it was not ready in time.
pub(crate) const NOT_READY: u8 = 3;
/// Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// An exit code with a name.
#[derive(Clone, Copy)]
pub(crate) struct Code(pub(crate) u8);

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code.0)
    }
}

/// The user pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error(
    "interrupted. What was done so far stays done; the same command again goes on from there, and `tulle status` shows where it stands"
)]
pub(crate) struct Interrupted;

/// A command that is understood but does not make sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Says what failed and gives the code.
pub(crate) fn report(error: &anyhow::Error, terminal: &Terminal) -> ExitCode {
    if broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    terminal.error_line(&format!(
        "{} {error:#}",
        terminal.paint(Style::Bad, "error:")
    ));
    ExitCode::from(code(error))
}

/// Whoever reads our output has seen enough (`| head`).
fn broken_pipe(error: &anyhow::Error) -> bool {
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

pub(crate) fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Interrupted>() {
        return INTERRUPTED;
    }
    if error.is::<Usage>() || error.is::<SetError>() {
        return USAGE.0;
    }
    if let Some(error) = error.downcast_ref::<tulle_install::Error>() {
        return match error {
            tulle_install::Error::Values(_) => USAGE.0,
            error if error.is_deadline() => NOT_READY,
            _ => FAILURE,
        };
    }
    match error.downcast_ref::<tulle_cluster::Error>() {
        Some(tulle_cluster::Error::Deadline { .. }) => NOT_READY,
        _ => FAILURE,
    }
}
