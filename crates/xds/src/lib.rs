//! Delta discovery and the certificate service: client and server state machines.
//!
//! [`client`] keeps a proxy's knowledge equal to the control plane's; [`ca`] fetches certificates on behalf of workloads;
//! [`server`] is the other end of both. gRPC and its HTTP/2 stay inside: nothing of them is in the public face.

pub mod ca;
pub mod client;
pub mod endpoint;
#[doc(hidden)]
pub mod fuzz;
pub mod limits;
pub mod node;
pub mod server;
mod wire;

pub use tulle_identity::BoxFuture;
