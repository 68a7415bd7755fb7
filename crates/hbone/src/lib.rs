//! HBONE tunnels: client pool and server over HTTP/2 CONNECT in mTLS.

pub mod client;
mod connect;
mod error;
mod limits;
pub mod pool;
pub mod relay;
pub mod server;
mod settings;

pub use client::{Opened, Tunnel};
pub use connect::Connect;
pub use error::{Error, OpenError};
pub use pool::{Pool, PoolError};
pub use relay::{Counters, EndReason, RelayEnd, StopReason};
pub use settings::Settings;

/// One open connection inside a tunnel. Dropped without being relayed, it is reset.
pub struct Stream {}
