//! What every long-running part is made of: worker threads, signals, drain, readiness, admin pages, and the keeper that
//! holds sockets while a worker process is restarted.

pub mod admin;
mod drain;
pub mod keeper;
pub mod limits;
mod readiness;
mod settle;
mod signals;
mod workers;

pub use drain::{Drain, DrainTrigger, drain};
pub use readiness::{Condition, Readiness};
pub use settle::settle;
pub use signals::Signals;
pub use workers::{WorkerEnd, Workers};
