//! `networking.istio.io`: how traffic reaches what it is meant for.

mod destination_rule;
mod entry;
mod envoy_filter;
mod gateway;
mod virtual_service;

pub use destination_rule::*;
pub use entry::*;
pub use envoy_filter::*;
pub use gateway::*;
pub use virtual_service::*;
