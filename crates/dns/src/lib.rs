//! In-mesh names, forwarding of all others, and resolving on demand.
//!
//! Told top-down: a [`Server`] takes the queries of one pod. What a query asks is a pure look-up over the mesh (`names`); what the
//! mesh does not know goes on, as it is, to the resolvers ([`forward`]). [`Lookup`] is the other direction: the proxy's own question for
//! the address of a workload that has only a name. Nothing here opens sockets in a pod: who uses the crate says how ([`Network`]).

mod error;
pub mod forward;
#[doc(hidden)]
pub mod fuzz;
pub mod limits;
mod lookup;
mod message;
mod metrics;
mod names;
mod network;
mod server;

pub use error::{ForwardError, LookupError};
pub use forward::Resolvers;
pub use lookup::Lookup;
pub use metrics::Metrics;
pub use names::Zone;
pub use network::{Network, OwnNetwork, Transport};
pub use server::{Client, Server};

#[cfg(test)]
mod tests;
