//! A small parent that outlives its worker.
//!
//! The parent starts the worker with a SEQPACKET socket as its standard input. The worker puts descriptors there
//! (listeners, network namespaces, sealed memory) under keys; when it dies, the parent starts another one at once and
//! hands everything back, so that connections that wait in the listeners' queues are served by the successor.

mod client;
mod parent;
mod protocol;

pub use client::{Client, ClientError, Restored};
pub use parent::{KeeperError, Start, run};

#[cfg(test)]
mod tests;
