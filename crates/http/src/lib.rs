//! Requests: a server for any byte stream ([`server`]), upstream connections by key ([`upstream`]), bodies ([`body`]), and the
//! rules of the protocol ([`rules`], [`forward`], [`grpc`], [`upgrade`]).
//!
//! Told top-down: [`server::serve`] speaks HTTP/1.1 or HTTP/2, whichever the client begins with, and calls a handler with each
//! [`Request`] that kept the rules; the handler answers, mostly with what [`upstream::Pool::send`] brought. Nothing here is
//! `Send`: a connection lives and dies on one worker, without locks.

pub mod body;
mod flag;
pub mod forward;
#[doc(hidden)]
pub mod fuzz;
mod gate;
pub mod grpc;
mod io;
pub mod limits;
pub mod rules;
pub mod server;
pub mod upgrade;
pub mod upstream;

pub use body::Body;
pub use flag::Flag;
pub use io::{BoxIo, Io, Unsent};
pub use server::Request;
pub use upgrade::{Upgrade, Upgraded};

/// What a handler answers.
pub type Response = ::http::Response<Body>;
