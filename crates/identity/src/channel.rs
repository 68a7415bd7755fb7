//! The TLS channel of a tunnel: rustls shakes hands, then the tunnel owns the record layer.
//!
//! After the handshake the traffic secrets move into a record layer of our own, because the caller's buffers are the
//! point: application bytes are read from a socket straight into the place where they are sealed, and records are
//! opened where they were received. Keys keep coming from rustls (key updates through its `KernelConnection`), the
//! cipher is the same AWS-LC. TLS 1.3 only.
//!
//! [`client`] and [`server`] shake hands on a socket; [`Channel`] then works on byte slices, without any I/O.

mod handshake;
mod record;
#[cfg(test)]
mod tests;

pub use handshake::{Established, HandshakeError, client, server};
pub use record::{
    Channel, HEADER, KEY_UPDATE_RECORD, MAX_PLAINTEXT, MAX_RECORD, OVERHEAD, Opened, RecordError,
    TRAILER,
};
