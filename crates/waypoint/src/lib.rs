//! The L7 proxy: waypoint, ingress and egress gateway.
//!
//! The main thread talks to the control plane; data runs on worker threads that share nothing but immutable snapshots
//! ([`state`]). A tunnel's I/O stays on the worker that accepted it ([`inbound`]); each connection inside of it goes to the
//! least busy worker ([`board`]) and lives there ([`connection`]): a connection of bytes in [`stream`], requests in
//! [`pipeline`], which is one explicit, ordered list.

mod admin;
mod authority;
mod authorize;
mod board;
mod call;
mod canonical;
mod check;
mod connection;
mod destination;
mod dial;
mod discovery;
mod error;
mod exchange;
mod failure;
mod fetch;
mod forward;
mod headers;
mod inbound;
mod io;
mod keyring;
pub mod limits;
mod listener;
mod mirror;
mod observe;
mod options;
mod otlp;
mod pipeline;
mod process;
mod rate;
mod replicas;
mod reply;
mod requests;
mod sniff;
mod state;
mod stream;
mod tokens;
mod trace;
mod upstream;
mod watch;
mod worker;

pub use error::Error;
pub use options::Options;
pub use process::run;
