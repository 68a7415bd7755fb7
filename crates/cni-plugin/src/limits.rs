//! Every bound of this program, each named once.

use std::time::Duration;

/// Longest configuration accepted on standard input.
pub(crate) const CONFIGURATION: u64 = 1 << 20;
/// Longest message to and from the node agent.
pub(crate) const MESSAGE: u32 = 64 * 1024;
/// How long ADD waits for the node agent's socket to be there: a restart of the agent.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts to connect.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// How long ADD may take in all; container runtimes give up after about two minutes.
pub(crate) const ADD_DEADLINE: Duration = Duration::from_secs(30);
/// How long DEL tries to tell the node agent; it never fails.
pub(crate) const DEL_DEADLINE: Duration = Duration::from_secs(2);
