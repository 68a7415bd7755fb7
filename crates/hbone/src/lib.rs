//! HBONE tunnels: client pool and server over HTTP/2 CONNECT in mTLS.
//!
//! Told top-down: [`pool`] hands out streams of [`client`] tunnels, [`server`] takes those that peers open; a [`Stream`] is then
//! relayed ([`relay`]) between the tunnel and an application, used as a byte stream on this worker ([`Local`]) or on another one
//! ([`Remote`]). Underneath, a tunnel (`tunnel`) is one socket, one driver task
//! and an HTTP/2 codec for CONNECT alone (`frame`, `hpack`, `flow`), which seals into and opens from the same buffers that are
//! written and read. Nothing here is `Send` but [`Remote`]: a tunnel lives and dies on one worker, without locks.

pub mod client;
mod connect;
mod error;
mod flood;
mod flow;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod hpack;
mod limits;
mod local;
pub mod pool;
pub mod relay;
mod remote;
pub mod server;
mod settings;
mod socket;
mod stream;
mod transport;
mod tunnel;
mod writer;

pub use client::{Opened, Tunnel};
pub use connect::Connect;
pub use error::{Error, OpenError};
pub use local::Local;
pub use pool::{Pool, PoolError};
pub use relay::{Counters, EndReason, RelayEnd, StopReason};
pub use remote::Remote;
pub use settings::Settings;
pub use stream::Stream;
