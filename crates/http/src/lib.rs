//! Requests: a server for any byte stream ([`server`]), upstream connections by key ([`upstream`]), bodies ([`body`]), and the
//! rules of the protocol ([`rules`], [`forward`], [`grpc`], [`upgrade`]).
//!
//! Told top-down: [`server::serve`] speaks HTTP/1.1 or HTTP/2, whichever the client begins with, and calls a handler with each
//! [`Request`] that kept the rules; the handler answers, mostly with what [`upstream::Pool::send`] brought. Nothing here is
//! `Send`: a connection lives and dies on one worker, without locks.

mod flag;
mod limits;

pub use flag::Flag;
