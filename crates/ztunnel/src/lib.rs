//! The node proxy: inbound, outbound and passthrough.
//!
//! Two processes: a keeper ([`main_keeper`]) that holds the sockets, and the worker process ([`run`]) that does everything
//! else. In the worker process, the main thread talks to the control plane and to the node agent; data runs on worker
//! threads that share nothing but immutable snapshots. One connection's life is one function: [`outbound`], [`inbound`]
//! and [`inbound_plain`] hold one each.

mod admin;
mod bypass;
mod connections;
mod dial;
mod discovery;
mod dns;
mod error;
#[cfg(test)]
mod fixtures;
#[doc(hidden)]
pub mod fuzz;
mod inbound;
mod inbound_plain;
pub mod limits;
mod options;
mod outbound;
mod pod;
mod pods;
mod process;
mod report;
mod sealed;
mod signal;
mod state;
mod worker;
mod zds;

use std::ffi::OsString;
use std::path::PathBuf;

use tulle_api::contract::{PORT_DNS, PORT_HBONE, PORT_INBOUND_PLAIN, PORT_OUTBOUND};

pub use error::Error;
pub use options::Options;
pub use process::run;

/// The keeper: runs `program arguments` as the worker process until it ends in order, and returns the exit code for this
/// process. The worker is expected to call [`run`].
pub fn main_keeper(program: impl Into<PathBuf>, arguments: Vec<OsString>) -> Result<u8, Error> {
    let start = tulle_daemon::keeper::Start {
        program: program.into(),
        arguments,
    };
    Ok(tulle_daemon::keeper::run(&start)?)
}

/// Whether a port is the proxy's own in every pod: nobody may be led there.
fn is_own_port(port: u16) -> bool {
    [PORT_OUTBOUND, PORT_INBOUND_PLAIN, PORT_HBONE, PORT_DNS].contains(&port)
}
